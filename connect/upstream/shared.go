package upstream

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// shared keeps the HTTP/2 connections of one host. An exchange takes a place on
// the first that has one; only if all are full a new connection is made, one at a
// time, for which others wait.
type shared struct {
	mu     sync.Mutex // guards:
	conns  []*sharedConn
	dial   *dialing // that is under way; nil if none is
	closed bool
}

// sharedConn is one connection with what its host knows of it.
type sharedConn struct {
	*http2.ClientConn
	host   *Host
	peer   *wire.Peer
	born   time.Time
	served uint32
	// worn says that it has served as often as it may, old that it has lived for as long.
	worn, old bool
}

// dialing is a connection that is being made.
type dialing struct {
	done chan struct{} // closed at the end; then:
	err  error
	// given up says that the exchange that made it was, which says nothing of the
	// host.
	givenUp bool
}

// tryShared makes one try on a shared connection. It tells whether what went wrong
// says nothing of the host: a connection that others use may end at any time.
func (c *Cluster) tryShared(x *wire.Exchange, a *wire.Attempt, req *wire.Request, host *Host) (bool, *wire.Response, error) {
	conn := host.shared.acquire(&c.config.Load().Pool)
	if a.Reused = conn != nil; !a.Reused {
		err := c.await()
		if err == nil {
			err = c.patiently(x, func(ctx context.Context) (err error) {
				conn, err = c.share(ctx, host)
				return err
			})
			c.pending.Add(-1)
		}
		if err != nil {
			return false, nil, unconnected(a, err)
		}
	}
	a.Connected, a.Peer, a.Proto = time.Now(), conn.peer, 2
	host.busy(1)
	c.answers.requests.Add(1)
	resp, err := conn.RoundTrip(x, a, req)
	return true, resp, err
}

// acquire takes a place on a connection, nil if there is none.
func (s *shared) acquire(p *mesh.Pool) *sharedConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acquireLocked(p)
}

func (s *shared) acquireLocked(p *mesh.Pool) *sharedConn {
	gone := false
	for _, conn := range s.conns {
		if conn.Acquire() {
			conn.serve(p)
			return conn
		}
		gone = gone || conn.Gone()
	}
	if gone {
		s.conns = slices.DeleteFunc(s.conns, (*sharedConn).Gone)
	}
	return nil
}

// serve counts an exchange; if it is the last that the connection may have, the
// connection ends when all have.
func (s *sharedConn) serve(p *mesh.Pool) {
	s.served++
	if p.MaxRequests > 0 && s.served >= p.MaxRequests && !s.worn {
		s.worn = true
		s.host.cluster.cxMaxRequests.Add(1)
		s.Retire()
	}
}

// share takes a place on a connection that is made now, by this exchange or by
// another one that was first, or on one where a place comes free.
func (c *Cluster) share(ctx context.Context, host *Host) (*sharedConn, error) {
	s, pool := &host.shared, &c.config.Load().Pool
	reserved := false // a connection that we may make
	defer func() {
		if reserved {
			c.freed(host, true)
		}
	}()
	for {
		s.mu.Lock()
		if conn := s.acquireLocked(pool); conn != nil {
			s.mu.Unlock()
			return conn, nil
		}
		d := s.dial
		if d == nil && !reserved {
			reserved = c.reserve(host, true)
		}
		if d == nil && reserved {
			break
		}
		s.mu.Unlock()
		if d == nil {
			var conn *sharedConn
			o, err := c.wait(ctx, host, true, func() (offer, bool) {
				if conn = s.acquire(pool); conn != nil {
					return offer{}, true
				}
				return offer{slot: true}, c.reserve(host, true)
			})
			if err != nil || conn != nil {
				return conn, err
			}
			reserved, ctx = o.slot, late(ctx)
			continue
		}
		select {
		case <-d.done:
			if d.err != nil && !d.givenUp {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	d := &dialing{done: make(chan struct{})}
	s.dial = d
	s.mu.Unlock()
	reserved = false // it belongs to the connection now
	return c.makeFor(ctx, host, d, true)
}

// makeFor makes the connection that d stands for, and takes a place on it if it is
// to be used now. It was reserved.
func (c *Cluster) makeFor(ctx context.Context, host *Host, d *dialing, use bool) (*sharedConn, error) {
	conn, err := c.makeShared(ctx, host)
	if err == nil && use && !conn.Acquire() {
		conn.Shutdown()
		err = errNoPlace()
	}
	s := &host.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	defer close(d.done)
	d.err, d.givenUp = err, ctx.Err() != nil
	s.dial = nil
	if err != nil {
		return nil, err
	}
	cfg := c.config.Load()
	if use {
		conn.serve(&cfg.Pool)
	}
	s.conns = append(s.conns, conn)
	if s.closed {
		conn.Retire() // who holds a place may still begin
	} else if c.queue.waiting.Load() > 0 {
		c.queue.places(host, true, cmp.Or(cfg.HTTP2Options.MaxStreams, http2.DefaultMaxStreams))
	}
	return conn, nil
}

// errNoPlace is the fault of a connection that ended, or was said to take nothing,
// as soon as it was made.
func errNoPlace() error {
	return &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamConnect, Repeat: wire.RepeatAny,
		Text: "upstream connect error", Err: errors.New("a new connection takes no streams"),
	}
}

// makeShared makes a connection. It was reserved.
func (c *Cluster) makeShared(ctx context.Context, host *Host) (*sharedConn, error) {
	cfg := c.config.Load()
	c.answers.http2.Add(1)
	made, peer, err := c.dial(ctx, cfg, host, cfg.forHTTP2())
	if err != nil {
		c.freed(host, true)
		return nil, err
	}
	if p := agreed(made); p != "h2" && (p != "" || cfg.negotiates()) {
		made.Close()
		c.answers.ended.Count(wire.Ending{Ours: true})
		c.freed(host, true)
		host.spoken.Store(0) // it is to be found out anew
		return nil, fmt.Errorf("tls with %s: it speaks %s and not HTTP/2", host.text, p)
	}
	return c.shared(cfg, host, made, peer), nil
}

// adopt shares a connection that was made for one exchange and turned out to be one of
// HTTP/2.
func (c *Cluster) adopt(cfg *config, host *Host, made net.Conn, peer *wire.Peer) {
	host.spoken.Store(2)
	c.answers.http2.Add(1)
	host.connsOf(false).Add(-1)
	host.connsOf(true).Add(1)
	conn := c.shared(cfg, host, made, peer)
	s := &host.shared
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = append(s.conns, conn)
	if s.closed {
		conn.Retire()
	} else if c.queue.waiting.Load() > 0 {
		c.queue.places(host, false, math.MaxInt) // there are none but shared ones
		c.queue.places(host, true, cmp.Or(cfg.HTTP2Options.MaxStreams, http2.DefaultMaxStreams))
	}
}

// shared makes a connection of HTTP/2 of made.
func (c *Cluster) shared(cfg *config, host *Host, made net.Conn, peer *wire.Peer) *sharedConn {
	o := &cfg.HTTP2Options
	conn := http2.NewClientConn(made, http2.ClientConfig{
		MaxStreams: o.MaxStreams, Released: host.released, Frames: &c.answers.frames, Left: func() { c.answers.announced.Add(1) },
		Bounds: http2.Bounds{
			StreamWindow: o.StreamWindow, ConnWindow: o.ConnWindow, PingInterval: o.PingInterval, PingTimeout: o.PingTimeout,
			Buffers: &c.set.shared,
		},
	})
	go func() {
		conn.Run() //nolint:errcheck // exchanges are told what becomes of them; it ends with the connection
		c.answers.ended.Count(conn.Ending())
		c.freed(host, true)
	}()
	return &sharedConn{ClientConn: conn, host: host, peer: peer, born: time.Now()}
}

// released is called when an exchange has given its place back. It must not wait.
func (h *Host) released() {
	h.busy(-1)
	if h.cluster.queue.waiting.Load() > 0 {
		h.vacant()
	}
}

// vacant tells who waits that there is a place on a shared connection of h. It does not
// wait.
func (h *Host) vacant() {
	if !h.cluster.queue.place(h) && h.parent != nil {
		go h.shared.makeRoom() // they wait for leave, for other names
	}
}

// makeRoom ends a connection that nobody uses, and tells whether there was one.
func (s *shared) makeRoom() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, conn := range s.conns {
		if !conn.IdleSince().IsZero() && !conn.Gone() {
			conn.Retire()
			return true
		}
	}
	return false
}

// sweep closes connections that nobody has used since limit, those that were made
// before oldest, and forgets those that have ended. It returns how many were closed
// for being idle.
func (s *shared) sweep(limit, oldest time.Time) (idle int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(conn *sharedConn) bool {
		since := conn.IdleSince()
		switch {
		case conn.Gone():
		case conn.old:
		case conn.born.Before(oldest):
			conn.old = true
			conn.host.cluster.answers.aged.Add(1)
			conn.Retire()
		case !since.IsZero() && since.Before(limit):
			idle++
			conn.Shutdown()
		}
		return conn.Gone()
	})
	return idle
}

// close lets all connections end when they are idle, and those to come, too.
func (s *shared) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, conn := range s.conns {
		conn.Retire() // who holds a place may still begin
	}
}
