package catalog

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/hashicorp/consul/api"
)

// workloadOf reads a sidecar's registration.
func workloadOf(entry *api.ServiceEntry) Workload {
	proxy := entry.Service.Proxy
	w := Workload{
		Service: proxy.DestinationServiceName, ServiceID: proxy.DestinationServiceID,
		Node: entry.Node.Node, ProxyID: entry.Service.ID,
		Transparent: proxy.Mode == api.ProxyModeTransparent,
	}
	if addr, err := netip.ParseAddr(cmp.Or(entry.Service.Address, entry.Node.Address)); err == nil {
		w.Address = addr.Unmap()
	}
	for _, up := range proxy.Upstreams {
		w.Upstreams = append(w.Upstreams, upstreamOf(up))
	}
	return w
}

func upstreamOf(up api.Upstream) LocalUpstream {
	u := LocalUpstream{
		Destination: up.DestinationName, Datacenter: up.Datacenter, Peer: up.DestinationPeer,
		Prepared: up.DestinationType == api.UpstreamDestTypePreparedQuery, Socket: up.LocalBindSocketPath,
	}
	if u.Socket != "" {
		return u
	}
	u.Port = up.LocalBindPort
	if addr, err := netip.ParseAddr(cmp.Or(up.LocalBindAddress, "127.0.0.1")); err == nil {
		u.Address = addr
	}
	return u
}

// workloadIndex finds workloads. It is never written to.
type workloadIndex struct {
	byAddress map[netip.Addr][]Workload
	byService map[string][]Workload // in lower case
	byProxy   map[string][]Workload
}

func indexWorkloads(all []Workload) *workloadIndex {
	slices.SortFunc(all, func(a, b Workload) int {
		return cmp.Or(strings.Compare(a.Node, b.Node), strings.Compare(a.ProxyID, b.ProxyID))
	})
	index := &workloadIndex{map[netip.Addr][]Workload{}, map[string][]Workload{}, map[string][]Workload{}}
	for _, w := range all {
		if w.Address.IsValid() {
			index.byAddress[w.Address] = append(index.byAddress[w.Address], w)
		}
		service := strings.ToLower(w.Service)
		index.byService[service] = append(index.byService[service], w)
		index.byProxy[w.ProxyID] = append(index.byProxy[w.ProxyID], w)
	}
	return index
}

// Workloads returns those of the agent's own datacenter whose sidecar is at the
// address, on any node, ordered by node and ID; an IPv4 address may be mapped
// into IPv6. The result is never written to.
func (x *Index) Workloads(address netip.Addr) []Workload {
	return x.workloads().byAddress[address.Unmap().WithZone("")]
}

// Workload returns those whose sidecar has the ID name; if there is none, those
// of the service of that name. Ordered by node and ID; never written to.
func (x *Index) Workload(name string) []Workload {
	index := x.workloads()
	if found := index.byProxy[name]; len(found) > 0 {
		return found
	}
	return index.byService[strings.ToLower(name)]
}

// workloads returns the index, made anew if a sidecar has changed. Who comes
// while another makes it gets the old one.
func (x *Index) workloads() *workloadIndex {
	if !x.sidecars.Load() || !x.making.TryLock() {
		return x.found.Load()
	}
	defer x.making.Unlock()
	if x.sidecars.Swap(false) {
		var all []Workload
		x.mu.RLock()
		for _, t := range x.own.services {
			if s := t.state.Load(); s != nil {
				all = append(all, s.workloads...)
			}
		}
		x.mu.RUnlock()
		x.found.Store(indexWorkloads(all))
	}
	return x.found.Load()
}
