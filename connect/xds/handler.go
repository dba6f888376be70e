package xds

import (
	"time"

	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// doubt is for how long after a reconnect the control plane is not believed
// when it takes something away.
const doubt = 60 * time.Second

// handler is a Watcher as an [ads.Handler].
type handler struct{ w *Watcher }

var _ ads.Handler = handler{}

// Held implements [ads.Handler].
func (h handler) Held(typ string) map[string]string {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	switch typ {
	case resource.ClusterType:
		return w.clusters.held()
	case resource.EndpointsType:
		return w.heldSets()
	case resource.ListenerType:
		return w.listeners.held()
	case resource.RouteType:
		return w.routes.held()
	default:
		return nil
	}
}

// Up implements [ads.Handler].
func (h handler) Up() {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	if w.clusters.answered || w.listeners.answered {
		w.reconnected = now
	}
	w.up(now)
}

// Down implements [ads.Handler].
func (h handler) Down(reason *ads.Error) {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.down(reason, time.Now())
}

// Silent implements [ads.Handler].
func (h handler) Silent() {
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	h.w.silent()
}

// Update implements [ads.Handler].
func (h handler) Update(update *ads.Update) error {
	w := h.w
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	var notes []string
	var err error
	switch update.Type {
	case resource.ClusterType:
		notes, err = w.clusters.apply(update, now)
	case resource.EndpointsType:
		notes, err = w.applyEndpoints(update, now)
	case resource.ListenerType:
		notes, err = w.listeners.apply(update, now)
	case resource.RouteType:
		notes, err = w.routes.apply(update, now)
	case resource.SecretType:
		notes, err = w.applySecrets(update, now)
	}
	w.updated(update, notes, err, now)
	// Nothing waits for endpoints once all is in force. What could not be read
	// takes nothing from the rest.
	if update.Type != resource.EndpointsType || !w.whole || !w.next.IsZero() {
		w.assemble(now)
	}
	return err
}

// doubtEnds is until when a removal is not believed.
func (w *Watcher) doubtEnds() time.Time {
	if w.reconnected.IsZero() {
		return time.Time{}
	}
	return w.reconnected.Add(doubt)
}
