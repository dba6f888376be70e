package dns

import (
	"context"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// asker is the service in whose name a query is answered.
type asker struct {
	service string
	// instances are those that it can be, at least one.
	instances []catalog.Workload
}

// who finds the workload that asks; a refusal if that is not certain.
func (z *meshZone) who(ctx context.Context, q *question) (*asker, *reply) {
	var found []catalog.Workload
	if q.workload != "" {
		found = z.near(z.index.Workload(q.workload), false)
	} else {
		found = z.at(ctx, q.source)
	}
	if len(found) > 0 {
		services := names(found)
		if len(services) > 1 {
			return nil, z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeProhibited,
				"it is not certain who asks from %s, it can be %s: ask at a listener that says it, by workload = NAME",
				q.source, shorten(strings.Join(services, " or "), maxReason/3))
		}
		return &asker{service: services[0], instances: found}, nil
	}
	if err := z.index.Ready(); err != nil {
		return nil, z.deny(dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady, "the mesh is not known yet: %v", err)
	}
	if q.workload != "" {
		return nil, z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeProhibited,
			"this listener answers %s, and Consul has no sidecar of that service or ID", q.workload)
	}
	return nil, z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeProhibited,
		"no sidecar is registered at your address %s: ask from a workload's, or at a listener with workload = NAME", q.source)
}

// at are the workloads at an address. From loopback only this node can ask,
// also by what is registered at the node's own address.
func (z *meshZone) at(ctx context.Context, source netip.Addr) []catalog.Workload {
	found := z.near(z.index.Workloads(source), source.IsLoopback())
	if len(found) > 0 || !source.IsLoopback() {
		return found
	}
	node, err := z.index.Node(ctx, z.index.Settings().Node, "")
	if err != nil {
		return nil
	}
	address, err := netip.ParseAddr(node.Address)
	if err != nil {
		return nil
	}
	return z.near(z.index.Workloads(address), true)
}

// near leaves out what is on other nodes, if there is one on ours: addresses
// such as 127.0.0.1 and those of bridges are the same everywhere. With only,
// what is elsewhere never counts.
func (z *meshZone) near(all []catalog.Workload, only bool) []catalog.Workload {
	own := z.index.Settings().Node
	var here []catalog.Workload
	for _, w := range all {
		if own != "" && strings.EqualFold(w.Node, own) {
			here = append(here, w)
		}
	}
	if len(here) > 0 || only {
		return here
	}
	return all
}

// names are the services of workloads, each once, in order.
func names(all []catalog.Workload) []string {
	services := make([]string, 0, 1)
	for _, w := range all {
		if !slices.Contains(services, w.Service) {
			services = append(services, w.Service)
		}
	}
	slices.Sort(services)
	return services
}
