package wire

import (
	"context"
	"sync"
	"sync/atomic"
)

// Drainable is a connection that a Drain can end.
type Drainable interface {
	// CloseIdle closes the connection if no exchange is under way on it, and
	// otherwise makes it close after the current one. It must not block.
	CloseIdle()
	// Kill closes the connection at once.
	Kill()
}

// Warned is what a [Drainable] has that can tell its peer early that it will end,
// before it is asked to.
type Warned interface {
	// BeginDrain is called once, when the drain begins. It must not block.
	BeginDrain()
}

// Known is what a [Drainable] has that can tell whose connection it is.
type Known interface {
	// Peer is never nil, and always the same.
	Peer() *Peer
}

// Drain is the one signal by which downstream connections learn that they
// should end, in three steps:
//
//	Begin      new responses say "Connection: close"; connections are still taken
//	CloseIdle  idle connections close, busy ones after their exchange
//	Kill       what is left closes
//
// The zero Drain is ready for use. All methods are safe for concurrent use.
type Drain struct {
	draining, advised atomic.Bool

	mu sync.Mutex // guards:
	// closing and killed say how far it has come.
	closing, killed bool
	conns           map[Drainable]struct{}
	empty           chan struct{} // closed when conns gets empty; nil if nobody waits
}

// Add registers a connection. If idle connections have already been closed, or
// all killed, the new one is told so at once.
func (d *Drain) Add(c Drainable) {
	d.mu.Lock()
	if d.conns == nil {
		d.conns = map[Drainable]struct{}{}
	}
	d.conns[c] = struct{}{}
	closing, killed := d.closing, d.killed
	d.mu.Unlock()
	switch {
	case killed:
		c.Kill()
	case closing:
		c.CloseIdle()
	}
}

// Remove takes a connection back that has ended.
func (d *Drain) Remove(c Drainable) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.conns, c)
	if len(d.conns) == 0 && d.empty != nil {
		close(d.empty)
		d.empty = nil
	}
}

// Len is the number of connections.
func (d *Drain) Len() int {
	d.mu.Lock()
	defer d.mu.Unlock()
	return len(d.conns)
}

// Begin starts the drain.
func (d *Drain) Begin() {
	if d.draining.Swap(true) {
		return
	}
	d.Each(func(c Drainable) {
		if w, ok := c.(Warned); ok {
			w.BeginDrain()
		}
	})
}

// Advise lets responses say what they say in a drain, as long as it is on, and nothing
// else: connections that are not used stay.
func (d *Drain) Advise(on bool) { d.advised.Store(on) }

// Draining tells whether responses should ask the client to close.
func (d *Drain) Draining() bool { return d.draining.Load() || d.advised.Load() }

// CloseIdle closes idle connections now and busy ones after their exchange.
func (d *Drain) CloseIdle() {
	d.Begin()
	for _, c := range d.snapshot(true, false) {
		c.CloseIdle()
	}
}

// Kill closes all connections that are left and returns their number.
func (d *Drain) Kill() int {
	d.Begin()
	left := d.snapshot(true, true)
	for _, c := range left {
		c.Kill()
	}
	return len(left)
}

// Each calls f for every connection, without a lock held.
func (d *Drain) Each(f func(Drainable)) {
	for _, c := range d.snapshot(false, false) {
		f(c)
	}
}

func (d *Drain) snapshot(closing, killed bool) []Drainable {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.closing, d.killed = d.closing || closing, d.killed || killed
	all := make([]Drainable, 0, len(d.conns))
	for c := range d.conns {
		all = append(all, c)
	}
	return all
}

// Wait returns when no connection is left, or with the error of ctx.
func (d *Drain) Wait(ctx context.Context) error {
	d.mu.Lock()
	if len(d.conns) == 0 {
		d.mu.Unlock()
		return nil
	}
	if d.empty == nil {
		d.empty = make(chan struct{})
	}
	empty := d.empty
	d.mu.Unlock()
	select {
	case <-empty:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
