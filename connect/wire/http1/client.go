package http1

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/socket"
)

// ClientConn is one upstream connection. It carries one exchange at a time;
// whoever keeps it idle calls Alive before the next one.
type ClientConn struct {
	// set by NewClientConn
	conn    net.Conn
	cfg     ClientConfig
	release func(c *ClientConn, reusable bool)
	secure  bool

	// owned by the goroutine that serves the exchange under way; snk is lent to
	// the pump while there is one
	src  source
	snk  sink
	rd   deadline
	trip *trip
	held heldBack
	used time.Time    // when the last head of a response was there
	sock *socket.Conn // at the bottom of conn; nil if there is none
	one  [1]byte
	// ending is how it ended, once a trip has ended it; closing says that the upstream
	// has announced it.
	ending  wire.Ending
	closing bool
	// active is when a tunnel last moved bytes, in nanoseconds since start.
	start  time.Time
	active atomic.Int64
}

// NewClientConn makes an upstream connection of conn, which must be connected
// (and its TLS handshake done). It owns conn from now on. As downstream, a
// *net.TCPConn, *net.UnixConn or *tls.Conn is served best.
//
// release is called exactly once for each RoundTrip: if it fails, before it
// returns; otherwise when both bodies have ended, which is when the response's
// Body returned io.EOF or was closed, and without a Body before RoundTrip
// returns. It is called by the goroutine that ended the exchange and may hand
// the connection to another one at once. If reusable is false, the connection
// has been closed.
func NewClientConn(conn net.Conn, cfg ClientConfig, release func(c *ClientConn, reusable bool)) *ClientConn {
	conn = socket.New(conn)
	c := &ClientConn{conn: conn, cfg: cfg.withDefaults(), release: release, start: time.Now()}
	_, c.secure = conn.(*tls.Conn)
	c.rd.set = conn.SetReadDeadline
	c.snk = sink{conn: conn, timeout: c.cfg.WriteTimeout}
	c.snk.deadline.set = conn.SetWriteDeadline
	c.src = source{conn: conn, pool: c.cfg.Buffers, guard: c, first: mediumBuffer}
	c.src.sock, _ = conn.(*socket.Conn)
	c.sock = socket.Of(conn)
	return c
}

// RoundTrip sends req and returns the response when its head is there. The
// caller is the goroutine that serves x. It fills Head, Status and Flag of a,
// which is x's current attempt.
//
// An error is a [*wire.Fault]: 502 for what is no HTTP, 503 for a connection
// that was lost, 504 for a timeout; if the client is the cause, the fault of its
// request's body. Its Repeat tells whether bytes had left: RepeatAny only if
// none had. A request body that was read from is not rewound (see [wire.Replay]).
//
// After a 101, or a 2xx to CONNECT, the response's Body is what the upstream
// sends, req.Body what the client sends: it is read from the first Read of the
// response's Body on, and x.Deadline does not hold any longer.
func (c *ClientConn) RoundTrip(x *wire.Exchange, a *wire.Attempt, req *wire.Request) (*wire.Response, error) {
	t := c.cfg.Buffers.takeTrip()
	t.begin(c, x, a, req)
	x.Lend(t)
	if err := x.OnAbort(c); err != nil {
		return nil, t.fail(wire.Aborted(err), true)
	}
	if err := t.send(); err != nil {
		return nil, err
	}
	if err := t.receive(); err != nil {
		return nil, t.lost(err)
	}
	return &t.resp, nil
}

// Ending is how the connection ended, as release was told with reusable false.
// announced says that the last response had said so.
func (c *ClientConn) Ending() (how wire.Ending, announced bool) { return c.ending, c.closing }

// Used is when the head of the last response was there; zero before the first.
func (c *ClientConn) Used() time.Time { return c.used }

// Alive tells whether an idle connection may be used for one more exchange: it
// looks without waiting whether the upstream has closed it or sent bytes that
// nobody asked for. One that is warm spares the system call: what was not read yet
// is not seen. A connection that is not alive should be closed.
func (c *ClientConn) Alive(warm bool) bool {
	if len(c.src.unread()) > 0 || c.rd.stop.Load() {
		return false
	}
	if c.sock == nil {
		c.rd.move(past())
		n, err := c.conn.Read(c.one[:])
		return n == 0 && errors.Is(err, os.ErrDeadlineExceeded)
	}
	if !warm {
		if more, open := c.sock.Peek(); more || !open {
			return false
		}
	}
	if !c.secure {
		return true
	}
	// TLS may hold bytes that it has read from the socket but not given to us.
	c.sock.Starve(true)
	n, err := c.conn.Read(c.one[:])
	c.sock.Starve(false)
	timeout, ok := errors.AsType[net.Error](err)
	return n == 0 && ok && timeout.Timeout()
}

// Cancel ends the exchange under way from any goroutine, without waiting; its
// reads and writes fail. It implements [wire.Canceler].
func (c *ClientConn) Cancel() {
	c.rd.interrupt()
	c.snk.deadline.interrupt()
}

// Close closes an idle connection.
func (c *ClientConn) Close() error { return c.conn.Close() }

// arm implements guard.
func (c *ClientConn) arm(again bool) { c.trip.arm(again) }

// expired implements guard.
func (c *ClientConn) expired() error { return c.trip.expired() }

// touch notes that a tunnel has moved bytes.
func (c *ClientConn) touch() { c.active.Store(int64(time.Since(c.start))) }
