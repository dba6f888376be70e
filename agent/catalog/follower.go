package catalog

import (
	"context"
	"fmt"
	"log/slog"
	"slices"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/connect/mesh"
)

// follower is the question for the passing instances of one service. All its
// state is owned by its loop.
type follower struct {
	Query
	client *api.Client
	sink   Sink
	log    *slog.Logger

	entries []*api.ServiceEntry // of the last answer
	last    []mesh.Endpoint     // that are in force
	known   bool                // there was an answer
	hidden  bool                // the last answer was empty for want of permissions
	holding bool
}

func (f *follower) ask(o *api.QueryOptions) (*api.QueryMeta, error) {
	o.Datacenter = f.Datacenter
	entries, meta, err := f.client.Health().Service(f.Service, f.Tag, true, o)
	if err != nil {
		return nil, Explain(err, fmt.Sprintf("service:read on %q", f.Service), "node:read")
	}
	hidden := meta.ResultsFilteredByACLs && len(entries) == 0
	if hidden && !f.hidden {
		f.log.Warn("consul hides instances from this token, which needs service:read on the service and node:read")
	}
	f.hidden, f.entries = hidden, entries
	return meta, nil
}

func (f *follower) lost(err error) {
	f.log.Warn("catalog not asked, keeping the last instances", "instances", len(f.last), "err", err)
}

func (f *follower) back() { f.log.Info("catalog answers again") }

func (f *follower) answered(ctx context.Context, doubtful bool) (held bool) {
	endpoints := f.endpoints(ctx, f.entries)
	f.entries = nil
	if doubtful && f.doubted(ctx, endpoints) {
		return true
	}
	f.holding = false
	if f.known && slices.EqualFunc(endpoints, f.last, func(a, b mesh.Endpoint) bool { return a.Equal(&b) }) {
		return false
	}
	if len(endpoints) == 0 {
		f.log.Warn("no passing instance in the catalog")
	}
	f.last, f.known = endpoints, true
	f.sink.SetEndpoints(&mesh.EndpointSet{Name: f.Cluster, Endpoints: slices.Clone(endpoints)})
	return false
}

// doubted tells whether an answer would empty a service that seems to be well.
func (f *follower) doubted(ctx context.Context, endpoints []mesh.Endpoint) bool {
	if len(endpoints) > 0 || len(f.last) == 0 || !anyAccepts(ctx, f.last) {
		return false
	}
	if !f.holding {
		f.log.Warn("consul came back and names no passing instance, but they accept: keeping them", "at_most", holdFor)
	}
	f.holding = true
	return true
}

// endpoints makes an answer ours, in an order of its own.
func (f *follower) endpoints(ctx context.Context, entries []*api.ServiceEntry) []mesh.Endpoint {
	var all []mesh.Endpoint
	for _, entry := range entries {
		address, err := addressOf(ctx, entry)
		if err != nil {
			f.log.Warn("instance left out", "id", entry.Service.ID, "err", err)
			continue
		}
		all = append(all, mesh.Endpoint{Address: address, Weight: uint32(min(max(1, entry.Service.Weights.Passing), 128))})
	}
	slices.SortFunc(all, func(a, b mesh.Endpoint) int {
		if n := a.Address.AddrPort.Compare(b.Address.AddrPort); n != 0 {
			return n
		}
		return slices.Compare([]byte(a.Address.Socket), []byte(b.Address.Socket))
	})
	return slices.CompactFunc(all, func(a, b mesh.Endpoint) bool { return a.Address == b.Address })
}
