package xds

import (
	"bytes"
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
	body []byte
	// removed says that the control plane has taken it away. It stays as long as
	// a cluster needs it.
	removed bool
	// hold is not nil while a newer one is held back.
	hold *hold
}

// applyEndpoints takes over an update of endpoints. All of it is decoded before
// anything changes.
func (w *Watcher) applyEndpoints(update *ads.Update, now time.Time) ([]string, error) {
	var notes []string
	values := make([]*mesh.EndpointSet, len(update.Resources))
	for i, r := range update.Resources {
		if old := w.sets[r.Name]; old != nil && bytes.Equal(old.body, r.Body) {
			continue
		}
		value, told, err := resource.Endpoints(r.Body)
		if err != nil {
			return nil, fmt.Errorf("resource %q: %w", r.Name, err)
		}
		value.Name = r.Name
		values[i] = value
		notes = append(notes, told...)
	}
	for i, r := range update.Resources {
		s := w.sets[r.Name]
		if s == nil {
			s = &endpointSet{}
			w.sets[r.Name] = s
		}
		s.removed = false
		if values[i] != nil {
			s.body = r.Body
			w.setEndpoints(s, values[i], now)
		}
	}
	for _, name := range update.Removed {
		if s := w.sets[name]; s != nil {
			s.removed = true
		}
	}
	return notes, nil
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
	s.force = next
	w.send(s)
}

// send gives a set to whom it is for, if its cluster is in force.
func (w *Watcher) send(s *endpointSet) {
	if w.force == nil {
		return
	}
	for _, c := range w.force.Clusters {
		if endpointName(c) == s.force.Name {
			w.endpoints.SetEndpoints(s.force)
			return
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
