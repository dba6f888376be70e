package catalog

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// defaultGatewayPort is the port of a gateway that names none, as with `consul connect envoy`.
const defaultGatewayPort = 8443

// Gateway is a gateway to register.
type Gateway struct {
	// Kind is "mesh", "terminating", "ingress" or "api".
	Kind string
	// Service is its name, ID its instance's; "" means Kind + "-gateway" for
	// the name and the name for the ID.
	Service, ID string
	// Address is "host:port" where other workloads reach it, WAN where those of
	// other datacenters do; without a port it is 8443. "" means that there is none.
	Address, WAN string
	// Bind are the addresses to listen at, by name, in place of Address and WAN.
	Bind map[string]string
	// ExposeServers lets other datacenters reach the Consul servers through it.
	ExposeServers bool
	// DeregisterAfter is how long it may be critical before Consul forgets it, "6h"
	// for example; "" means that.
	DeregisterAfter string
}

// FindGateway returns the one gateway of that kind that is registered with the
// agent, or the one with the given ID.
func FindGateway(ctx context.Context, client *api.Client, g Gateway) (*Proxy, error) {
	kind := api.ServiceKind(g.Kind + "-gateway")
	services, err := client.Agent().ServicesWithFilterOpts(fmt.Sprintf("Kind == %q", kind), (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("list gateways of the agent: %w", Explain(err))
	}
	var found []string
	var proxy *Proxy
	for _, s := range services {
		if (g.ID == "" || s.ID == g.ID) && (g.Service == "" || s.Service == g.Service) {
			found = append(found, s.ID)
			proxy = &Proxy{ID: s.ID, Service: s.Service, Kind: string(kind)}
		}
	}
	slices.Sort(found)
	switch len(found) {
	case 1:
		return proxy, nil
	case 0:
		return nil, fmt.Errorf("no %s is registered with this agent: register one with -register, or check -proxy-id and -service", kind)
	default:
		return nil, fmt.Errorf("this agent has several services of kind %s: choose one with -proxy-id: %s", kind, strings.Join(found, ", "))
	}
}

// RegisterGateway registers a gateway with the agent, with a TCP check.
func RegisterGateway(ctx context.Context, client *api.Client, g Gateway) (*Proxy, error) {
	registration, err := g.registration()
	if err != nil {
		return nil, err
	}
	if err := client.Agent().ServiceRegisterOpts(registration, api.ServiceRegisterOpts{}.WithContext(ctx)); err != nil {
		return nil, fmt.Errorf("register %s %q: %w", registration.Kind, registration.ID, Explain(err))
	}
	return &Proxy{ID: registration.ID, Service: registration.Name, Kind: string(registration.Kind)}, nil
}

// registration is what `consul connect envoy -register` registers for the same flags.
func (g *Gateway) registration() (*api.AgentServiceRegistration, error) {
	kind := api.ServiceKind(g.Kind + "-gateway")
	r := &api.AgentServiceRegistration{
		Kind: kind, Name: cmp.Or(g.Service, string(kind)),
		TaggedAddresses: map[string]api.ServiceAddress{}, Proxy: &api.AgentServiceConnectProxyConfig{},
	}
	r.ID = cmp.Or(g.ID, r.Name)
	lan, err := serviceAddress("-address", g.Address)
	if err != nil {
		return nil, err
	}
	wan, err := serviceAddress("-wan-address", g.WAN)
	if err != nil {
		return nil, err
	}
	for tag, address := range map[string]api.ServiceAddress{"lan": lan, "wan": wan} {
		if address.Address != "" {
			r.TaggedAddresses[tag] = address
		}
	}
	r.Address, r.Port = lan.Address, lan.Port
	if g.ExposeServers {
		r.Meta = map[string]string{"consul-wan-federation": "1"}
	}
	if r.Proxy.Config, err = g.binding(lan, wan); err != nil {
		return nil, err
	}
	// An API gateway listens nowhere before somebody says where.
	if g.Kind != "api" {
		check := net.JoinHostPort(cmp.Or(lan.Address, "127.0.0.1"), strconv.Itoa(lan.Port))
		r.Check = &api.AgentServiceCheck{
			Name: string(kind) + " listening", TCP: check, Interval: "10s",
			DeregisterCriticalServiceAfter: cmp.Or(g.DeregisterAfter, "6h"),
		}
	}
	return r, nil
}

// binding is the proxy's configuration of where to listen; nil leaves it to Consul.
func (g *Gateway) binding(lan, wan api.ServiceAddress) (map[string]any, error) {
	switch {
	case len(g.Bind) > 0:
		addresses := map[string]any{}
		for _, name := range slices.Sorted(maps.Keys(g.Bind)) {
			address, err := serviceAddress("-bind-address "+name, g.Bind[name])
			if err != nil {
				return nil, err
			}
			addresses[name] = address
		}
		return map[string]any{"envoy_gateway_no_default_bind": true, "envoy_gateway_bind_addresses": addresses}, nil
	case ours(lan.Address) && ours(wan.Address):
		return map[string]any{"envoy_gateway_no_default_bind": true, "envoy_gateway_bind_tagged_addresses": true}, nil
	case lan.Address != "" && !ours(lan.Address):
		return nil, fmt.Errorf("-address %s is no address of this machine: give one that is, or say with -bind-address where to listen", lan.Address)
	default:
		return nil, nil
	}
}

// ours tells whether an address is one of this machine.
func ours(address string) bool {
	addr, err := netip.ParseAddr(address)
	if err != nil {
		return false
	}
	if addr.IsLoopback() {
		return true
	}
	all, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(all, func(a net.Addr) bool {
		prefix, err := netip.ParsePrefix(a.String())
		return err == nil && prefix.Addr().Unmap() == addr.Unmap()
	})
}

// GatewayAddress is "host:port" as -address means it; "" for a host means that there is none.
func GatewayAddress(text string) (host string, port int, err error) {
	address, err := serviceAddress("-address", text)
	return address.Address, address.Port, err
}

func serviceAddress(flag, text string) (api.ServiceAddress, error) {
	out := api.ServiceAddress{Port: defaultGatewayPort}
	if text == "" {
		return out, nil
	}
	if _, err := netip.ParseAddr(strings.Trim(text, "[]")); err == nil || !strings.Contains(text, ":") {
		out.Address = strings.Trim(text, "[]")
		return out, nil
	}
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return out, fmt.Errorf("%s %q: write it as host:port: %w", flag, text, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return out, fmt.Errorf("%s %q: the port is no number from 1 to 65535", flag, text)
	}
	out.Address, out.Port = host, int(port)
	return out, nil
}
