package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// shared keeps the HTTP/2 connections of one host. An exchange takes a place on
// the first that has one; only if all are full a new connection is made, one at a
// time, for which others wait.
type shared struct {
	mu     sync.Mutex // guards:
	conns  []*http2.ClientConn
	dial   *dialing // that is under way; nil if none is
	closed bool
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
	conn := host.shared.acquire()
	if a.Reused = conn != nil; !a.Reused {
		err := c.patiently(x, func(ctx context.Context) (err error) {
			conn, err = c.share(ctx, host)
			return err
		})
		if err != nil {
			a.Flag = wire.AsFault(err).Flag
			return false, nil, err
		}
	}
	a.Connected = time.Now()
	resp, err := conn.RoundTrip(x, a, req)
	return true, resp, err
}

// acquire takes a place on a connection, nil if there is none.
func (s *shared) acquire() *http2.ClientConn {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.acquireLocked()
}

func (s *shared) acquireLocked() *http2.ClientConn {
	gone := false
	for _, conn := range s.conns {
		if conn.Acquire() {
			return conn
		}
		gone = gone || conn.Gone()
	}
	if gone {
		s.conns = slices.DeleteFunc(s.conns, (*http2.ClientConn).Gone)
	}
	return nil
}

// share takes a place on a connection that is made now, by this exchange or by
// another one that was first.
func (c *Cluster) share(ctx context.Context, host *Host) (*http2.ClientConn, error) {
	s := &host.shared
	for {
		s.mu.Lock()
		if conn := s.acquireLocked(); conn != nil {
			s.mu.Unlock()
			return conn, nil
		}
		d := s.dial
		if d == nil {
			break
		}
		s.mu.Unlock()
		select {
		case <-d.done:
			if d.err != nil && !d.givenUp {
				return nil, d.err
			}
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	if len(s.conns) >= c.config.Load().mostConns() {
		s.mu.Unlock()
		c.overflow.Add(1)
		return nil, &wire.Fault{
			Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamOverflow, Text: "too many connections",
		}
	}
	d := &dialing{done: make(chan struct{})}
	s.dial = d
	s.mu.Unlock()
	conn, err := c.makeShared(ctx, host)
	s.mu.Lock()
	d.err, d.givenUp = err, ctx.Err() != nil
	s.dial = nil
	if err == nil {
		s.conns = append(s.conns, conn)
		if s.closed {
			conn.Shutdown()
		}
	}
	s.mu.Unlock()
	close(d.done)
	return conn, err
}

// makeShared makes a connection and takes a place on it.
func (c *Cluster) makeShared(ctx context.Context, host *Host) (*http2.ClientConn, error) {
	made, err := c.dial(ctx, host, true)
	if err != nil {
		return nil, err
	}
	if secured, ok := made.(*tls.Conn); ok {
		if p := secured.ConnectionState().NegotiatedProtocol; p != "" && p != "h2" {
			made.Close()
			return nil, fmt.Errorf("tls with %s: it speaks %s and not HTTP/2", host.text, p)
		}
	}
	o := &c.config.Load().HTTP2Options
	conn := http2.NewClientConn(made, http2.ClientConfig{MaxStreams: o.MaxStreams, Bounds: http2.Bounds{
		StreamWindow: o.StreamWindow, ConnWindow: o.ConnWindow, PingInterval: o.PingInterval, PingTimeout: o.PingTimeout,
		Buffers: &c.set.shared,
	}})
	conn.Acquire()
	go conn.Run() //nolint:errcheck // exchanges are told what becomes of them; it ends with the connection
	return conn, nil
}

// closeIdleSince closes connections that nobody has used since limit, and forgets
// those that have ended.
func (s *shared) closeIdleSince(limit time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.conns = slices.DeleteFunc(s.conns, func(conn *http2.ClientConn) bool {
		if since := conn.IdleSince(); !since.IsZero() && since.Before(limit) {
			conn.Shutdown()
		}
		return conn.Gone()
	})
}

// close lets all connections end when they are idle, and those to come, too.
func (s *shared) close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	for _, conn := range s.conns {
		conn.Shutdown()
	}
}
