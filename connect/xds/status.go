package xds

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
	"github.com/serai-net/serai/connect/xds/secret"
)

// Status is how the Watcher fares.
type Status struct {
	// Connected tells whether a stream is open, Since when that changed.
	Connected bool
	Since     time.Time
	// LastError is why the last stream ended or could not be opened, or why the
	// last snapshot was not taken; "" if all is well.
	LastError string
	// LastUpdate is when the last response came.
	LastUpdate time.Time
	// Version of the snapshot in force, 0 before the first.
	Version uint64
	// Updates counts responses, of which Acks were taken and Nacks were not;
	// Failed counts snapshots that a stage did not take, Held endpoint sets and
	// removals of listeners that were held back.
	Updates, Acks, Nacks, Failed, Held uint64
	// Reconnects counts streams after the first that brought anything.
	Reconnects uint64
	// Restored says that what is in force was kept on disk and Consul has not
	// spoken since, Expired that it could not be served any longer.
	Restored, Expired bool
	// Saves counts how often it was to be written to disk, SaveFailures how often
	// that failed; Saved is when it last was, Unsaved that more has changed since.
	Saves, SaveFailures uint64
	Saved               time.Time
	Unsaved             bool
	// Refusals are what in the snapshot in force is not understood, Unread what
	// could not even be read: what was there of that name before stays in force.
	Refusals, Unread []Refusal
	// Types is what came by type of resource, and Clusters and Listeners what became of
	// it. ControlPlane is what the control plane calls itself, if it does, and Downs
	// counts streams that have ended or could not be opened.
	Types               map[string]TypeStatus
	Clusters, Listeners Turnover
	// WarmingClusters and WarmingListeners have come, in all or anew, and wait for what
	// they need.
	WarmingClusters, WarmingListeners int
	ControlPlane                      string
	Downs                             uint64
	// Secrets is how what resources refer to fares: files and secrets.
	Secrets secret.Stats
}

// All yields what can be counted of it; connected is 1 while a stream is open.
func (s *Status) All() iter.Seq2[string, int64] {
	flag := func(is bool) int64 {
		if is {
			return 1
		}
		return 0
	}
	return func(yield func(string, int64) bool) {
		_ = yield("connected", flag(s.Connected)) &&
			yield("restored", flag(s.Restored)) &&
			yield("saves", int64(s.Saves)) &&
			yield("unsaved", flag(s.Unsaved)) &&
			yield("save_failures", int64(s.SaveFailures)) &&
			yield("snapshot_version", int64(s.Version)) &&
			yield("refusals", int64(len(s.Refusals))) &&
			yield("unread", int64(len(s.Unread))) &&
			yield("updates", int64(s.Updates)) &&
			yield("rejected", int64(s.Nacks)) &&
			yield("failed", int64(s.Failed)) &&
			yield("held", int64(s.Held)) &&
			yield("reconnects", int64(s.Reconnects)) &&
			yield("secrets_changed", s.Secrets.Reloads) &&
			yield("secrets_rejected", s.Secrets.Failures) &&
			yield("secrets_broken", s.Secrets.Broken) &&
			yield("secrets_waiting", s.Secrets.Waiting)
	}
}

// Status returns how the Watcher fares. It never waits for a change.
func (w *Watcher) Status() Status {
	secrets := w.secrets.Stats()
	w.statusMu.Lock()
	defer w.statusMu.Unlock()
	status := w.status
	status.Refusals, status.Unread = slices.Clone(status.Refusals), slices.Clone(status.Unread)
	status.Secrets = secrets
	w.counts.tell(&status)
	return status
}

func (w *Watcher) change(f func(s *Status)) {
	w.statusMu.Lock()
	defer w.statusMu.Unlock()
	f(&w.status)
}

// told is what was logged already and is not to be logged again.
type told struct {
	down, failed string
	silent       bool
	connected    bool
	notes        map[string]bool
}

// maxNotes bounds how many different notes are remembered.
const maxNotes = 1000

func (t *told) reset() { t.notes = map[string]bool{} }

func (w *Watcher) up(now time.Time) {
	w.change(func(s *Status) {
		s.Connected, s.Since = true, now
		if !w.reconnected.IsZero() {
			s.Reconnects++
		}
	})
}

func (w *Watcher) down(reason *ads.Error, now time.Time) {
	w.change(func(s *Status) {
		w.counts.downs++
		if s.Connected {
			s.Connected, s.Since = false, now
		}
		s.LastError = reason.Error()
	})
	w.told.connected, w.told.silent = false, false
	if text := reason.Error(); text != w.told.down {
		w.told.down = text
		w.log.Warn("no configuration from Consul, trying again", "err", reason)
	}
}

func (w *Watcher) silent() {
	if w.told.silent {
		return
	}
	w.told.silent = true
	w.change(func(s *Status) {
		s.LastError = fmt.Sprintf("Consul sends nothing for proxy %q: it seems not to be registered at the agent at %s, or it is a gateway without its config entry", w.node.ID, w.target)
	})
	w.log.Warn("Consul sends nothing: this proxy seems not to be registered at this agent, or it is a gateway without its config entry, waiting",
		"proxy", w.node.ID, "agent", w.target.String())
}

func (w *Watcher) updated(update *ads.Update, notes []string, err error, now time.Time) {
	w.change(func(s *Status) {
		w.counts.update(update, w.unreadOf(update.Type), err != nil, now)
		s.Updates++
		s.LastUpdate = now
		if err != nil || len(s.Unread) > 0 {
			s.Unread = w.unread()
		}
		if err != nil {
			s.Nacks++
			s.LastError = err.Error()
			return
		}
		s.Acks++
		s.LastError = ""
	})
	w.told.down, w.told.silent = "", false
	if !w.told.connected {
		w.told.connected = true
		w.log.Info("configuration comes from Consul", "address", w.target.String(), "proxy", w.node.ID)
	}
	if err != nil {
		w.log.Error("response of Consul cannot be read", "type", update.Type, "err", err)
		return
	}
	w.tellNotes(notes)
}

// unreadOf are the resources of a type that cannot be read; nil where nobody asks for
// single ones.
func (w *Watcher) unreadOf(typ string) unread {
	switch typ {
	case resource.RouteType:
		return w.routes.unread
	case resource.EndpointsType:
		return w.unreadSets
	default:
		return nil
	}
}

// tellNotes tells what is ignored, once.
func (w *Watcher) tellNotes(notes []string) {
	for _, note := range notes {
		if !w.told.notes[note] && len(w.told.notes) < maxNotes {
			w.told.notes[note] = true
			w.log.Info("a part of the configuration has no effect", "what", note)
		}
	}
}

// countHold counts what is held back.
func (w *Watcher) countHold() { w.change(func(s *Status) { s.Held++ }) }

// failed tells once that a stage does not take the next snapshot.
func (w *Watcher) failed(err error) {
	if errors.Is(err, ErrStopped) {
		w.log.Debug("configuration is not taken any more", "err", err)
		return
	}
	w.change(func(s *Status) {
		s.Failed++
		s.LastError = err.Error()
	})
	if text := err.Error(); text != w.told.failed {
		w.told.failed = text
		w.log.Error("configuration is not taken, the last good one stays", "err", err)
	}
}

// inForce tells what is now in force, and what of it is refused.
func (w *Watcher) inForce(next *mesh.Snapshot, began time.Time) {
	w.told.failed = ""
	found := Refusals(next)
	for _, stage := range w.stages {
		if refuser, ok := stage.(Refuser); ok {
			found = append(found, refuser.Refusals()...)
		}
	}
	slices.SortFunc(found, Refusal.compare)
	found = slices.Compact(found)
	var before []Refusal
	w.change(func(s *Status) {
		before = s.Refusals
		s.Version, s.Refusals = next.Version, found
		w.counts.turn(w.inForceBefore, next)
		w.inForceBefore = next
	})
	known := map[Refusal]bool{}
	for _, r := range before {
		known[r] = true
	}
	for _, r := range found {
		if !known[r] {
			w.log.Warn("not understood, refuses its traffic", "what", r.Kind, "name", r.Name, "reason", r.Reason)
		}
	}
	w.log.Debug("configuration in force", "version", next.Version, "listeners", len(next.Listeners),
		"routes", len(next.Routes), "clusters", len(next.Clusters), "took", time.Since(began))
}
