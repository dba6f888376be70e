package upstream

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/serai-net/serai/connect/wire"
)

// Circuit breakers are Envoy's, for the default priority:
//
//	requests     exchanges under way with the cluster (max_requests)
//	connections  to all hosts; one host may always have one for HTTP/1 and one for
//	             HTTP/2, else those of one would keep the other waiting (max_connections).
//	             Where connections are for one name, it is one for all names, which
//	             clients make up: those that are idle make room for other names
//	pending      exchanges without a connection: it is being made, or there are
//	             max_connections and they wait for one, in order (max_pending_requests)
//	retries      by a policy, under way (max_retries, or the budget)
//
// Nobody waits as long as there are connections enough, and then nothing of this
// but two counters is on the way of an exchange.

// overflowed is the answer to what is over a limit.
func (c *Cluster) overflowed() error {
	c.overflow.Add(1)
	return &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamOverflow,
		Text: "upstream connect error or disconnect/reset before headers. reset reason: overflow",
		// By which a caller's own proxy knows that it should not try again.
		Header: []wire.Field{{Name: "x-envoy-overloaded", Value: "true"}},
	}
}

// await takes a place among the pending exchanges; the caller gives it back.
func (c *Cluster) await() error {
	c.pendingTotal.Add(1)
	if l := &c.config.Load().Limits; c.pending.Add(1) > limit(l.MaxPending, l.HasPending) {
		c.pending.Add(-1)
		return c.overflowed()
	}
	return nil
}

// reserve counts a connection to be made, if there may be one.
func (c *Cluster) reserve(h *Host, shared bool) bool {
	if h.parent != nil { // else one might look between the two counts, and find no name with one
		c.named.counts.Lock()
		defer c.named.counts.Unlock()
	}
	l := &c.config.Load().Limits
	most := limit(l.MaxConnections, l.HasConnections)
	if l.HasHostConnections && h.root().allConns() >= int(l.MaxHostConnections) {
		most = 0
	}
	// Never counted beyond it, not even for a moment: somebody else would find no
	// leave, and wait for what has already come.
	for n := c.conns.Load(); n < most; n = c.conns.Load() {
		if c.conns.CompareAndSwap(n, n+1) {
			h.connsOf(shared).Add(1)
			h.counted(1)
			return true
		}
	}
	// One it may have.
	if h.parent != nil {
		if !h.parent.byName.CompareAndSwap(0, 1) {
			return false
		}
		h.connsOf(shared).Add(1)
	} else if !h.connsOf(shared).CompareAndSwap(0, 1) {
		return false
	}
	c.conns.Add(1)
	return true
}

// freed counts a connection that is no more, or that was not made after all.
func (c *Cluster) freed(h *Host, shared bool) {
	c.uncount(h, shared)
	c.slots()
}

func (c *Cluster) uncount(h *Host, shared bool) {
	if h.parent != nil {
		c.named.counts.Lock()
		defer c.named.counts.Unlock()
	}
	h.connsOf(shared).Add(-1)
	h.counted(-1)
	c.conns.Add(-1)
}

// slots lets those make connections who wait for leave and may have it now. It may
// be more than one: a host without any may have its own besides.
func (c *Cluster) slots() {
	for c.queue.waiting.Load() > 0 && c.queue.slot(c) {
	}
}

// BeginRetry takes one of the places for repeating an exchange by a policy. It is
// false if all are taken; else EndRetry gives it back.
func (c *Cluster) BeginRetry() bool {
	if c.retrying.Add(1) > c.mostRetries(&c.config.Load().Limits) {
		c.retrying.Add(-1)
		c.retryOverflow.Add(1)
		return false
	}
	c.retries.Add(1)
	return true
}

// EndRetry gives a place of BeginRetry back; succeeded tells what the retry came to.
func (c *Cluster) EndRetry(succeeded bool) {
	c.retrying.Add(-1)
	if succeeded {
		c.retrySuccess.Add(1)
	}
}

// offer is what a waiting exchange gets. Without either it is to look once more.
type offer struct {
	lease *lease // an idle connection
	slot  bool   // leave to make one, reserved
}

// waiter is an exchange that waits for a connection to host.
type waiter struct {
	host   *Host
	shared bool
	got    chan offer // has room for the one that comes
}

// queue is the exchanges that wait because of max_connections, the first to be
// served first. Its length is bounded by max_pending_requests.
type queue struct {
	waiting atomic.Int32 // len(all), to be read without the lock

	mu  sync.Mutex // guards:
	all []*waiter
}

func (q *queue) add(w *waiter) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = append(q.all, w)
	q.waiting.Add(1)
}

// remove is false if w has got its offer.
func (q *queue) remove(w *waiter) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.removeLocked(w)
}

func (q *queue) removeLocked(w *waiter) bool {
	i := slices.Index(q.all, w)
	if i < 0 {
		return false
	}
	q.all = slices.Delete(q.all, i, i+1)
	q.waiting.Add(-1)
	return true
}

// hand gives an idle connection to the first that waits for its host. One that serves one
// name is given only to who is the first of all.
func (q *queue) hand(h *Host, l *lease) bool {
	return q.wake(h, false, offer{lease: l})
}

// place tells the first that waits for a shared connection of h to look.
func (q *queue) place(h *Host) bool { return q.wake(h, true, offer{}) }

func (q *queue) wake(h *Host, shared bool, o offer) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for i, w := range q.all {
		if h.parent != nil && !shared && i > 0 {
			break
		}
		if w.host == h && w.shared == shared {
			q.removeLocked(w)
			w.got <- o
			return true
		}
	}
	return false
}

// places tells the first n that wait for a connection of h, shared or not, to look. They
// are taken at one time, so that who has looked in vain and waits again is not told twice.
func (q *queue) places(h *Host, shared bool, n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.all = slices.DeleteFunc(q.all, func(w *waiter) bool {
		if n <= 0 || w.host != h || w.shared != shared {
			return false
		}
		n--
		q.waiting.Add(-1)
		w.got <- offer{}
		return true
	})
}

// slot lets the first make a connection that may, and tells whether there was one:
// a place that comes free may be one that only a certain host may have.
func (q *queue) slot(c *Cluster) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, w := range q.all {
		if c.reserve(w.host, w.shared) {
			q.removeLocked(w)
			w.got <- offer{slot: true}
			return true
		}
	}
	return false
}

// wait waits for a connection of h. look is what may have come free before we
// were seen to wait, if anything has.
func (c *Cluster) wait(ctx context.Context, h *Host, shared bool, look func() (offer, bool)) (offer, error) {
	c.cxOverflow.Add(1)
	w := &waiter{host: h, shared: shared, got: make(chan offer, 1)}
	c.queue.add(w)
	if o, found := look(); found {
		if !c.queue.remove(w) {
			c.giveBack(h, shared, <-w.got)
		}
		return o, nil
	}
	if h.parent != nil {
		c.named.makeRoom()
	}
	select {
	case o := <-w.got:
		return o, nil
	case <-ctx.Done():
	}
	if !c.queue.remove(w) {
		c.giveBack(h, shared, <-w.got)
	}
	return offer{}, fmt.Errorf("%w: %w", errWaited, ctx.Err())
}

// errWaited is of an exchange whose time went by in the queue: it says nothing of
// the host.
var errWaited = errors.New("waited for a connection because of a limit")

// Waited tells whether err, of an exchange or a try, came of waiting for one of the
// connections that a limit allows: no host was asked.
func Waited(err error) bool { return errors.Is(err, errWaited) }

// lateKey is the key of what late says.
type lateKey struct{}

// late says of a dial that its exchange has waited in the queue before: there may
// be too little left of its time for any host.
func late(ctx context.Context) context.Context { return context.WithValue(ctx, lateKey{}, true) }

// isLate tells whether the time of a late dial went by.
func isLate(ctx context.Context) bool {
	return errors.Is(ctx.Err(), context.DeadlineExceeded) && ctx.Value(lateKey{}) != nil
}

// giveBack lets somebody else have what is not needed.
func (c *Cluster) giveBack(h *Host, shared bool, o offer) {
	switch {
	case o.lease != nil:
		h.give(o.lease)
	case o.slot:
		c.freed(h, shared)
	default:
		h.vacant()
	}
}
