package lua

import (
	"context"
	"fmt"
	"runtime/metrics"
	"sync"
	"time"
)

const (
	// lookAfter is when a running script's memory is first looked at, and how often.
	lookAfter = 5 * time.Millisecond
	// maxGrowth is how much the heap may grow while a script runs on, in bytes, and
	// leastGrowth what it may in a small process. It
	// is the whole process's: what a script takes cannot be told apart, but only one
	// that runs on for long is looked at.
	maxGrowth   = 256 << 20
	leastGrowth = 32 << 20
	heapMetric  = "/memory/classes/heap/objects:bytes"
)

// guard ends a script that has run for too long or that takes too much memory.
type guard struct {
	cancel context.CancelFunc
	budget time.Duration
	growth uint64

	mu sync.Mutex // guards:
	// left of the budget, and since when it is used; zero while the script waits.
	left  time.Duration
	since time.Time
	// heap is what there was at the first look, and what others have taken while the
	// script waited; paused what there was when it began to, if there had been a look.
	heap, paused uint64
	timer        *time.Timer
	ended        bool
	expired      bool
}

func newGuard(budget time.Duration, growth uint64, cancel context.CancelFunc) *guard {
	g := &guard{cancel: cancel, budget: budget, growth: growth, left: budget, since: time.Now()}
	g.mu.Lock()
	defer g.mu.Unlock()
	g.timer = time.AfterFunc(lookAfter, g.look)
	return g
}

func heap() uint64 {
	sample := []metrics.Sample{{Name: heapMetric}}
	metrics.Read(sample)
	if sample[0].Value.Kind() != metrics.KindUint64 {
		return 0
	}
	return sample[0].Value.Uint64()
}

func (g *guard) look() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended || g.since.IsZero() {
		return
	}
	now := heap()
	if g.heap == 0 {
		g.heap = now
	}
	used := time.Since(g.since)
	if used >= g.left || now > g.heap+g.growth {
		g.expired = true
		g.cancel()
		return
	}
	g.timer.Reset(min(lookAfter, g.left-used))
}

// pause is called before the script waits, resume afterwards.
func (g *guard) pause() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.since.IsZero() {
		g.left -= time.Since(g.since)
		g.since = time.Time{}
	}
	if g.heap > 0 {
		g.paused = heap()
	}
	g.timer.Stop()
}

// renew begins anew, for what a client sends next. The script waits.
func (g *guard) renew() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.left, g.heap = g.budget, 0
}

func (g *guard) resume() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.ended {
		return
	}
	if g.heap > 0 {
		g.heap += max(g.paused, heap()) - g.paused
	}
	g.since = time.Now()
	g.timer.Reset(min(lookAfter, max(0, g.left)))
}

func (g *guard) stop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.ended = true
	g.timer.Stop()
}

// explain tells why a script has failed.
func (g *guard) explain(err error) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.expired && err != nil {
		return fmt.Errorf("%w: %w", errTooLong, err)
	}
	return err
}
