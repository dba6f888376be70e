package xds

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	// maxHolds bounds how many sets are held back at a time.
	maxHolds = 512
	// probeEvery and probeTimeout are how the endpoints of a set that is held
	// back are asked whether they live, so many of them at a time.
	probeEvery      = time.Second
	probeTimeout    = time.Second
	probesAtOneTime = 8
)

// hold is an endpoint set that is held back.
type hold struct {
	next   *mesh.EndpointSet
	since  time.Time
	cancel context.CancelFunc
}

// doubts tells whether next should be held back: it would leave a cluster
// without a healthy endpoint, right after a reconnect.
func (w *Watcher) doubts(s *endpointSet, next *mesh.EndpointSet, now time.Time) bool {
	return s.force.Healthy() > 0 && next.Healthy() == 0 && now.Before(w.doubtEnds()) && !w.inAggregate(next.Name)
}

// holdBack keeps what is in force as long as one of its healthy endpoints
// accepts connections.
func (w *Watcher) holdBack(s *endpointSet, next *mesh.EndpointSet) bool {
	if w.holding == nil || w.holdCount() >= maxHolds {
		return false
	}
	ctx, cancel := context.WithCancel(w.holding)
	s.hold = &hold{next: next, since: time.Now(), cancel: cancel}
	w.log.Warn("Consul calls all endpoints unhealthy right after a reconnect: the old ones are kept while they accept connections",
		"cluster", next.Name, "endpoints", s.force.Healthy(), "until", w.doubtEnds())
	w.countHold()
	w.holds.Go(func() { w.watch(ctx, s, s.hold, healthy(s.force)) })
	return true
}

func (w *Watcher) holdCount() int {
	n := 0
	for _, s := range w.sets {
		if s.hold != nil {
			n++
		}
	}
	return n
}

// watch releases h when none of addrs accepts any more, or time is up.
func (w *Watcher) watch(ctx context.Context, s *endpointSet, h *hold, addrs []mesh.Address) {
	tick := time.NewTicker(probeEvery)
	defer tick.Stop()
	defer h.cancel()
	for {
		accepted := w.accepts(ctx, addrs)
		if ctx.Err() != nil {
			return
		}
		if w.check(s, h, accepted) {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

// check releases h if it is time to, and tells whether it is over.
func (w *Watcher) check(s *endpointSet, h *hold, accepted bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case s.hold != h:
		return true
	case !accepted:
		w.release(s, "no endpoint accepts connections", h.next)
	case !time.Now().Before(w.doubtEnds()):
		w.release(s, "time is up", h.next)
	default:
		return false
	}
	return true
}

// release ends what was held back and puts next in force.
func (w *Watcher) release(s *endpointSet, why string, next *mesh.EndpointSet) {
	w.log.Info("endpoints are no longer held back", "cluster", next.Name, "reason", why,
		"healthy", next.Healthy(), "held", time.Since(s.hold.since).Round(time.Millisecond))
	s.hold.cancel()
	s.hold = nil
	w.swap(s, next)
}

// accepts tells whether one of addrs accepts connections.
func (w *Watcher) accepts(ctx context.Context, addrs []mesh.Address) bool {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var accepted atomic.Bool
	var next atomic.Int64
	var probing sync.WaitGroup
	for range min(probesAtOneTime, len(addrs)) {
		probing.Go(func() {
			for ctx.Err() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(addrs) {
					return
				}
				try, done := context.WithTimeout(ctx, probeTimeout)
				err := w.probe(try, addrs[i])
				done()
				if err == nil {
					accepted.Store(true)
					cancel()
				}
			}
		})
	}
	probing.Wait()
	return accepted.Load()
}

// dial is the probe that Config.Probe replaces.
func dial(ctx context.Context, addr mesh.Address) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, addr.Network(), addr.String())
	if err != nil {
		return err
	}
	return conn.Close()
}
