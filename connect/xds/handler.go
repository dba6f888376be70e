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
	case resource.SecretType:
		held := make(map[string]string, len(w.receivedSecrets))
		for name, r := range w.receivedSecrets {
			held[name] = r.Version
		}
		return held
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
	notes, err := w.take(update, now)
	if update.Type == resource.ListenerType {
		w.confirmed()
	}
	w.updated(update, notes, err, now)
	// Nothing waits for endpoints once all is in force. What could not be read
	// takes nothing from the rest.
	if update.Type != resource.EndpointsType || !w.whole || !w.next.IsZero() {
		w.assemble(now)
	}
	w.remember()
	return err
}

// take puts an update into its table.
func (w *Watcher) take(update *ads.Update, now time.Time) (notes []string, err error) {
	switch update.Type {
	case resource.ClusterType:
		return w.clusters.apply(update, now)
	case resource.EndpointsType:
		return w.applyEndpoints(update, now)
	case resource.ListenerType:
		return w.listeners.apply(update, now)
	case resource.RouteType:
		return w.routes.apply(update, now)
	case resource.SecretType:
		return w.applySecrets(update, now)
	default:
		return nil, nil
	}
}

// doubtEnds is until when a removal is not believed.
func (w *Watcher) doubtEnds() time.Time {
	if w.reconnected.IsZero() {
		return time.Time{}
	}
	return w.reconnected.Add(doubt)
}
