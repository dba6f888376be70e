package xds

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// Change is what one update has changed of what is in force. It holds no secrets:
// keys and certificates are told by their hash.
type Change struct {
	// Version is that of the snapshot that it made; 0 for endpoints, which make none.
	Version uint64    `json:"version,omitempty"`
	At      time.Time `json:"at"`
	// Resources are what was added, removed and changed, in order.
	Resources []ChangedResource `json:"resources"`
	// More is how many further resources were changed that are not told.
	More int `json:"more,omitempty"`
}

// ChangedResource is one resource of a Change.
type ChangedResource struct {
	// Kind is "listener", "route", "cluster" or "endpoints".
	Kind string `json:"kind"`
	Name string `json:"name"`
	// What is "added", "removed" or "changed"; Fields are then what of it, a line
	// each, and More how many further ones there are.
	What   string   `json:"what"`
	Fields []string `json:"fields,omitempty"`
	More   int      `json:"more,omitempty"`
}

// Bounds of what is remembered.
const (
	maxChanges   = 32 // of snapshots, and as many of endpoints
	maxResources = 50 // of one change
	maxFields    = 20 // of one resource
)

// history is the last changes. Those of endpoints are many and cheap to keep: what
// differs is found when somebody asks.
type history struct {
	snapshots []Change
	endpoints []changedSet
}

type changedSet struct {
	at          time.Time
	before, now *mesh.EndpointSet
}

func (h *history) snapshot(c Change) {
	if len(c.Resources) == 0 {
		return
	}
	if len(h.snapshots) == maxChanges {
		h.snapshots = slices.Delete(h.snapshots, 0, 1)
	}
	h.snapshots = append(h.snapshots, c)
}

func (h *history) set(before, now *mesh.EndpointSet, at time.Time) {
	if len(h.endpoints) == maxChanges {
		h.endpoints = slices.Delete(h.endpoints, 0, 1)
	}
	h.endpoints = append(h.endpoints, changedSet{at, before, now})
}

// Changes are the last n changes of what is in force, the latest first; 0 means all
// that are remembered.
func (w *Watcher) Changes(n int) []Change {
	w.mu.Lock()
	all := slices.Clone(w.history.snapshots)
	sets := slices.Clone(w.history.endpoints)
	w.mu.Unlock()
	for _, s := range sets {
		c := Change{At: s.at, Resources: []ChangedResource{{Kind: "endpoints", Name: s.now.Name, What: "changed"}}}
		r := &c.Resources[0]
		if s.before == nil {
			r.What = "added"
		}
		r.lines(endpointLines(s.before, s.now))
		if s.before == nil || len(r.Fields) > 0 {
			all = append(all, c)
		}
	}
	slices.SortStableFunc(all, func(a, b Change) int { return b.At.Compare(a.At) })
	if n > 0 {
		all = all[:min(n, len(all))]
	}
	return all
}

// lines keeps as many as there may be.
func (r *ChangedResource) lines(all []string) {
	r.Fields = all[:min(len(all), maxFields)]
	r.More = len(all) - len(r.Fields)
}

// changeOf compares two snapshots; before may be nil.
func changeOf(before, next *mesh.Snapshot, at time.Time) Change {
	if before == nil {
		before = &mesh.Snapshot{}
	}
	c := Change{Version: next.Version, At: at}
	changed(&c, "listener", before.Listeners, next.Listeners)
	changed(&c, "route", before.Routes, next.Routes)
	changed(&c, "cluster", before.Clusters, next.Clusters)
	slices.SortFunc(c.Resources, func(a, b ChangedResource) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name))
	})
	return c
}

func changed[T any](c *Change, kind string, before, next map[string]*T) {
	add := func(name, what string, fields func() []string) {
		if len(c.Resources) >= maxResources {
			c.More++
			return
		}
		r := ChangedResource{Kind: kind, Name: name, What: what}
		if fields != nil {
			r.lines(fields())
		}
		c.Resources = append(c.Resources, r)
	}
	for name, value := range next {
		switch old := before[name]; {
		case old == nil:
			add(name, "added", nil)
		case old != value:
			add(name, "changed", func() []string { return differences(old, value) })
		}
	}
	for name := range before {
		if next[name] == nil {
			add(name, "removed", nil)
		}
	}
}

// endpointLines says what differs, an endpoint a line.
func endpointLines(before, now *mesh.EndpointSet) []string {
	old := map[string]*mesh.Endpoint{}
	if before != nil {
		for i := range before.Endpoints {
			old[before.Endpoints[i].Address.String()] = &before.Endpoints[i]
		}
	}
	var all []string
	for i := range now.Endpoints {
		e := &now.Endpoints[i]
		name := e.Address.String()
		if was := old[name]; was == nil {
			all = append(all, fmt.Sprintf("+ %s %s", name, e.Health.String()))
		} else {
			for _, line := range differences(was, e) {
				all = append(all, name+" "+line)
			}
			delete(old, name)
		}
	}
	for name := range old {
		all = append(all, "- "+name)
	}
	slices.Sort(all)
	return all
}
