package upstream

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire/bulk"
	"github.com/serai-net/serai/connect/wire/http1"
)

const (
	// idleTimeout closes pooled connections. It is under the minute after which
	// many a server does.
	idleTimeout = 55 * time.Second
	// maxIdle bounds the pooled connections of one host.
	maxIdle = 512
	// firstPause is how long a host that refused a connection is passed over
	// where there is another; it doubles up to lastPause.
	firstPause, lastPause = 500 * time.Millisecond, 15 * time.Second
)

// Host is one endpoint of a cluster with what we know of it. It lives as long
// as endpoint sets name its address.
type Host struct {
	address  mesh.Address
	text     string
	endpoint atomic.Pointer[mesh.Endpoint]
	pool     pool   // of HTTP/1
	shared   shared // of HTTP/2

	// pausedUntil is a time in Unix nanoseconds until which the host is passed
	// over; pause is the length of that pause in nanoseconds.
	pausedUntil, pause atomic.Int64
}

// Address is the host's address as text.
func (h *Host) Address() string { return h.text }

// Name is the endpoint's host name; "" if it has none.
func (h *Host) Name() string { return h.endpoint.Load().Hostname }

func (h *Host) paused(now time.Time) bool {
	until := h.pausedUntil.Load()
	return until != 0 && now.UnixNano() < until
}

func (h *Host) failed(now time.Time) {
	pause := min(max(2*h.pause.Load(), int64(firstPause)), int64(lastPause))
	h.pause.Store(pause)
	h.pausedUntil.Store(now.UnixNano() + pause)
}

func (h *Host) succeeded() {
	if h.pausedUntil.Load() != 0 {
		h.pause.Store(0)
		h.pausedUntil.Store(0)
	}
}

// close closes idle connections, and the others when they become so.
func (h *Host) close() {
	h.pool.close()
	h.shared.close()
}

// dial connects and does the TLS handshake by secure, nil for none. The peer's
// identity is verified before it returns.
func (h *Host) dial(ctx context.Context, c *config, secure *tls.Config, buffers *bulk.Buffers) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.connectTimeout())
	defer cancel()
	dialer := net.Dialer{KeepAlive: 15 * time.Second}
	conn, err := dialer.DialContext(ctx, h.address.Network(), h.text)
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if c.ProxyProtocol != 0 {
		if err := introduce(ctx, conn, c.ProxyProtocol); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if secure == nil {
		return conn, nil
	}
	secured := tls.Client(bulk.Under(conn, buffers), secure)
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, fmt.Errorf("tls with %s: %w", h.text, err)
	}
	return secured, nil
}

// pool keeps idle HTTP/1 connections; the one used last is taken first, so that
// those not needed grow old and are closed.
type pool struct {
	mu     sync.Mutex // guards:
	idle   []idleConn
	closed bool
}

type idleConn struct {
	conn  *http1.ClientConn
	since time.Time
}

// warm is how long a connection counts as in use after an exchange. What the other
// side sends or closes then would as often come just after a look, and be
// under way when the next request leaves.
const warm = 100 * time.Microsecond

// get returns a living idle connection, nil if there is none. For a request that
// may be repeated, one that is warm is taken without a look.
func (p *pool) get(now time.Time, repeatable bool) *http1.ClientConn {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		conn, since := p.idle[last].conn, p.idle[last].since
		p.idle[last] = idleConn{}
		p.idle = p.idle[:last]
		p.mu.Unlock()
		if repeatable && now.Sub(since) < warm || conn.Alive() {
			return conn
		}
		conn.Close()
	}
}

func (p *pool) put(conn *http1.ClientConn) {
	p.mu.Lock()
	full := p.closed || len(p.idle) >= maxIdle
	if !full {
		p.idle = append(p.idle, idleConn{conn, conn.Used()})
	}
	p.mu.Unlock()
	if full {
		conn.Close()
	}
}

func (p *pool) closeIdleSince(limit time.Time) {
	p.mu.Lock()
	old := 0
	for old < len(p.idle) && p.idle[old].since.Before(limit) {
		old++
	}
	gone := append([]idleConn(nil), p.idle[:old]...)
	p.idle = append(p.idle[:0], p.idle[old:]...)
	p.mu.Unlock()
	for _, c := range gone {
		c.conn.Close()
	}
}

// close closes idle connections, and those that come back.
func (p *pool) close() {
	p.mu.Lock()
	gone := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range gone {
		c.conn.Close()
	}
}
