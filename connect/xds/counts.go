package xds

import (
	"maps"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
)

// TypeStatus is what came of one type of resource, or of one resource.
type TypeStatus struct {
	// Taken counts responses that were taken, Rejected those that were not.
	Taken, Rejected uint64
	// TimedOut counts waits for it that came to their end without it, Empty responses
	// that took it away.
	TimedOut, Empty uint64
	// Last is when the last one was taken, Version what the control plane calls it; ""
	// if it does not say.
	Last    time.Time
	Version string
}

// Turnover counts resources of one kind that came into force, were replaced there,
// and have gone.
type Turnover struct{ Added, Modified, Removed uint64 }

// counts are those that Status tells, and those of single resources.
type counts struct {
	types map[string]TypeStatus
	// named are those of route tables and endpoint sets that are there or are needed, by
	// type and name.
	named               map[[2]string]TypeStatus
	clusters, listeners Turnover
	controlPlane        string
	downs               uint64
}

// maxNamed bounds of how many resources it is counted what came.
const maxNamed = 20_000

func (s *TypeStatus) count(err bool, version string, now time.Time) {
	if err {
		s.Rejected++
		return
	}
	s.Taken++
	s.Last, s.Version = now, version
}

// update counts a response; bad are the names that could not be read.
func (c *counts) update(u *ads.Update, bad unread, failed bool, now time.Time) {
	if c.types == nil {
		c.types, c.named = map[string]TypeStatus{}, map[[2]string]TypeStatus{}
	}
	one := c.types[u.Type]
	one.count(failed, u.Version, now)
	c.types[u.Type] = one
	if u.ControlPlane != "" {
		c.controlPlane = u.ControlPlane
	}
	if bad == nil {
		return
	}
	for _, name := range u.Removed {
		key := [2]string{u.Type, name}
		if one, known := c.named[key]; known {
			one.Empty++
			c.named[key] = one
		}
	}
	for _, r := range u.Resources {
		key := [2]string{u.Type, r.Name}
		one, known := c.named[key]
		if !known && len(c.named) >= maxNamed {
			continue
		}
		_, wrong := bad[r.Name]
		one.count(wrong, r.Version, now)
		c.named[key] = one
	}
}

// timedOut counts a wait for one resource that is over.
func (w *Watcher) timedOut(typ, name string) {
	w.statusMu.Lock()
	defer w.statusMu.Unlock()
	c := &w.counts
	if c.types == nil {
		c.types, c.named = map[string]TypeStatus{}, map[[2]string]TypeStatus{}
	}
	key := [2]string{typ, name}
	one, known := c.named[key]
	if !known && len(c.named) >= maxNamed {
		return
	}
	one.TimedOut++
	c.named[key] = one
}

// keepCounts forgets what was counted of resources of a type that are not there and that
// nothing needs any more.
func (w *Watcher) keepCounts(typ string, needed func(name string) bool) {
	w.statusMu.Lock()
	defer w.statusMu.Unlock()
	for key := range w.counts.named {
		if key[0] == typ && !needed(key[1]) {
			delete(w.counts.named, key)
		}
	}
}

// warming counts what has come and cannot be in force yet.
func warming[T any](received *table[T], next map[string]*T) (n int) {
	for name, e := range received.entries {
		if e.gone.IsZero() && next[name] != e.value {
			n++
		}
	}
	return n
}

// Updates tells what came of single resources of a type, by name: of route tables and
// endpoint sets.
func (w *Watcher) Updates(typ string) map[string]TypeStatus {
	w.statusMu.Lock()
	defer w.statusMu.Unlock()
	all := make(map[string]TypeStatus, len(w.counts.named))
	for key, one := range w.counts.named {
		if key[0] == typ {
			all[key[1]] = one
		}
	}
	return all
}

// tell puts into a status what it tells of it.
func (c *counts) tell(s *Status) {
	s.Types, s.Clusters, s.Listeners = maps.Clone(c.types), c.clusters, c.listeners
	s.ControlPlane, s.Downs = c.controlPlane, c.downs
}

// turn counts what changes between two snapshots; before may be nil.
func (c *counts) turn(before, next *mesh.Snapshot) {
	if before == nil {
		before = &mesh.Snapshot{}
	}
	turnOver(&c.clusters, before.Clusters, next.Clusters)
	turnOver(&c.listeners, before.Listeners, next.Listeners)
}

func turnOver[T any](t *Turnover, before, next map[string]*T) {
	for name, value := range next {
		switch old := before[name]; {
		case old == nil:
			t.Added++
		case old != value:
			t.Modified++
		}
	}
	for name := range before {
		if next[name] == nil {
			t.Removed++
		}
	}
}
