package xds

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/connect/xds/secret"
)

// Static are resources that do not come from the control plane but stand in the
// bootstrap file (xDS: Bootstrap.static_resources), each as JSON. They are part
// of every snapshot, also of one before the control plane has answered, and the
// control plane cannot change them, as with Envoy. What is not understood is
// refused, one by one.
type Static struct {
	Clusters, Listeners, Secrets []json.RawMessage
}

// addStatic takes over the static resources.
func (w *Watcher) addStatic(static *Static, now time.Time) {
	for i, text := range static.Secrets {
		name, body, err := resource.FromJSON(resource.SecretType, text)
		if err != nil {
			w.log.Warn("static secret is not understood, what uses it is refused", "number", i, "name", name, "reason", err.Error())
			continue
		}
		if err := w.secrets.Set(mesh.SecretRef{Name: name}, body, ""); err != nil {
			w.log.Warn("static secret is not good, what uses it is refused", "name", name, "reason", err.Error())
		}
	}
	addStatic(w, w.clusters, resource.ClusterType, static.Clusters, now, func(name, reason string) *mesh.Cluster {
		return &mesh.Cluster{Name: name, Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{Name: name}, Refusal: reason}
	})
	addStatic(w, w.listeners, resource.ListenerType, static.Listeners, now, func(name, reason string) *mesh.Listener {
		return &mesh.Listener{Name: name, Refusal: reason}
	})
}

// addStatic puts resources of one type into their table; refused makes the noun
// of one that is not understood.
func addStatic[T any](w *Watcher, t *table[T], typ string, all []json.RawMessage, now time.Time, refused func(name, reason string) *T) {
	for i, text := range all {
		name, body, err := resource.FromJSON(typ, text)
		var value *T
		var reading *secret.Reading
		var notes []string
		if err == nil {
			value, reading, notes, err = t.read(body)
		}
		if name == "" {
			name = fmt.Sprintf("static-%d", i)
		}
		if err != nil {
			value = refused(name, err.Error())
		}
		w.tellNotes(notes)
		if t.entries[name] != nil {
			w.log.Warn("two static resources have one name, the first is served", "type", typ, "name", name)
			continue
		}
		t.entries[name] = &entry[T]{value: value, reading: reading, body: (&packer{}).pack(body), first: now, since: now, static: true}
	}
}

// startStatic puts the static resources in force by themselves, since what
// tells of our readiness must be there before there is any.
func (w *Watcher) startStatic(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.hasStatic() && w.force == nil {
		w.assemble(now)
	}
}

func (w *Watcher) hasStatic() bool {
	for _, e := range w.listeners.entries {
		if e.static {
			return true
		}
	}
	return false
}

// onlyStatic leaves of the next snapshot what does not need the control plane.
func (p *plan) onlyStatic() {
	for name := range p.next.Listeners {
		if e := p.w.listeners.entries[name]; e == nil || !e.static {
			delete(p.next.Listeners, name)
		}
	}
	for name := range p.next.Clusters {
		if e := p.w.clusters.entries[name]; e == nil || !e.static {
			delete(p.next.Clusters, name)
		}
	}
	clear(p.next.Routes)
}

// StaticRefusals lists what of the static resources is refused, before Run.
func (w *Watcher) StaticRefusals() []Refusal {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := w.plan(time.Now())
	p.onlyStatic()
	return Refusals(p.next)
}

// IsStaticCluster tells whether a cluster stands in the bootstrap file.
func (w *Watcher) IsStaticCluster(name string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	e := w.clusters.entries[name]
	return e != nil && e.static
}
