package catalog

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/hashicorp/consul/api"
)

// ProxyPorts are the ports of a Connect proxy that count when traffic is redirected
// to it.
type ProxyPorts struct {
	// Inbound is where its public listener listens; Outbound that for what the
	// application calls, 0 for the default.
	Inbound, Outbound int
	// Exposed are inbound ports that are to be reached as they are: metrics, paths and
	// checks that are exposed without the mesh.
	Exposed []int
}

// ProxyPortsOf asks Consul for the ports of a proxy: the local agent, or, if node is
// not "", the catalog for one that is registered at that node.
func ProxyPortsOf(ctx context.Context, client *api.Client, proxyID, node string) (*ProxyPorts, error) {
	options := (&api.QueryOptions{}).WithContext(ctx)
	var service *api.AgentService
	var err error
	if node == "" {
		service, _, err = client.Agent().Service(proxyID, options)
	} else {
		service, err = serviceAt(client, proxyID, node, options)
	}
	if node == "" && IsNotFound(err) {
		return nil, fmt.Errorf("proxy %q is not registered at this agent: register it, or correct the ID (a sidecar's is that of its service with -sidecar-proxy behind it)", proxyID)
	}
	if err != nil {
		return nil, fmt.Errorf("ask for proxy %q: %w", proxyID, Explain(err))
	}
	if service.Proxy == nil || service.Kind != api.ServiceKindConnectProxy {
		return nil, fmt.Errorf("service %q is no Connect proxy", proxyID)
	}
	ports := &ProxyPorts{Inbound: service.Port}
	if ports.Exposed, err = configured(service.Proxy.Config, ports); err != nil {
		return nil, fmt.Errorf("proxy %q: %w", proxyID, err)
	}
	if t := service.Proxy.TransparentProxy; t != nil {
		ports.Outbound = t.OutboundListenerPort
	}
	for _, path := range service.Proxy.Expose.Paths {
		if path.ListenerPort != 0 {
			ports.Exposed = append(ports.Exposed, path.ListenerPort)
		}
	}
	if !service.Proxy.Expose.Checks || node != "" {
		return ports, nil
	}
	checks, err := client.Agent().ChecksWithFilterOpts(fmt.Sprintf("ServiceName == %q", service.Proxy.DestinationServiceName), options)
	if err != nil {
		return nil, fmt.Errorf("ask for the checks of %q: %w", service.Proxy.DestinationServiceName, Explain(err))
	}
	for _, check := range checks {
		if check.ExposedPort != 0 {
			ports.Exposed = append(ports.Exposed, check.ExposedPort)
		}
	}
	return ports, nil
}

// serviceAt finds a service at a node, with what config entries say of it.
func serviceAt(client *api.Client, id, node string, options *api.QueryOptions) (*api.AgentService, error) {
	options.Filter, options.MergeCentralConfig = fmt.Sprintf("ID == %q", id), true
	list, _, err := client.Catalog().NodeServiceList(node, options)
	switch {
	case err != nil:
		return nil, err
	case list == nil || len(list.Services) == 0:
		return nil, fmt.Errorf("there is none at node %q", node)
	case len(list.Services) > 1:
		return nil, fmt.Errorf("there are %d at node %q", len(list.Services), node)
	}
	return list.Services[0], nil
}

// configured reads what counts of a proxy's opaque configuration.
func configured(config map[string]any, ports *ProxyPorts) (exposed []int, err error) {
	if bind, ok := config["bind_port"]; ok {
		port, err := number(bind)
		if err != nil {
			return nil, fmt.Errorf("bind_port: %w", err)
		}
		if port != 0 {
			ports.Inbound = port
		}
	}
	for _, key := range []string{"envoy_prometheus_bind_addr", "envoy_stats_bind_addr"} {
		address, ok := config[key].(string)
		if !ok || address == "" {
			continue
		}
		_, text, err := net.SplitHostPort(address)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		port, err := number(text)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", key, err)
		}
		exposed = append(exposed, port)
	}
	return exposed, nil
}

// number reads a port, which users write as a number or as text.
func number(value any) (int, error) {
	var port int
	switch v := value.(type) {
	case float64:
		port = int(v)
	case int:
		port = v
	case string:
		n, err := strconv.Atoi(v)
		if err != nil {
			return 0, err
		}
		port = n
	default:
		return 0, fmt.Errorf("%v is no port", value)
	}
	if port < 0 || port > 65535 {
		return 0, fmt.Errorf("%d is no port", port)
	}
	return port, nil
}

// DualStack tells whether the agent has an IPv6 address, which makes Consul's own
// defaults those of both families.
func DualStack(ctx context.Context, client *api.Client) (bool, error) {
	type answer struct {
		self map[string]map[string]any
		err  error
	}
	asked := make(chan answer, 1) // the library knows no context here
	go func() {
		self, err := client.Agent().Self()
		asked <- answer{self, err}
	}()
	select {
	case <-ctx.Done():
		return false, ctx.Err()
	case a := <-asked:
		if a.err != nil {
			return false, fmt.Errorf("ask the agent for its address: %w", Explain(a.err))
		}
		text, ok := a.self["Config"]["BindAddr"].(string)
		if !ok || text == "" {
			return false, nil
		}
		addr, err := netip.ParseAddr(text)
		if err != nil {
			return false, errors.Join(errors.New("the agent's address"), err)
		}
		return addr.Is6() && !addr.Is4In6(), nil
	}
}
