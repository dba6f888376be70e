package edge

import (
	"cmp"
	"fmt"
	"os"
	"slices"
	"strconv"

	"github.com/hashicorp/consul/api"
)

const (
	// ttl is how long Consul believes that the edge is well without hearing of it.
	ttl = "30s"
	// forgetAfter is when Consul drops an edge that ended without a farewell.
	forgetAfter = "10m"
	// unboundPort is registered for the edge's Connect proxy, which Consul wants
	// to have one. Nothing is ever bound to it: the edge takes no connection from
	// the mesh. It is the port of tcpmux.
	unboundPort = 1
)

// registration is what the edge is in Consul: a service, and its Connect proxy
// whose upstreams are the mesh services that routes name. It is immutable.
type registration struct {
	id, service, address string
	port                 int
	upstreams            []meshService
}

// equal tells whether r says the same as other; either may be nil.
func (r *registration) equal(other *registration) bool {
	if r == nil || other == nil {
		return r == other
	}
	return r.id == other.id && r.service == other.service && r.address == other.address && r.port == other.port &&
		slices.Equal(r.upstreams, other.upstreams)
}

// registrationOf returns nil if no route goes to the mesh: then the edge need
// not be in Consul at all.
func registrationOf(c *Config, upstreams []meshService) *registration {
	if len(upstreams) == 0 {
		return nil
	}
	r := &registration{id: instanceID(c), service: c.ServiceName(), upstreams: slices.Clone(upstreams)}
	r.port = int(c.Listeners[0].Address.Port())
	if c.AdvertiseAddress.IsValid() {
		r.address = c.AdvertiseAddress.String()
	}
	slices.SortFunc(r.upstreams, func(a, b meshService) int {
		return cmp.Or(cmp.Compare(a.Name, b.Name), cmp.Compare(a.Datacenter, b.Datacenter))
	})
	return r
}

// instanceID is stable over restarts.
func instanceID(c *Config) string {
	if c.ID != "" {
		return c.ID
	}
	host, err := os.Hostname()
	if err != nil {
		host = "localhost"
	}
	port := 0
	if len(c.Listeners) > 0 {
		port = int(c.Listeners[0].Address.Port())
	}
	return c.ServiceName() + "-" + host + "-" + strconv.Itoa(port)
}

// proxyID is the service ID of the Connect proxy, by which xDS knows the edge.
func (r *registration) proxyID() string { return r.id + "-sidecar-proxy" }

func (r *registration) proxyName() string { return r.service + "-sidecar-proxy" }

func (r *registration) checkID() string { return "serai:" + r.id }

// permission is what the token must be allowed.
func (r *registration) permission() string {
	return fmt.Sprintf("service:write on %q and %q", r.service, r.proxyName())
}

// services are the two registrations.
func (r *registration) services() []*api.AgentServiceRegistration {
	service := &api.AgentServiceRegistration{
		ID: r.id, Name: r.service, Address: r.address, Port: r.port,
		Check: &api.AgentServiceCheck{
			CheckID: r.checkID(), Name: "Serai edge serving", TTL: ttl, Status: api.HealthPassing,
			DeregisterCriticalServiceAfter: forgetAfter,
		},
	}
	proxy := &api.AgentServiceRegistration{
		Kind: api.ServiceKindConnectProxy,
		ID:   r.proxyID(), Name: r.proxyName(), Address: r.address, Port: unboundPort,
		Proxy: &api.AgentServiceConnectProxyConfig{
			DestinationServiceName: r.service, DestinationServiceID: r.id, LocalServicePort: r.port,
		},
		Check: &api.AgentServiceCheck{
			CheckID: r.checkID() + ":proxy", Name: "Serai edge", AliasService: r.id,
		},
	}
	for _, s := range r.upstreams {
		proxy.Proxy.Upstreams = append(proxy.Proxy.Upstreams, api.Upstream{
			DestinationType: api.UpstreamDestTypeService, DestinationName: s.Name, Datacenter: s.Datacenter,
			LocalBindSocketPath: s.socketPath(),
		})
	}
	return []*api.AgentServiceRegistration{service, proxy}
}
