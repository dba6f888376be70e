package catalog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"

	"github.com/hashicorp/consul/api"
)

// Proxy is a Connect proxy as it is registered with the local agent.
type Proxy struct {
	// ID of the proxy service, Service the name of the service that it stands
	// for, or of the gateway itself.
	ID, Service string
	// Kind is Consul's: "connect-proxy", "mesh-gateway", ...
	Kind string
}

// SidecarFor finds the one sidecar that is registered for a service instance.
// None and several are errors that name what there is.
func SidecarFor(ctx context.Context, client *api.Client, serviceID string) (*Proxy, error) {
	services, err := client.Agent().ServicesWithFilterOpts("", (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return nil, fmt.Errorf("list services of the agent: %w", Explain(err))
	}
	var found []string
	var proxy *Proxy
	for _, s := range services {
		if s.Kind != api.ServiceKindConnectProxy || s.Proxy == nil || !strings.EqualFold(s.Proxy.DestinationServiceID, serviceID) {
			continue
		}
		found = append(found, s.ID)
		proxy = &Proxy{ID: s.ID, Service: s.Proxy.DestinationServiceName, Kind: string(s.Kind)}
	}
	slices.Sort(found)
	switch len(found) {
	case 1:
		return proxy, nil
	case 0:
		return nil, fmt.Errorf("no sidecar is registered with this agent for service instance %q: "+
			"register one (`connect { sidecar_service {} }` in the service definition), or check the ID; this agent has %s",
			serviceID, instances(services))
	default:
		return nil, fmt.Errorf("service instance %q has several sidecars: choose one with -proxy-id: %s",
			serviceID, strings.Join(found, ", "))
	}
}

func instances(services map[string]*api.AgentService) string {
	var ids []string
	for _, s := range services {
		if s.Kind == api.ServiceKindTypical {
			ids = append(ids, s.ID)
		}
	}
	if len(ids) == 0 {
		return "no service that the token may read"
	}
	slices.Sort(ids)
	return strings.Join(ids[:min(len(ids), 20)], ", ")
}

// ProxyByID looks a proxy up by its ID. A proxy that this agent does not know
// is no error, since it may be registered later: it has only its ID.
func ProxyByID(ctx context.Context, client *api.Client, id string) (*Proxy, error) {
	s, _, err := client.Agent().Service(id, (&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		if strings.Contains(err.Error(), "404") {
			return &Proxy{ID: id, Service: id}, nil
		}
		return nil, fmt.Errorf("look up proxy %q: %w", id, Explain(err))
	}
	if s.Kind == api.ServiceKindTypical {
		return nil, fmt.Errorf("%q is no proxy but an instance of service %q: give -sidecar-for %s, or the ID of its proxy", id, s.Service, id)
	}
	proxy := &Proxy{ID: id, Service: s.Service, Kind: string(s.Kind)}
	if s.Proxy != nil && s.Proxy.DestinationServiceName != "" {
		proxy.Service = s.Proxy.DestinationServiceName
	}
	return proxy, nil
}

// GRPC is where an agent serves xDS.
type GRPC struct {
	// Address is "host:port" or "unix:///path".
	Address string
	// TLS says that the port wants TLS.
	TLS bool
}

// XDSAddress is where xDS is served: what the configuration says, or else the
// port that the agent names, beside the host of its HTTP address. An agent that
// may not be asked (ACLs) is taken to have Consul's default port, 8502.
func XDSAddress(ctx context.Context, client *api.Client, config Config) (GRPC, error) {
	if config.GRPCAddress != "" {
		return parseGRPC(config.GRPCAddress), nil
	}
	var self struct {
		XDS struct{ Ports struct{ Plaintext, TLS int } } `json:"xDS"`
	}
	out := GRPC{Address: net.JoinHostPort(hostOf(config.Address), "8502")}
	_, err := client.Raw().Query("/v1/agent/self", &self, (&api.QueryOptions{}).WithContext(ctx))
	var status api.StatusError
	if errors.As(err, &status) && status.Code == http.StatusForbidden {
		return out, nil
	}
	if err != nil {
		return GRPC{}, fmt.Errorf("ask the agent for its gRPC port: %w", Explain(err))
	}
	switch ports := self.XDS.Ports; {
	case ports.Plaintext > 0:
		out.Address = net.JoinHostPort(hostOf(config.Address), strconv.Itoa(ports.Plaintext))
	case ports.TLS > 0:
		out = GRPC{Address: net.JoinHostPort(hostOf(config.Address), strconv.Itoa(ports.TLS)), TLS: true}
	default:
		return GRPC{}, errors.New("the Consul agent has no gRPC port: set `ports { grpc = 8502 }` in its configuration")
	}
	return out, nil
}

// parseGRPC reads what -grpc-addr takes: https:// means TLS.
func parseGRPC(address string) GRPC {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok || scheme == "unix" {
		return GRPC{Address: address}
	}
	return GRPC{Address: rest, TLS: scheme == "https"}
}

// hostOf is the host of an HTTP address; this machine for none or a socket.
func hostOf(address string) string {
	scheme, rest, ok := strings.Cut(address, "://")
	if !ok {
		rest = address
	}
	if host, _, err := net.SplitHostPort(rest); err == nil && host != "" && scheme != "unix" {
		return host
	}
	return "127.0.0.1"
}

// Ping tells whether the agent answers and knows a leader.
func Ping(ctx context.Context, client *api.Client) error {
	leader, err := client.Status().LeaderWithQueryOptions((&api.QueryOptions{}).WithContext(ctx))
	if err != nil {
		return Explain(err)
	}
	if leader == "" {
		return errors.New("consul has no leader yet")
	}
	return nil
}

// Heals tells whether err may go away by itself: Consul cannot be reached, has
// no leader, or does not allow it yet.
func Heals(err error) bool {
	var status api.StatusError
	_, unreachable := errors.AsType[*unreachableError](err)
	return unreachable || errors.As(err, &status) && status.Code != http.StatusNotFound && status.Code != http.StatusBadRequest
}
