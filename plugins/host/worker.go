package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// timings are the bounds of waits.
type timings struct {
	// Start bounds the start of a process, and the opening of a use.
	Start time.Duration
	// Ping is the time between pings, and how long one may take.
	Ping, Pong time.Duration
	// A process is started again after First, and after twice as long each time
	// up to Last if it lived less than Stable.
	First, Last, Stable time.Duration
	// Grace is for the end of a process before it is killed.
	Grace time.Duration
	// Linger is how long what is not configured any more can still be called.
	Linger time.Duration
}

func defaultTimings() timings {
	return timings{
		Start: 10 * time.Second, Ping: 5 * time.Second, Pong: 10 * time.Second,
		First: 100 * time.Millisecond, Last: 10 * time.Second, Stable: 10 * time.Second,
		Grace: time.Second, Linger: 5 * time.Minute,
	}
}

// worker keeps a process for one Config.
type worker struct {
	// set by newWorker
	config Config
	log    *slog.Logger
	times  timings
	counts *counters
	slots  chan struct{} // one element for each call under way
	// maxWaiting calls may wait for one.
	maxWaiting int64

	waiting atomic.Int64
	session atomic.Pointer[session] // nil while there is none
	closing atomic.Bool

	mu        sync.Mutex // guards:
	instances map[useKey]*Instance
	changed   chan struct{} // closed, and another one made, when session changes

	// owned by Set
	retired time.Time          // when it was last wanted; zero while it is
	cancel  context.CancelFunc // ends run; nil before that
	done    chan struct{}      // closed when run has ended
}

func newWorker(c *Config, counts *counters, times timings, log *slog.Logger) *worker {
	return &worker{
		config: *c, log: log.With("plugin", c.Name), times: times, counts: counts,
		slots: make(chan struct{}, c.maxConcurrent()), maxWaiting: int64(4 * c.maxConcurrent()),
		instances: map[useKey]*Instance{}, changed: make(chan struct{}), done: make(chan struct{}),
	}
}

// start starts the process for the first time.
func (w *worker) start(ctx context.Context) error {
	s, err := startSession(ctx, &w.config, w.times.Start, w.log)
	if err != nil {
		w.counts.startFails.Add(1)
		return err
	}
	w.counts.starts.Add(1)
	w.log.Info("plugin runs", "pid", s.process.cmd.Process.Pid, "is", s.name, "version", s.version)
	w.publish(s)
	return nil
}

func (w *worker) publish(s *session) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.session.Store(s)
	close(w.changed)
	w.changed = make(chan struct{})
}

// openAll opens the uses that are not open in s. A use that the plugin refuses
// now does not keep the others from serving; an error is one of the session.
func (w *worker) openAll(ctx context.Context, s *session) error {
	w.mu.Lock()
	var closed []*Instance
	for _, i := range w.instances {
		if i.session.Load() != s {
			closed = append(closed, i)
		}
	}
	w.mu.Unlock()
	for _, i := range closed {
		err := i.open(ctx, s)
		var refused *settingsError
		switch {
		case errors.As(err, &refused):
			w.log.Error("plugin refuses settings that it took before, so this use does not serve", "use", i.place, "err", err)
		case err != nil:
			return err
		}
	}
	return nil
}

// await returns the session, as soon as there is one.
func (w *worker) await(ctx context.Context) (*session, error) {
	for {
		w.mu.Lock()
		changed := w.changed
		w.mu.Unlock()
		if s := w.session.Load(); s != nil && s.isUp() {
			return s, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: wait for it: %w", ErrUnavailable, ctx.Err())
		}
	}
}

// instance finds or makes the use of that key; made tells which.
func (w *worker) instance(key useKey, use *Use, id uint64) (i *Instance, made bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if i := w.instances[key]; i != nil {
		return i, false
	}
	i = &Instance{worker: w, id: id, place: use.Place, settings: key.settings}
	w.instances[key] = i
	return i, true
}

// drop ends the use of that key.
func (w *worker) drop(key useKey) {
	w.mu.Lock()
	i := w.instances[key]
	delete(w.instances, key)
	w.mu.Unlock()
	if i == nil {
		return
	}
	if s := i.session.Swap(nil); s != nil && s.isUp() {
		ctx, cancel := context.WithTimeout(context.Background(), w.times.Grace)
		defer cancel()
		if _, err := s.rpc.Close(ctx, &pluginpb.CloseRequest{Use: i.id}); err != nil {
			w.log.Warn("plugin did not close a use", "use", i.place, "err", err)
		}
	}
}

// finish lets calls under way end, takes no more, and ends the process. It is
// called once, and not while run runs.
func (w *worker) finish() {
	w.closing.Store(true)
	s := w.session.Load()
	if s == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), w.config.timeout())
	defer cancel()
	for range cap(w.slots) {
		select {
		case w.slots <- struct{}{}:
		case <-ctx.Done():
		case <-s.ended:
		}
	}
	w.publish(nil)
	s.stop(w.times.Grace)
}
