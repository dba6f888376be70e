package call

import (
	"context"
	"sync"
	"time"
)

// lastSend is how long what is under way, and what is left, may take after Close: the
// end of the process waits for it.
const lastSend = 500 * time.Millisecond

// Batching is how [Batches] are made. Sizes are in whatever unit Add is told of.
type Batching[T any] struct {
	// Enough is sent without waiting for more, Most is what may wait.
	Enough, Most int
	// Wait is how long something waits for others, Timeout how long Send may take.
	Wait, Timeout time.Duration
	// Send sends what has waited, at least one. timer says that it was not enough. What
	// is not taken is lost: the next batch is not to wait for it.
	Send func(ctx context.Context, batch []T, timer bool)
}

// Batches gather what a collector is told, and send it together. It is safe for
// concurrent use.
type Batches[T any] struct {
	// set by NewBatches
	config Batching[T]
	wake   chan struct{}
	end    chan struct{}

	mu sync.Mutex // guards:
	// waiting are to be sent, size is what they have.
	waiting []T
	size    int
	closed  bool
}

// NewBatches returns Batches that send nothing before Run.
func NewBatches[T any](config Batching[T]) *Batches[T] {
	return &Batches[T]{config: config, wake: make(chan struct{}, 1), end: make(chan struct{})}
}

// Add takes one, if there is room for it, until Close. It never waits.
func (b *Batches[T]) Add(one T, size int) (fits bool) {
	b.mu.Lock()
	if fits = !b.closed && b.size+size <= b.config.Most; fits {
		b.waiting = append(b.waiting, one)
		b.size += size
	}
	enough := b.size >= b.config.Enough
	b.mu.Unlock()
	if enough {
		select {
		case b.wake <- struct{}{}:
		default:
		}
	}
	return fits
}

// Run sends batches until Close, and then what is left. It is called once.
func (b *Batches[T]) Run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-b.end:
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(lastSend):
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(b.config.Wait)
	defer tick.Stop()
	for {
		select {
		case <-b.wake:
			b.send(ctx, false)
		case <-tick.C:
			b.send(ctx, true)
		case <-b.end:
			b.send(ctx, false)
			return
		}
	}
}

func (b *Batches[T]) send(ctx context.Context, timer bool) {
	b.mu.Lock()
	batch := b.waiting
	b.waiting, b.size = nil, 0
	b.mu.Unlock()
	if len(batch) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, b.config.Timeout)
	defer cancel()
	b.config.Send(ctx, batch, timer)
}

// Close ends Run.
func (b *Batches[T]) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.closed {
		b.closed = true
		close(b.end)
	}
}
