package xds

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// endpointSet is the endpoints of one name.
type endpointSet struct {
	// force is what was given to Endpoints last, or would have been if its
	// cluster were there.
	force *mesh.EndpointSet
	// body is what the latest one was decoded from, held back or not.
	body body
	// version is the control plane's name of body.
	version string
	// removed says that the control plane has taken it away. It stays as long as
	// a cluster needs it.
	removed bool
	// hold is not nil while a newer one is held back.
	hold *hold
}

// applyEndpoints takes over an update of endpoints, as [table.apply] does.
func (w *Watcher) applyEndpoints(update *ads.Update, now time.Time) ([]string, error) {
	var notes []string
	var bad []error
	var packer packer
	for _, r := range update.Resources {
		told, err := w.takeEndpoints(r, &packer, now)
		notes = append(notes, told...)
		if w.unreadSets.note(r.Name, err); err != nil {
			bad = append(bad, fmt.Errorf("resource %q: %w", r.Name, err))
		}
	}
	for _, name := range update.Removed {
		w.unreadSets.note(name, nil)
		if s := w.sets[name]; s != nil {
			s.removed = true
		}
	}
	return notes, errors.Join(bad...)
}

func (w *Watcher) takeEndpoints(r ads.Resource, packer *packer, now time.Time) ([]string, error) {
	s := w.sets[r.Name]
	if s != nil && s.body.is(r.Body) {
		s.removed, s.version = false, r.Version
		return nil, nil
	}
	value, notes, err := resource.Endpoints(r.Body)
	if err != nil {
		return nil, err
	}
	value.Name = r.Name
	if s == nil {
		s = &endpointSet{}
		w.sets[r.Name] = s
	}
	s.removed, s.version, s.body = false, r.Version, packer.pack(r.Body)
	w.setEndpoints(s, value, now)
	return notes, nil
}

// heldSets is the versions of the endpoint sets that are there.
func (w *Watcher) heldSets() map[string]string {
	held := make(map[string]string, len(w.sets))
	for name, s := range w.sets {
		if !s.removed && s.version != "" {
			held[name] = s.version
		}
	}
	return held
}

// receivedSets is all endpoint sets that are there, as they came.
func (w *Watcher) receivedSets() []ads.Resource {
	all := make([]ads.Resource, 0, len(w.sets))
	for name, s := range w.sets {
		if !s.removed && s.body.size > 0 {
			all = append(all, ads.Resource{Name: name, Version: s.version, Body: s.body.bytes()})
		}
	}
	return all
}

// setEndpoints puts a set in force, or holds it back.
func (w *Watcher) setEndpoints(s *endpointSet, next *mesh.EndpointSet, now time.Time) {
	switch {
	case s.hold != nil && next.Healthy() == 0:
		s.hold.next = next
		return
	case s.hold != nil:
		w.release(s, "Consul sends healthy endpoints again", next)
		return
	case w.doubts(s, next, now) && w.holdBack(s, next):
		return
	}
	w.swap(s, next)
}

// swap puts next in force.
func (w *Watcher) swap(s *endpointSet, next *mesh.EndpointSet) {
	before := s.force
	s.force = next
	w.history.set(before, next, time.Now())
	w.send(s)
}

// send gives a set to whom it is for, if its cluster is in force.
func (w *Watcher) send(s *endpointSet) {
	if w.served[s.force.Name] {
		w.endpoints.SetEndpoints(s.force)
	}
}

// serve notes which endpoint sets the clusters in force use, since a set must not
// cost a look at all of them.
func (w *Watcher) serve(force *mesh.Snapshot) {
	w.served = make(map[string]bool, len(force.Clusters))
	for _, c := range force.Clusters {
		if set := endpointName(c); set != "" {
			w.served[set] = true
		}
	}
}

// deliver gives away the sets of clusters that next brings.
func (w *Watcher) deliver(next *mesh.Snapshot) {
	for name, c := range next.Clusters {
		set := endpointName(c)
		if set == "" || w.sets[set] == nil {
			continue
		}
		if w.force != nil && w.force.Clusters[name] != nil && endpointName(w.force.Clusters[name]) == set {
			continue
		}
		w.endpoints.SetEndpoints(w.sets[set].force)
	}
}

// dropSets forgets endpoint sets of clusters that are no more. A set comes
// after its cluster, so one without a cluster is left over, unless the control
// plane has not told of clusters yet.
func (w *Watcher) dropSets() {
	needed := map[string]bool{}
	for _, e := range w.clusters.entries {
		needed[endpointName(e.value)] = true
	}
	for name, s := range w.sets {
		if !needed[name] && (s.removed || w.clusters.answered) {
			if s.hold != nil {
				s.hold.cancel()
				s.hold = nil
			}
			delete(w.sets, name)
		}
	}
	w.keepCounts(resource.EndpointsType, func(name string) bool { return needed[name] || w.sets[name] != nil })
}

// inAggregate tells whether the endpoint set is that of a member of an
// aggregate cluster.
func (w *Watcher) inAggregate(set string) bool {
	for _, e := range w.clusters.entries {
		for _, member := range e.value.Members {
			if m := w.clusters.entries[member]; m != nil && endpointName(m.value) == set {
				return true
			}
		}
	}
	return false
}

// healthy returns the addresses of the healthy endpoints.
func healthy(set *mesh.EndpointSet) []mesh.Address {
	var out []mesh.Address
	for i := range set.Endpoints {
		if set.Endpoints[i].Health == mesh.Healthy {
			out = append(out, set.Endpoints[i].Address)
		}
	}
	return slices.Clip(out)
}
