package xds

import (
	"maps"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	// retryFirst is after how long a snapshot is tried again that a stage did not take:
	// what was in its way, such as an address that somebody else had, may be gone. Each
	// time it is twice as long, up to retryMost.
	retryFirst, retryMost = time.Second, 30 * time.Second
)

// refused is a snapshot that a stage did not take. It is tried again until it is in
// force, or another takes its place.
type refused struct {
	next  *mesh.Snapshot // nil for none
	err   error
	again time.Time
	pause time.Duration
}

// is tells whether next is that snapshot.
func (r *refused) is(next *mesh.Snapshot) bool { return r.next != nil && sameContent(r.next, next) }

// note takes down that next was not taken.
func (r *refused) note(next *mesh.Snapshot, err error, now time.Time) {
	pause := retryFirst
	if r.is(next) {
		pause = min(2*r.pause, retryMost)
	}
	*r = refused{next: next, err: err, again: now.Add(pause), pause: pause}
}

// takenBack says that there is nothing to be tried again.
func (w *Watcher) takenBack() {
	if err := w.refused.err; err != nil {
		w.change(func(s *Status) {
			if s.LastError == err.Error() {
				s.LastError = ""
			}
		})
	}
	w.refused = refused{}
}

// due is when to try again though nothing has come; zero for never.
func (w *Watcher) due() time.Time {
	if again := w.refused.again; !again.IsZero() && (w.next.IsZero() || again.Before(w.next)) {
		return again
	}
	return w.next
}

func sameContent(a, b *mesh.Snapshot) bool {
	return maps.Equal(a.Listeners, b.Listeners) && maps.Equal(a.Routes, b.Routes) && maps.Equal(a.Clusters, b.Clusters)
}
