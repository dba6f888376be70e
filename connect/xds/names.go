package xds

import (
	"github.com/serai-net/serai/connect/mesh"
)

// endpointName is the name of the endpoint set of c, "" if it has none of the
// stream.
func endpointName(c *mesh.Cluster) string {
	switch {
	case c.Kind != mesh.ClusterEDS:
		return ""
	case c.EndpointName != "":
		return c.EndpointName
	default:
		return c.Name
	}
}

// clustersOfRoute yields the clusters that a route table names.
func clustersOfRoute(r *mesh.Route, yield func(name string)) {
	for _, host := range r.VirtualHosts {
		for _, rule := range host.Rules {
			for i := range rule.Targets {
				yield(rule.Targets[i].Cluster)
			}
		}
	}
}

// chainsOf calls yield for each filter chain of l.
func chainsOf(l *mesh.Listener, yield func(*mesh.FilterChain)) {
	for _, c := range l.Chains {
		yield(c)
	}
	if l.Default != nil {
		yield(l.Default)
	}
}

// namesOf yields the clusters that a listener names itself, and what of it names route
// tables.
func namesOf(l *mesh.Listener, cluster func(name string), route func(h *mesh.HTTP)) {
	chainsOf(l, func(c *mesh.FilterChain) {
		if c.TCP != nil {
			for i := range c.TCP.Targets {
				cluster(c.TCP.Targets[i].Cluster)
			}
		}
		if c.HTTP == nil {
			return
		}
		if c.HTTP.Route != nil {
			clustersOfRoute(c.HTTP.Route, cluster)
		} else {
			route(c.HTTP)
		}
	})
}

// collide tells whether two addresses cannot both be listened on.
func collide(a, b mesh.Address) bool {
	if a.Socket != "" || b.Socket != "" {
		return a.Socket == b.Socket
	}
	return a.AddrPort.Port() == b.AddrPort.Port() &&
		(a.AddrPort.Addr() == b.AddrPort.Addr() || a.AddrPort.Addr().IsUnspecified() || b.AddrPort.Addr().IsUnspecified())
}
