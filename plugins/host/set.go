package host

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Set is all plugins of a process. Its methods are safe for concurrent use.
type Set struct {
	log   *slog.Logger
	times timings
	ids   atomic.Uint64

	planned chan struct{} // has an element from Prepare to the end of its Plan

	mu      sync.Mutex // guards:
	workers map[string]*worker
	retired []*worker // the oldest first
	counts  map[string]*counters
	launch  func(*worker) // runs a worker; nil while Run does not run
	closed  bool
}

// NewSet makes a Set without plugins.
func NewSet(log *slog.Logger) *Set { return newSet(log, defaultTimings()) }

func newSet(log *slog.Logger, times timings) *Set {
	return &Set{
		log: log, times: times, planned: make(chan struct{}, 1),
		workers: map[string]*worker{}, counts: map[string]*counters{},
	}
}

// Prepare readies the plugins of a configuration: it starts those that do not
// run with an equal Config yet, and opens the uses that are not open yet. An
// error names everything that is wrong, with its position, and then nothing has
// changed. It waits until another Plan has been ended.
//
// Processes are started here, before Run, so that whatever is wrong with them is
// an error of the configuration. From Commit on, Run takes care of them.
func (s *Set) Prepare(ctx context.Context, configs []Config, uses []Use) (*Plan, error) {
	if err := check(configs, uses); err != nil {
		return nil, err
	}
	select {
	case s.planned <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("prepare plugins: another change of them is not over: %w", ctx.Err())
	}
	p := &Plan{set: s, workers: map[string]*worker{}}
	if s.isClosed() {
		p.Abort()
		return nil, errors.New("prepare plugins: they have been stopped")
	}
	ctx, cancel := context.WithTimeout(ctx, 2*s.times.Start)
	defer cancel()
	err := p.startAll(ctx, configs)
	if err == nil {
		err = p.openAll(ctx, uses)
	}
	if err != nil {
		p.Abort()
		return nil, err
	}
	return p, nil
}

// check tells what is wrong without starting anything.
func check(configs []Config, uses []Use) error {
	var errs []error
	seen := map[string]*Config{}
	for n := range configs {
		c := &configs[n]
		if err := c.Validate(); err != nil {
			errs = append(errs, err)
		}
		if before := seen[c.Name]; before != nil {
			errs = append(errs, at(c.Pos, "plugin %q is there twice (the other is at %s); take another name", c.Name, before.Pos))
		}
		seen[c.Name] = c
	}
	for n := range uses {
		if seen[uses[n].Plugin] == nil {
			errs = append(errs, at(uses[n].Pos, "plugin %q is not configured; there is %s", uses[n].Plugin, known(seen)))
		}
	}
	return errors.Join(errs...)
}

func known(configs map[string]*Config) string {
	if len(configs) == 0 {
		return `none: write a block plugin "NAME" { command = "...", checksum = "..." }`
	}
	text := ""
	for _, name := range slices.Sorted(maps.Keys(configs)) {
		if text != "" {
			text += ", "
		}
		text += fmt.Sprintf("%q", name)
	}
	return text
}

func (s *Set) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}

// inForce finds the worker that serves c already.
func (s *Set) inForce(c *Config) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.workers[c.Name]; w != nil && w.config.equal(c) {
		return w
	}
	return nil
}

func (s *Set) newWorker(c *Config) *worker {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.counts[c.Name] == nil {
		s.counts[c.Name] = &counters{}
	}
	return newWorker(c, s.counts[c.Name], s.times, s.log)
}

func (s *Set) letPlan() { <-s.planned }

func (s *Set) nextID() uint64 { return s.ids.Add(1) }

// commit puts a plan in force and ends it.
func (s *Set) commit(p *Plan) {
	defer s.letPlan()
	s.mu.Lock()
	if s.closed { // the process ends: nobody will call
		s.mu.Unlock()
		finishAll(p.fresh)
		return
	}
	s.retired = append(s.retired, p.keep(s.workers, time.Now())...)
	s.workers = p.workers
	if s.launch != nil {
		for _, w := range p.fresh {
			s.launch(w)
		}
	}
	over := s.takeRetired(time.Time{})
	s.mu.Unlock()
	s.end(over)
}

// end ends workers, whether they run or not.
func (*Set) end(workers []*worker) {
	var ending sync.WaitGroup
	for _, w := range workers {
		ending.Go(func() {
			if w.cancel == nil {
				w.finish()
				return
			}
			w.cancel()
			<-w.done
		})
	}
	ending.Wait()
}

// Run keeps the plugins running until ctx ends, and then ends them: what is
// under way may end within the plugin's timeout. It returns when no process is
// left, and is called once. So ctx should end when the last exchange has.
func (s *Set) Run(ctx context.Context) error {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return nil
	}
	s.launch = func(w *worker) {
		var working context.Context
		working, w.cancel = context.WithCancel(ctx)
		go w.run(working)
	}
	for _, w := range s.workers {
		s.launch(w)
	}
	s.mu.Unlock()
	ticker := time.NewTicker(max(s.times.Linger/8, time.Millisecond))
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			s.Close()
			return nil
		case <-ticker.C:
			s.sweep()
		}
	}
}

// Close ends all plugins, for a Set that is not run; Run does it itself. It may
// be called several times.
func (s *Set) Close() {
	s.mu.Lock()
	s.closed = true
	all := append(slices.Collect(maps.Values(s.workers)), s.retired...)
	s.workers, s.retired = map[string]*worker{}, nil
	s.mu.Unlock()
	s.end(all)
}

// Stats returns the counters of all plugins in force, by name.
func (s *Set) Stats() []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []Stats
	for _, name := range slices.Sorted(maps.Keys(s.workers)) {
		all = append(all, s.workers[name].stats())
	}
	return all
}
