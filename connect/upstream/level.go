package upstream

import (
	"cmp"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// overprovision is Envoy's overprovisioning factor in percent: a level is fit for
// all of its requests as long as five of seven hosts are healthy.
const overprovision = 140

// level is the hosts of one priority that are healthy, or those that are degraded.
type level struct {
	priority uint32
	// distance is how far away they are, where that is known: the near ones of a
	// priority come before the far ones.
	distance uint8
	degraded bool
	// all hosts of it, while a plan is made; hosts are those that it gives.
	all, hosts []*Host
	// health is how much of its requests it is fit for, load how much of the
	// cluster's it gets; both 0 to 100.
	health, load uint32
	picker       picker
}

// levelsOf groups hosts by priority, the best first, with those that are healthy.
// After all of these come the levels of degraded hosts, as Envoy has it. factor is
// the overprovisioning in percent.
func levelsOf(all []*Host, factor uint32, where *mesh.Map) []level {
	var levels []level
	for _, h := range all {
		next := level{priority: h.endpoint.Load().Priority, distance: where.Distance(h.address())}
		at, found := slices.BinarySearchFunc(levels, next, func(l, next level) int {
			return cmp.Or(cmp.Compare(l.priority, next.priority), cmp.Compare(l.distance, next.distance))
		})
		if !found {
			levels = slices.Insert(levels, at, next)
		}
		levels[at].all = append(levels[at].all, h)
	}
	if len(levels) == 1 {
		levels[0].all = all
	}
	for i := range levels {
		l := &levels[i]
		l.hosts = those(l.all, (*Host).healthy)
		l.fit(factor)
		if slices.ContainsFunc(l.all, (*Host).degraded) {
			worse := level{priority: l.priority, distance: l.distance, degraded: true, all: l.all, hosts: those(l.all, (*Host).degraded)}
			worse.fit(factor)
			levels = append(levels, worse)
		}
	}
	return levels
}

// Kinds of choice where some hosts are in our zone: all go there, or some do, or this
// one does not.
const (
	zoneAll = iota
	zoneSome
	zoneOther
)

// zone is the kind of a choice of the level.
func (l *level) zone() int {
	switch {
	case l.distance > 0:
		return zoneOther
	case l.load == 100:
		return zoneAll
	default:
		return zoneSome
	}
}

// apart tells whether hosts are told apart by being in our zone.
func apart(levels []level) bool {
	return slices.ContainsFunc(levels, func(l level) bool { return l.distance == 0 }) &&
		slices.ContainsFunc(levels, func(l level) bool { return l.distance > 0 })
}

// fit sets how much of its requests the level is fit for.
func (l *level) fit(factor uint32) {
	l.health = uint32(min(100, uint64(factor)*uint64(len(l.hosts))/uint64(len(l.all))))
}

// those are the hosts of all that are so, which may be all itself.
func those(all []*Host, so func(*Host) bool) []*Host {
	n := count(all, so)
	if n == len(all) {
		return all
	}
	some := make([]*Host, 0, n)
	for _, h := range all {
		if so(h) {
			some = append(some, h)
		}
	}
	return some
}

func count(all []*Host, so func(*Host) bool) int {
	n := 0
	for _, h := range all {
		if so(h) {
			n++
		}
	}
	return n
}

// spreadLoad gives each level as much as it is fit for of what those before it
// leave. If all together are not fit for all, each has more in proportion.
func spreadLoad(levels []level, health uint32) {
	if health == 0 {
		return
	}
	left, first := uint32(100), -1
	for i := range levels {
		l := &levels[i]
		l.load = min(left, 100*l.health/health)
		left -= l.load
		if first < 0 && l.health > 0 {
			first = i
		}
	}
	levels[first].load += left // what rounding has left
}

// preference is what one exchange asks of the choice of a host. Its zero value
// asks for nothing.
type preference struct {
	wire.Choice
	// tried are the tries that the exchange has behind it.
	tried []wire.Attempt
	// peer is who is served; nil if that is not known.
	peer *wire.Peer
}

// seed is what all choices of one pick are made by.
func (c *Cluster) seed(p *preference) uint64 {
	switch policy := c.config.Load().Balance.Policy; {
	case policy == mesh.RoundRobin:
		return c.turn.Add(1)
	case p.Hashed && (policy == mesh.RingHash || policy == mesh.Maglev):
		return p.Hash
	default:
		return rand.Uint64()
	}
}

// level is the level that a request goes to.
func (hs *hosts) level(seed uint64, p *preference) *level {
	if len(hs.levels) == 1 {
		return &hs.levels[0]
	}
	draw := uint32(seed % 100)
	if !p.Hashed {
		draw = rand.Uint32N(100)
	}
	if p.AvoidPriorities > 0 && len(p.tried) >= p.AvoidPriorities {
		if l := hs.untried(draw, p); l != nil {
			return l
		}
	}
	for i := range hs.levels {
		if l := &hs.levels[i]; draw < l.load {
			return l
		} else {
			draw -= l.load
		}
	}
	return &hs.levels[0]
}

// untried is a level of which no host was tried; nil if there is none that is fit
// for anything.
func (hs *hosts) untried(draw uint32, p *preference) *level {
	tried := p.tried[:len(p.tried)-len(p.tried)%p.AvoidPriorities]
	total := uint32(0)
	for i := range hs.levels {
		if l := &hs.levels[i]; !l.triedIn(tried) {
			total += l.health
		}
	}
	if total == 0 {
		return nil
	}
	draw = draw * min(100, total) / 100
	for i := range hs.levels {
		l := &hs.levels[i]
		switch {
		case l.triedIn(tried):
		case draw < l.health:
			return l
		default:
			draw -= l.health
		}
	}
	return nil
}

func (l *level) triedIn(tried []wire.Attempt) bool {
	return slices.ContainsFunc(l.hosts, func(h *Host) bool { return h.triedIn(tried) })
}

// maxCandidates bounds how often a picker is asked before hosts are taken in turn.
const maxCandidates = 64

// pick returns a host of the level that suits, nil if there is none.
func (l *level) pick(now time.Time, seed uint64, p *preference, passed []*Host) *Host {
	var paused, tried *Host
	rejected := 0
	look := func(h *Host) bool {
		switch {
		case len(passed) > 0 && slices.Contains(passed, h):
		case p.AvoidHosts && rejected < max(1, p.HostAttempts) && h.triedIn(p.tried):
			rejected++
			tried = h
		case h.paused(now):
			if paused == nil {
				paused = h
			}
		default:
			return true
		}
		return false
	}
	for n := range min(len(l.hosts)+4, maxCandidates) {
		if h := l.picker.candidate(seed, n); look(h) {
			return h
		}
	}
	start := int(seed % uint64(len(l.hosts)))
	for n := range l.hosts {
		if h := l.hosts[(start+n)%len(l.hosts)]; look(h) {
			return h
		}
	}
	if paused == nil {
		return tried
	}
	return paused
}
