package xds

import (
	"slices"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/connect/xds/secret"
)

// linger is how long a removed cluster or route table is kept after nothing
// names it, for exchanges that are about to look it up.
const linger = 5 * time.Second

// plan makes the next snapshot out of what was received. It lives for one
// attempt.
type plan struct {
	w     *Watcher
	now   time.Time
	force *mesh.Snapshot // the snapshot in force, nil before the first
	next  *mesh.Snapshot
	// warming are clusters, pending route tables that cannot be part of next
	// yet and have nothing in force in their place.
	warming, pending map[string]bool
	// waits says that something is not whole yet.
	waits bool
	// asks says that a secret has not come that something is waited for with. The
	// first snapshot does not wait for it: a cluster in it may lead to the server.
	asks bool
	// wake is when to try again though nothing has come; zero for never.
	wake time.Time
}

func (w *Watcher) plan(now time.Time) *plan {
	p := &plan{
		w: w, now: now, force: w.force,
		next: &mesh.Snapshot{
			Listeners: map[string]*mesh.Listener{}, Routes: map[string]*mesh.Route{}, Clusters: map[string]*mesh.Cluster{},
		},
		warming: map[string]bool{}, pending: map[string]bool{},
	}
	p.expire()
	p.clusters()
	p.aggregates()
	p.routes()
	p.listeners()
	p.prune()
	return p
}

// at asks for another attempt no later than at t.
func (p *plan) at(t time.Time) {
	if t.After(p.now) && (p.wake.IsZero() || t.Before(p.wake)) {
		p.wake = t
	}
}

// until reports whether the time to wait, which began at since, is not over.
func (p *plan) until(since time.Time, wait mesh.Wait) bool {
	going := p.going(since, wait)
	p.waits = p.waits || going
	return going
}

// going tells whether a wait is not over, and asks for another attempt when it is.
func (p *plan) going(since time.Time, wait mesh.Wait) bool {
	end, ends := wait.End(since)
	if ends && !p.now.Before(end) {
		return false
	}
	if ends {
		p.at(end)
	}
	return true
}

// secret reports whether a secret is still waited for, since that time.
func (p *plan) secret(reading *secret.Reading, since time.Time) bool {
	wait, waiting := reading.Waiting()
	if !waiting || !p.going(since, wait) {
		return false
	}
	p.asks = true
	return true
}

func (p *plan) clusters() {
	for name, e := range p.w.clusters.entries {
		if p.secret(e.reading, e.since) {
			p.keepCluster(name)
			continue
		}
		if set := endpointName(e.value); set != "" && p.w.sets[set] == nil {
			if p.until(e.first, e.value.EndpointWait) {
				p.keepCluster(name)
				continue
			}
			if !e.told {
				e.told = true
				p.w.timedOut(resource.EndpointsType, set)
				p.w.log.Warn("cluster has no endpoints from Consul yet, serving without it", "cluster", name, "waited", p.now.Sub(e.first).Round(time.Millisecond))
			}
		}
		p.next.Clusters[name] = e.value
	}
}

// aggregates waits with an aggregate for its members, which may be aggregates too.
func (p *plan) aggregates() {
	for before := -1; before != len(p.warming); {
		before = len(p.warming)
		for name, c := range p.next.Clusters {
			if slices.ContainsFunc(c.Members, func(member string) bool { return p.warming[member] }) {
				p.keepCluster(name)
			}
		}
	}
}

// keepCluster leaves in force what is in force in place of a cluster.
func (p *plan) keepCluster(name string) {
	delete(p.next.Clusters, name)
	if p.force != nil && p.force.Clusters[name] != nil {
		p.next.Clusters[name] = p.force.Clusters[name]
		return
	}
	p.warming[name] = true
}

func (p *plan) routes() {
	for name, e := range p.w.routes.entries {
		ready := true
		clustersOfRoute(e.value, func(cluster string) { ready = ready && !p.warming[cluster] })
		switch {
		case ready:
			p.next.Routes[name] = e.value
		case p.force != nil && p.force.Routes[name] != nil:
			p.next.Routes[name] = p.force.Routes[name]
		default:
			p.pending[name] = true
		}
	}
}

func (p *plan) listeners() {
	for name, e := range p.w.listeners.entries {
		if p.removed(name, e) {
			delete(p.w.listeners.entries, name)
			continue
		}
		switch {
		case !p.secret(e.reading, e.since) && p.whole(e):
			p.next.Listeners[name] = e.value
		case p.force != nil && p.force.Listeners[name] != nil:
			p.next.Listeners[name] = p.force.Listeners[name]
		}
	}
}

// removed tells whether a listener is to go now. For a while after a reconnect
// an outbound one stays.
func (p *plan) removed(name string, e *entry[mesh.Listener]) bool {
	if e.gone.IsZero() || p.moving(name, e) {
		return false
	}
	end := p.w.doubtEnds()
	if e.value.Direction == mesh.Inbound || !p.now.Before(end) || e.gone.Before(p.w.reconnected) {
		return true
	}
	for other, o := range p.w.listeners.entries {
		if other != name && o.gone.IsZero() && collide(o.value.Address, e.value.Address) {
			return true
		}
	}
	if !e.told {
		e.told = true
		p.w.countHold()
		p.w.log.Warn("Consul removes a listener right after a reconnect: it is kept for a while", "listener", name, "until", end)
	}
	p.at(end)
	return false
}

// moving tells whether a listener that was removed has only moved to another address,
// and is not whole there yet: Consul then sends one whose name differs behind the
// first colon. It goes when the other one comes, as it would if nothing were awaited.
func (p *plan) moving(name string, e *entry[mesh.Listener]) bool {
	if p.force == nil || p.force.Listeners[name] == nil {
		return false
	}
	base, _, ok := strings.Cut(name, ":")
	for other, o := range p.w.listeners.entries {
		if !ok || other == name || !o.gone.IsZero() || p.force.Listeners[other] != nil || collide(o.value.Address, e.value.Address) {
			continue
		}
		if its, _, ok := strings.Cut(other, ":"); ok && its == base && (p.secret(o.reading, o.since) || !p.whole(o)) {
			return true
		}
	}
	return false
}

// whole tells whether all that a listener needs is there, or was waited for.
func (p *plan) whole(e *entry[mesh.Listener]) bool {
	ready := true
	namesOf(e.value, func(cluster string) {
		ready = ready && !p.warming[cluster]
	}, func(h *mesh.HTTP) {
		waits := awaited{h.RouteName, h.RouteWait}
		switch { // a table may be there and wait for a cluster, or not be there at all
		case p.next.Routes[h.RouteName] != nil:
			delete(e.awaited, waits)
		case p.pending[h.RouteName]:
			ready = false
		case p.until(e.since, h.RouteWait):
			if ready = false; e.awaited == nil {
				e.awaited = map[awaited]bool{}
			}
			e.awaited[waits] = true
		case e.awaited[waits]:
			delete(e.awaited, waits)
			p.w.timedOut(resource.RouteType, h.RouteName)
		}
	})
	return ready
}

// prune drops removed clusters and route tables that nothing names any more.
func (p *plan) prune() {
	clusters, routes := map[string]bool{}, map[string]bool{}
	use := func(name string) { p.use(name, clusters) }
	for _, l := range p.next.Listeners {
		namesOf(l, use, func(h *mesh.HTTP) { routes[h.RouteName] = true })
	}
	for name, e := range p.w.routes.entries {
		if p.drops(e.gone, routes[name]) {
			delete(p.next.Routes, name)
			delete(p.w.routes.entries, name)
		}
	}
	for _, e := range p.w.listeners.entries { // those that are waited for are asked for, too
		namesOf(e.value, func(string) {}, func(h *mesh.HTTP) { routes[h.RouteName] = true })
	}
	p.w.keepCounts(resource.RouteType, func(name string) bool { return routes[name] || p.w.routes.entries[name] != nil })
	for _, r := range p.next.Routes {
		clustersOfRoute(r, use)
	}
	for name, e := range p.w.clusters.entries {
		if p.drops(e.gone, clusters[name]) {
			delete(p.next.Clusters, name)
			delete(p.w.clusters.entries, name)
		}
	}
}

// use marks a cluster and, if it is an aggregate, its members.
func (p *plan) use(name string, used map[string]bool) {
	if used[name] {
		return
	}
	used[name] = true
	if c := p.next.Clusters[name]; c != nil {
		for _, member := range c.Members {
			p.use(member, used)
		}
	}
}

// drops tells whether what was removed at gone can go now.
func (p *plan) drops(gone time.Time, used bool) bool {
	if gone.IsZero() || used {
		return false
	}
	end := gone.Add(linger)
	if doubt := p.w.doubtEnds(); doubt.After(end) {
		end = doubt
	}
	p.at(end)
	return !p.now.Before(end)
}

// complete tells whether a first snapshot may be made of it.
func (p *plan) complete() bool {
	return p.w.clusters.answered && p.w.listeners.answered && !p.waits
}

// same tells whether nothing would change.
func (p *plan) same() bool {
	return p.force != nil && sameContent(p.force, p.next)
}
