package catalog

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/connect/mesh"
)

// serviceTopic follows all instances of one service, sidecars among them.
type serviceTopic struct {
	topic
	// set by the maker
	client           *api.Client
	name, datacenter string
	sidecars         func() // called when its workloads have changed
	emptied          func() // called when it has no instance any more

	entries []*api.ServiceEntry // owned by the loop
	state   atomic.Pointer[serviceState]
	held    atomic.Bool // the last answer is held back

	// mu of the Index guards:
	listed bool // the list of services has it
}

// serviceState is one answer, never written to again.
type serviceState struct {
	instances []Instance
	workloads []Workload
}

func (t *serviceTopic) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	t.trace.queries.Add(1)
	o.Datacenter = t.datacenter
	entries, meta, err := t.client.Health().Service(t.name, "", false, o)
	if err != nil {
		t.trace.errors.Add(1)
		return nil, Explain(err, fmt.Sprintf("service:read on %q", t.name), "node:read")
	}
	t.entries = entries
	return meta, nil
}

func (t *serviceTopic) answered(ctx context.Context, doubtful bool) (held bool) {
	next, last := stateOf(t.entries), t.state.Load()
	t.entries = nil
	if (doubtful || t.trace.doubtful()) && last != nil && !next.serves() && last.serves() && anyAccepts(ctx, last.endpoints()) {
		if !t.held.Swap(true) {
			t.trace.held.Add(1)
			t.trace.log.Warn("consul came back and names no instance that serves, but they accept: keeping them",
				"service", t.name, "at_most", holdFor)
		}
		return true
	}
	t.held.Store(false)
	t.state.Store(next)
	t.seen()
	if len(next.workloads) > 0 || last != nil && len(last.workloads) > 0 {
		t.sidecars()
	}
	if len(next.instances) == 0 {
		t.emptied()
	}
	return false
}

// empty tells whether Consul has no instance of it any more.
func (t *serviceTopic) empty() bool {
	s := t.state.Load()
	return s != nil && len(s.instances) == 0 && !t.held.Load()
}

// serves tells whether an instance is not critical.
func (s *serviceState) serves() bool {
	return slices.ContainsFunc(s.instances, func(i Instance) bool { return !i.Critical })
}

// endpoints are the addresses of the instances that serve; names are left out.
func (s *serviceState) endpoints() []mesh.Endpoint {
	var all []mesh.Endpoint
	for _, i := range s.instances {
		addr, err := netip.ParseAddr(cmp.Or(i.Address, i.Node.Address))
		if err == nil && !i.Critical && i.Port > 0 && i.Port <= 65535 {
			all = append(all, mesh.Endpoint{Address: mesh.Address{AddrPort: netip.AddrPortFrom(addr, uint16(i.Port))}})
		}
	}
	return all
}

// stateOf makes an answer ours, in an order of its own.
func stateOf(entries []*api.ServiceEntry) *serviceState {
	s := &serviceState{}
	for _, entry := range entries {
		if entry.Node == nil || entry.Service == nil {
			continue
		}
		s.instances = append(s.instances, instanceOf(entry))
		if entry.Service.Kind == api.ServiceKindConnectProxy && entry.Service.Proxy != nil {
			s.workloads = append(s.workloads, workloadOf(entry))
		}
	}
	slices.SortFunc(s.instances, func(a, b Instance) int {
		return cmp.Or(strings.Compare(a.Node.Name, b.Node.Name), strings.Compare(a.ID, b.ID))
	})
	return s
}

func instanceOf(entry *api.ServiceEntry) Instance {
	s := entry.Service
	i := Instance{
		Node: Node{Name: entry.Node.Node, Datacenter: entry.Node.Datacenter, Address: entry.Node.Address, Meta: entry.Node.Meta},
		ID:   s.ID, Service: s.Service, Address: s.Address, Port: s.Port, Tags: s.Tags, Meta: s.Meta,
		PassingWeight: s.Weights.Passing, WarningWeight: s.Weights.Warning,
	}
	for _, check := range entry.Checks {
		i.Critical = i.Critical || check.Status == api.HealthCritical
		i.Warning = i.Warning || check.Status == api.HealthWarning
	}
	return i
}
