package catalog

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// trace follows how asking Consul goes over all topics of an Index: an outage is
// told once and not by each, and its end is passed on.
type trace struct {
	log *slog.Logger

	queries, errors, held atomic.Int64

	mu      sync.Mutex        // guards:
	failing map[string]string // error by topic
	since   time.Time         // of the outage, zero if there is none
	ended   time.Time         // when the last outage did
	home    chan struct{}     // closed and made anew when Consul is back
}

func newTrace(log *slog.Logger) *trace {
	return &trace{log: log, failing: map[string]string{}, home: make(chan struct{})}
}

func (t *trace) lost(about string, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	text, known := err.Error(), false
	for _, other := range t.failing {
		known = known || other == text
	}
	t.failing[about] = text
	if !known {
		t.log.Warn("catalog not asked, keeping what was known", "asked_for", about, "err", err)
	}
}

func (t *trace) back(about string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if _, ok := t.failing[about]; !ok {
		return
	}
	delete(t.failing, about)
	if len(t.failing) == 0 {
		t.log.Info("catalog answers again")
	}
}

// forget is called for a topic that is not followed any more.
func (t *trace) forget(about string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.failing, about)
}

// gone notes that the one topic that stands for all cannot be asked.
func (t *trace) gone() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.since.IsZero() {
		t.since = time.Now()
	}
}

// returnedNow notes that it can be asked, and lets all others ask at once.
func (t *trace) returnedNow() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.since, t.ended = time.Time{}, time.Now()
	close(t.home)
	t.home = make(chan struct{})
}

// returned gives a channel that is closed when Consul is back.
func (t *trace) returned() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.home
}

func (t *trace) stale() time.Time {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.since
}

// doubtful tells whether an outage has only just ended.
func (t *trace) doubtful() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return !t.ended.IsZero() && time.Since(t.ended) < holdFor
}
