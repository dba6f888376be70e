package upstream

import (
	"math/rand/v2"
	"slices"
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

	// originals are the hosts of a cluster of original destinations.
	originals originals
	// named keeps connections that are made for names of requests.
	named named

	// lookedUp is when names were last looked up, in Unix nanoseconds, negative as long
	// as they are being; 0 means that they should be at once.
	lookedUp atomic.Int64
	names    names
	checks   checks

	requests, active, connects, connectFails, repeats, overflow, noHost atomic.Int64

	// conns are those that live or are being made, pending the exchanges without
	// one, retrying those that a policy repeats.
	conns, pending, retrying atomic.Int64
	queue                    queue

	pendingTotal, cxOverflow, cxMaxRequests, cxIdle, panics atomic.Int64
	retries, retrySuccess, retryOverflow                    atomic.Int64

	// factor is the overprovisioning of the endpoint set, 0 for the default; guarded
	// by Set.mu.
	factor uint32

	// answers are the responses that exchanges ended with.
	answers answers

	// stale says that the plan of hosts is to be made anew.
	stale atomic.Bool
	// ejections is nil without outlier detection, now and before.
	ejections atomic.Pointer[ejections]
}

var _ wire.Service = (*Cluster)(nil)

// Name is the cluster's name.
func (c *Cluster) Name() string { return c.name }

// Refusal says why every exchange with the cluster fails: its definition is not
// understood, or its certificates are no good. "" if it serves.
func (c *Cluster) Refusal() string { return c.config.Load().refusal }

// Lambda tells whether the cluster is the gateway of AWS Lambda.
func (c *Cluster) Lambda() bool { return c.config.Load().Lambda }

// Healthy is the number of endpoints that may be used; for an aggregate
// cluster, those of the member in use.
func (c *Cluster) Healthy() int {
	var few [8]*Cluster
	var in [maxAggregates]*Cluster
	members, _ := c.members(few[:0], in[:0])
	if len(members) == 0 {
		return 0
	}
	return anyOf(members).hosts.Load().usable
}

// maxAggregates bounds how many aggregates are gone into for one that has others in it.
const maxAggregates = 16

// member resolves an aggregate cluster to one of its members; nil if there is
// none. As between priorities, the first gets all that it is fit for.
func (c *Cluster) member(p preference) *Cluster {
	cfg := c.config.Load()
	if cfg.Kind != mesh.ClusterAggregate || cfg.refusal != "" {
		return c
	}
	var few [8]*Cluster
	var in [maxAggregates]*Cluster
	members, _ := c.members(few[:0], in[:0])
	if len(members) == 0 {
		return nil
	}
	skip := len(p.tried)
	if p.AvoidPriorities > 0 {
		skip %= p.AvoidPriorities
	}
	total := uint32(0)
	for _, m := range members {
		if total < 100 && !m.avoided(&p, skip) {
			total += m.hosts.Load().health
		}
	}
	if total == 0 {
		return anyOf(members)
	}
	draw := uint32(p.Hash % uint64(min(total, 100)))
	if total >= 100 && members[0].hosts.Load().health == 100 && !members[0].avoided(&p, skip) {
		return members[0]
	}
	if !p.Hashed {
		draw = rand.Uint32N(min(total, 100))
	}
	for _, m := range members {
		if m.avoided(&p, skip) {
			continue
		}
		health := m.hosts.Load().health
		if draw < health {
			return m
		}
		draw -= health
	}
	return anyOf(members)
}

// avoided tells whether one of the tries, but for the last skip, was made on c.
func (c *Cluster) avoided(p *preference, skip int) bool {
	return p.AvoidPriorities > 0 &&
		slices.ContainsFunc(p.tried[:len(p.tried)-skip], func(a wire.Attempt) bool { return a.Cluster == c.name })
}

// members adds what c resolves to, in order. in are the aggregates that were gone into,
// each once: they may be in one another.
func (c *Cluster) members(all, in []*Cluster) (members, aggregates []*Cluster) {
	cfg := c.config.Load()
	if cfg.Kind != mesh.ClusterAggregate || cfg.refusal != "" {
		return append(all, c), in
	}
	if len(in) >= maxAggregates || slices.Contains(in, c) {
		return all, in
	}
	in = append(in, c)
	for _, name := range cfg.Members {
		if m := c.set.Cluster(name); m != nil {
			all, in = m.members(all, in)
		}
	}
	return all, in
}

// anyOf is the first that has a host to give, else the first there is.
func anyOf(members []*Cluster) *Cluster {
	for _, m := range members {
		if m.hosts.Load().usable > 0 {
			return m
		}
	}
	return members[0]
}

func (c *Cluster) close() {
	for _, h := range c.hosts.Load().all {
		h.close()
	}
	c.originals.close()
}
