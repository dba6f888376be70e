package upstream

import (
	"cmp"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// hosts is the endpoint set of a cluster, made ready for picking. It is
// immutable and swapped whole.
type hosts struct {
	all []*Host
	// healthy counts those that the control plane calls so and that are not ejected,
	// degraded those that come after them, usable those on levels that get requests.
	healthy, degraded, usable int
	// health is how much of the requests the healthy ones are fit for, 0 to 100.
	health uint32
	// panics says that a level takes unhealthy hosts, for want of others.
	panics bool
	// ramping says that a host has not its full weight yet: the plan must be made
	// anew as time goes on.
	ramping bool
	// zoned says that hosts are told apart by being in our zone.
	zoned bool
	// levels are the priorities that have hosts, the best first.
	levels []level
}

// setEndpoints joins the new set with the hosts that are there, or makes all
// anew if they are not to be kept. An address that occurs twice counts once.
// Callers hold the set's lock.
func (c *Cluster) setEndpoints(set *mesh.EndpointSet, keep bool) {
	gone := map[mesh.Address]*Host{}
	for _, h := range c.hosts.Load().all {
		gone[h.address()] = h
	}
	now := time.Now()
	var all, fresh []*Host
	if set != nil {
		seen := make(map[mesh.Address]bool, len(set.Endpoints))
		for i := range set.Endpoints {
			endpoint := &set.Endpoints[i]
			if seen[endpoint.Address] {
				continue
			}
			seen[endpoint.Address] = true
			h := gone[endpoint.Address]
			if h == nil || !keep {
				h = &Host{cluster: c, text: endpoint.Address.String()}
				h.since = now
				if c.config.Load().Check != nil {
					h.verdict.Store(uint32(unchecked))
				}
				fresh = append(fresh, h)
			} else {
				delete(gone, endpoint.Address)
				if h.endpoint.Load().Health != mesh.Healthy {
					h.since = now // it begins slowly again
				}
			}
			h.become(endpoint)
			all = append(all, h)
		}
	}
	if len(fresh) > 0 || len(gone) > 0 {
		c.answers.membership.Add(1)
	}
	c.factor = 0
	if set != nil {
		c.factor = set.Overprovisioning
	}
	c.checks.await(all)
	c.plan(all, now)
	if len(fresh) > 0 && c.config.Load().Check != nil {
		c.checks.on.Store(true)
		c.set.nudge()
	}
	for _, h := range gone {
		h.gone.Store(true)
		c.forget(h)
		h.close()
	}
	c.ready(fresh)
}

// plan puts all hosts in force as they are now. Callers hold the set's lock.
func (c *Cluster) plan(all []*Host, now time.Time) {
	next := &hosts{all: all}
	var where *mesh.Map
	if c.config.Load().Kind == mesh.ClusterEDS {
		where = c.set.where
	}
	panicPercent := c.config.Load().PanicPercent
	if c.config.Load().Check != nil && c.checks.open() && !diagnosed(all) {
		panicPercent = 0 // it is not known that they are unhealthy: they are waited for
	}
	next.plan(&c.config.Load().Balance, cmp.Or(c.factor, overprovision), where, panicPercent, now)
	if next.zoned = apart(next.levels); next.zoned {
		c.answers.zonesMade.Add(1)
	}
	if next.panics {
		c.panics.Add(1)
	}
	c.hosts.Store(next)
	c.checks.settle(next)
}

// set is the endpoints as they were given.
func (hs *hosts) set() *mesh.EndpointSet {
	set := &mesh.EndpointSet{Endpoints: make([]mesh.Endpoint, len(hs.all))}
	for i, h := range hs.all {
		set.Endpoints[i] = *h.endpoint.Load()
	}
	return set
}

// plan makes the levels.
func (hs *hosts) plan(b *mesh.Balance, factor uint32, where *mesh.Map, panicPercent uint32, now time.Time) {
	hs.levels = levelsOf(hs.all, factor, where)
	for i := range hs.levels {
		l := &hs.levels[i]
		if l.degraded {
			hs.degraded += len(l.hosts)
		} else {
			hs.healthy += len(l.hosts)
		}
		hs.health = min(100, hs.health+l.health)
	}
	spreadLoad(hs.levels, hs.health)
	hs.panic(panicPercent)
	hs.levels = slices.DeleteFunc(hs.levels, func(l level) bool { return len(l.hosts) == 0 })
	for i := range hs.levels {
		l := &hs.levels[i]
		if l.load > 0 {
			hs.usable += len(l.hosts)
		}
		var ramping bool
		l.picker, ramping = newPicker(b, l.hosts, l.all, now)
		hs.ramping = hs.ramping || ramping
		l.all = nil
	}
}

// panic lets levels with too few healthy hosts use all that they have. It does so
// as Envoy does: not as long as all levels together are fit for all requests.
func (hs *hosts) panic(percent uint32) {
	if percent == 0 || hs.health == 100 || len(hs.all) == 0 {
		return
	}
	total := true
	for i := range hs.levels {
		l := &hs.levels[i]
		if l.degraded {
			continue // it is a part of the other level of its priority
		}
		if fit := len(l.hosts) + count(l.all, (*Host).degraded); uint64(100*fit) < uint64(percent)*uint64(len(l.all)) {
			l.hosts = l.all
			hs.panics = true
		} else {
			total = false
		}
	}
	if !total {
		return
	}
	// As many requests to each level as it has hosts.
	left := uint32(100)
	for i := range hs.levels {
		l := &hs.levels[i]
		l.load = 0
		if !l.degraded {
			l.load = uint32(100 * len(l.all) / len(hs.all))
			left -= l.load
		}
	}
	hs.levels[0].load += left
}

// pick returns the next host that is neither paused nor in passed, as p wants it.
// If all are paused, one that was not passed over is as good as any; nil if there
// is none.
func (c *Cluster) pick(now time.Time, p preference, passed []*Host) *Host {
	hs := c.hosts.Load()
	if len(hs.levels) == 0 {
		return c.originals.pick(c, p.peer, now, passed)
	}
	seed := c.seed(&p)
	best := hs.level(seed, &p)
	if h := best.pick(now, seed, &p, passed); h != nil || len(hs.levels) == 1 {
		if hs.zoned {
			c.answers.zones[best.zone()].Add(1)
		}
		return h
	}
	for i := range hs.levels {
		if l := &hs.levels[i]; l != best {
			if h := l.pick(now, seed, &p, passed); h != nil {
				return h
			}
		}
	}
	return nil
}
