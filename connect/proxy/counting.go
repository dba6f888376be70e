package proxy

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/trace"
)

// counter counts by Envoy's names what passes an HTTP chain.
func (cs *chains) counter(l *mesh.Listener, d *mesh.FilterChain) *stack.HTTPCounter {
	return stack.CountHTTP(cs.clusters.Registry(), d.HTTP.StatPrefix, cmp.Or(l.StatName, l.Address.String()))
}

// tracing counts why requests of an HTTP chain are traced.
func (cs *chains) tracing(d *mesh.FilterChain) *trace.Counts {
	return stats.Own(cs.clusters.Registry().Scope("http."+stats.Name(d.HTTP.StatPrefix)+".tracing."), (*trace.Counts).Each)
}

// counts are the counters of a chain of network filters.
type counts struct {
	of       *chain
	tcp      func() stack.TCPStats // nil for HTTP
	entrance func() stack.EntranceStats
}

// tally is what chains of network filters count together that have one stat_prefix,
// also those that are gone: counters do not go back as long as there is one of the
// prefix.
type tally struct {
	mu     sync.Mutex // guards:
	living []counts
	// leaving are gone but for their last connections; kept is what those have counted
	// that are gone for good, by what stands before their names.
	leaving []counts
	kept    map[string]*stats.Sum
}

// publishCounts lets the counters of living chains be read, and forgets those of HTTP
// that no chain has any more.
func (cs *chains) publishCounts() {
	var all []counts
	managers := map[string]*stack.HTTPCounter{}
	for _, b := range cs.built {
		for _, p := range b.parts {
			if p.definition.HTTP != nil {
				counter := cs.counter(b.listener, p.definition)
				_, place := counter.Scopes()
				managers[place] = counter
			}
			switch c := p.chain; {
			case c.tcp != nil:
				all = append(all, counts{c, c.tcp.Stats, c.tcp.Entrance})
			case c.guard != nil:
				all = append(all, counts{c, nil, c.guard.Entrance})
			}
		}
	}
	cs.tally.turn(all)
	cs.forget(managers)
}

// forget drops what connection managers have counted that are gone for good: those of a
// prefix with connections stay until there is another update.
func (cs *chains) forget(living map[string]*stack.HTTPCounter) {
	scopes := map[string]bool{} // whether they live
	for place, counter := range living {
		all, _ := counter.Scopes()
		scopes[all], scopes[place] = true, true
	}
	gone := false
	for place, counter := range cs.managers {
		all, _ := counter.Scopes()
		switch {
		case scopes[place]:
		case counter.Busy():
			living[place] = counter
			scopes[all], scopes[place] = true, true
		}
	}
	for place, counter := range cs.managers {
		if scopes[place] {
			continue
		}
		scopes[place], gone = false, true
		if all, _ := counter.Scopes(); !scopes[all] {
			scopes[all] = false
			counter.Drop()
		}
	}
	cs.managers = living
	if gone {
		cs.clusters.Registry().Forget(func(scope string) (lives, known bool) {
			lives, known = scopes[scope]
			return lives, known
		})
	}
}

// turn makes next those that live.
func (t *tally) turn(next []counts) {
	t.mu.Lock()
	defer t.mu.Unlock()
	stays := make(map[*chain]bool, len(next))
	for i := range next {
		stays[next[i].of] = true
	}
	for _, c := range t.living {
		if !stays[c.of] {
			t.leaving = append(t.leaving, c)
		}
	}
	t.living = next
	t.settle()
	if len(t.kept) == 0 {
		return
	}
	wanted := map[string]bool{}
	for _, those := range [][]counts{t.living, t.leaving} {
		for i := range those {
			those[i].each(func(owner string, _ numbers) bool {
				wanted[owner] = true
				return true
			})
		}
	}
	for owner := range t.kept {
		if !wanted[owner] {
			delete(t.kept, owner)
		}
	}
}

// settle keeps the numbers alone of what has no connections any more. The lock is held.
func (t *tally) settle() {
	left := t.leaving[:0]
	for _, c := range t.leaving {
		if c.entrance().Limit.Active > 0 || c.tcp != nil && c.active() > 0 {
			left = append(left, c)
			continue
		}
		c.each(func(owner string, all numbers) bool {
			sum := t.kept[owner]
			if sum == nil {
				if t.kept == nil {
					t.kept = map[string]*stats.Sum{}
				}
				sum = &stats.Sum{}
				t.kept[owner] = sum
			}
			into(sum, all)
			sum.Keep()
			return true
		})
	}
	clear(t.leaving[len(left):])
	t.leaving = left
}

func (c *counts) active() int64 {
	s := c.tcp()
	return s.Active
}

// numbers yields numbers with names below that of their owner.
type numbers func(yield func(stats.Stat) bool) (more bool)

func into(sum *stats.Sum, all numbers) {
	all(func(s stats.Stat) bool {
		sum.Add(s)
		return true
	})
}

// read yields what all count.
func (t *tally) read(yield func(stats.Stat) bool) bool {
	t.mu.Lock()
	t.settle()
	all := slices.Concat(t.living, t.leaving)
	sums := make(map[string]*stats.Sum, len(t.kept))
	for owner, kept := range t.kept {
		sums[owner] = &stats.Sum{}
		sums[owner].AddAll(kept)
	}
	t.mu.Unlock()
	owners := make(map[string]bool, len(all))
	for i := range all {
		all[i].each(func(owner string, _ numbers) bool {
			if owners[owner] && sums[owner] == nil {
				sums[owner] = &stats.Sum{}
			}
			owners[owner] = true
			return true
		})
	}
	for i := range all {
		if !all[i].each(func(owner string, all numbers) bool {
			if sum := sums[owner]; sum != nil {
				into(sum, all)
				return true
			}
			return all.below(owner, yield)
		}) {
			return false
		}
	}
	for owner, sum := range sums {
		if !numbers(sum.Each).below(owner, yield) {
			return false
		}
	}
	return true
}

// below yields with owner before the names.
func (n numbers) below(owner string, yield func(stats.Stat) bool) bool {
	return n(func(s stats.Stat) bool {
		s.Owner = owner
		return yield(s)
	})
}

// each tells of the owners that a chain has, and what each of them counts.
func (c *counts) each(f func(owner string, all numbers) bool) bool {
	if c.tcp != nil {
		s := c.tcp()
		if !f("tcp."+stats.Name(s.StatPrefix)+".", func(yield func(stats.Stat) bool) bool { return eachTCP(&s, yield) }) {
			return false
		}
	}
	e := c.entrance()
	if e.Intentions != "" && !f(stats.Name(strings.TrimSuffix(e.Intentions, "."))+".rbac.", e.EachDecision) {
		return false
	}
	return e.Limit.StatPrefix == "" || f("connection_limit."+stats.Name(e.Limit.StatPrefix)+".", e.Limit.Each)
}

// neverTCP are Envoy's counters of tcp_proxy for what is not told apart here.
const neverTCP = "downstream_flow_control_paused_reading_total downstream_flow_control_resumed_reading_total early_data_received_count_total" +
	" upstream_flush_total"

func eachTCP(s *stack.TCPStats, yield func(stats.Stat) bool) bool {
	for name, value := range s.All() {
		if !yield(stats.Stat{Name: name, Value: value}) {
			return false
		}
	}
	return yield(stats.Stat{Name: "downstream_cx_active", Kind: stats.KindGauge, Value: s.Active}) &&
		yield(stats.Stat{Name: "upstream_flush_active", Kind: stats.KindGauge}) && stats.Zeros("", neverTCP, yield)
}
