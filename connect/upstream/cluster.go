package upstream

import (
	"iter"
	"sync/atomic"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Cluster is the runtime of one cluster. It is safe for concurrent use.
type Cluster struct {
	name   string
	set    *Set
	config atomic.Pointer[config]
	hosts  atomic.Pointer[hosts]
	turn   atomic.Uint64 // round robin position

	// lookedUp is when names were last looked up, in Unix nanoseconds; 0 means
	// that they should be at once.
	lookedUp atomic.Int64

	requests, active, connects, connectFails, repeats, overflow, noHost atomic.Int64
}

var _ wire.Service = (*Cluster)(nil)

// Stats are the counters of a cluster since it was first configured.
type Stats struct {
	Name string
	// Hosts and Healthy count endpoints now.
	Hosts, Healthy int
	// Requests and connections begun; Active are those that live.
	Requests, Active int64
	// Connects were tried, ConnectFails of them failed.
	Connects, ConnectFails int64
	// Repeats are tries after the first, Overflow was refused for a limit,
	// NoHost since no endpoint was healthy.
	Repeats, Overflow, NoHost int64
}

// All yields the counters by Envoy's names where there is one.
func (s Stats) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		_ = yield("membership_total", int64(s.Hosts)) &&
			yield("membership_healthy", int64(s.Healthy)) &&
			yield("upstream_rq_total", s.Requests) &&
			yield("upstream_rq_active", s.Active) &&
			yield("upstream_cx_total", s.Connects) &&
			yield("upstream_cx_connect_fail", s.ConnectFails) &&
			yield("upstream_rq_repeated", s.Repeats) &&
			yield("upstream_rq_pending_overflow", s.Overflow) &&
			yield("upstream_cx_none_healthy", s.NoHost)
	}
}

// Stats returns the counters.
func (c *Cluster) Stats() Stats {
	hs := c.hosts.Load()
	return Stats{
		Name: c.name, Hosts: len(hs.all), Healthy: hs.healthy,
		Requests: c.requests.Load(), Active: c.active.Load(),
		Connects: c.connects.Load(), ConnectFails: c.connectFails.Load(),
		Repeats: c.repeats.Load(), Overflow: c.overflow.Load(), NoHost: c.noHost.Load(),
	}
}

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Healthy is the number of endpoints that may be used; for an aggregate
// cluster, those of the member in use.
func (c *Cluster) Healthy() int {
	if m := c.member(0); m != nil {
		return m.hosts.Load().usable
	}
	return 0
}

// maxDepth bounds aggregates in aggregates.
const maxDepth = 4

// member resolves an aggregate cluster to the first member with an endpoint
// that may be used, else the first there is; nil if there is none.
func (c *Cluster) member(depth int) *Cluster {
	cfg := c.config.Load()
	if cfg.Kind != mesh.ClusterAggregate || cfg.refusal != "" {
		return c
	}
	if depth >= maxDepth {
		return nil
	}
	var first *Cluster
	for _, name := range cfg.Members {
		m := c.set.Cluster(name)
		if m == nil {
			continue
		}
		if m = m.member(depth + 1); m == nil {
			continue
		}
		if len(m.hosts.Load().schedule) > 0 {
			return m
		}
		if first == nil {
			first = m
		}
	}
	return first
}

func (c *Cluster) close() {
	for _, h := range c.hosts.Load().all {
		h.close()
	}
}
