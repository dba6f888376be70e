package http2

import (
	"errors"
	"net"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

// ClientConn is one upstream connection. It carries many exchanges at a time. Its
// methods are safe for concurrent use.
type ClientConn struct {
	link
	// set by NewClientConn
	cfg ClientConfig
	// mu guards:
	// nextID is the next stream's, active are those acquired.
	nextID uint32
	active int
	// most is how many streams the upstream allows, connect that it knows extended
	// CONNECT.
	most    int
	connect bool
	// leaving says that no more streams are to be opened, finished that the reader
	// was told to end.
	// retired is leaving, once those that have a place have ended.
	leaving, finished, retired bool
	// ending is how it ended; told that the upstream has said that it goes.
	ending wire.Ending
	told   bool
	// idleSince is when the last stream ended; zero if there is one.
	idleSince time.Time
}

var _ role = (*ClientConn)(nil)

// NewClientConn makes an upstream connection of conn, which must be connected and
// speak HTTP/2 (its TLS handshake done). It owns conn from now on. Nothing is read
// before Run.
func NewClientConn(conn net.Conn, cfg ClientConfig) *ClientConn {
	c := &ClientConn{cfg: cfg.withDefaults(), nextID: 1}
	c.most, c.idleSince = c.cfg.MaxStreams, time.Now()
	c.init(conn, &c.cfg.Bounds, c, c.cfg.Frames)
	c.headTime = DefaultHeaderTimeout // a block that does not end holds up all streams
	c.onLate = c.countLate
	c.out = append(c.out, preface...)
	c.greet(http2.Setting{ID: http2.SettingEnablePush, Val: 0})
	return c
}

// countLate counts a PING that was not answered.
func (c *ClientConn) countLate(what lateness) {
	if what == latePong {
		c.frames.Unanswered.Add(1)
	}
}

// Run reads what the upstream sends until the connection ends, closes it, and
// returns why; nil if it was shut down. It is called once.
func (c *ClientConn) Run() error {
	c.mu.Lock()
	c.unlock(true)
	err := c.read()
	c.mu.Lock()
	bad, broken := errors.AsType[connError](err)
	c.ending = wire.Ending{Ours: broken || c.finished || c.killed.Load(), Busy: len(c.streams) > 0}
	if broken {
		c.frames.Errors.Add(1)
		c.out = appendGoAway(c.out, 0, bad.code, bad.reason)
	} else if c.finished {
		err = nil
		c.out = appendGoAway(c.out, 0, http2.ErrCodeNo, "")
	}
	c.leaving = true
	if broken || err == nil {
		c.lastWords()
	}
	c.fail(errLost)
	c.mu.Unlock()
	base(c.nc).Close()
	c.bounds.Buffers.put(c.in)
	c.in = nil
	return err
}

// Ending is how the connection ended. It holds once Run has returned.
func (c *ClientConn) Ending() wire.Ending {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ending
}

// Acquire takes a place for one exchange, which [ClientConn.RoundTrip] uses. It is
// false if the connection is full or takes no more.
func (c *ClientConn) Acquire() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.goneLocked() || c.retired || c.active >= min(c.most, c.cfg.MaxStreams) {
		return false
	}
	c.active++
	c.idleSince = time.Time{}
	return true
}

// Gone tells whether the connection takes no more exchanges, now and later. Those
// under way go on.
func (c *ClientConn) Gone() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.goneLocked()
}

func (c *ClientConn) goneLocked() bool {
	return c.leaving || c.dead != nil || c.nextID >= maxStreamID-1
}

// IdleSince is when the last exchange ended; zero while there is one.
func (c *ClientConn) IdleSince() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.idleSince
}

// Shutdown lets exchanges end, takes no more, and then closes.
func (c *ClientConn) Shutdown() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.leaving = true
	c.finishIfIdle()
}

// Retire gives out no more places, and closes when all are given back. Unlike
// after Shutdown, exchanges that have a place may still begin.
func (c *ClientConn) Retire() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.retired = true
	if c.active == 0 {
		c.leaving = true
		c.finishIfIdle()
	}
}

// Close closes the connection at once.
func (c *ClientConn) Close() error {
	c.killed.Store(true)
	return base(c.nc).Close()
}

// finishIfIdle ends the reader of a connection that nobody needs any more. The
// lock is held.
func (c *ClientConn) finishIfIdle() {
	if c.leaving && c.active == 0 && !c.finished {
		c.finished = true
		c.nc.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection has ended, too
	}
}

// release gives an acquired place back. The lock is held.
func (c *ClientConn) release() {
	if c.active--; c.active == 0 {
		c.idleSince = time.Now()
		c.leaving = c.leaving || c.retired
		c.finishIfIdle()
	}
	if c.cfg.Released != nil {
		c.cfg.Released()
	}
}

// RoundTrip sends req and returns the response when its head is there. The caller
// is the goroutine that serves x, and has acquired a place. It fills Head, Status
// and Flag of a, which is x's current attempt.
//
// An error is a [*wire.Fault]: 502 for what is no HTTP, 503 for a stream or
// connection that was lost, 504 for a timeout; if the client is the cause, the
// fault of its request's body. Its Repeat tells whether the upstream may have seen
// the request: RepeatAny only if none of it has left, or the upstream has said
// that it did not look. A request body that was read from is not rewound (see
// [wire.Replay]).
//
// After a 101, or a 2xx to CONNECT, the response's Body is what the upstream sends,
// req.Body what the client sends: it is read from the first Read of the response's
// Body on, and x.Deadline does not hold any longer. A request with Upgrade is sent
// as extended CONNECT (RFC 8441), if the upstream knows it.
func (c *ClientConn) RoundTrip(x *wire.Exchange, a *wire.Attempt, req *wire.Request) (*wire.Response, error) {
	t := c.bounds.Buffers.takeTrip()
	t.begin(c, x, a, req)
	x.Lend(t)
	if err := x.OnAbort(t); err != nil {
		return nil, t.fail(wire.Aborted(err))
	}
	if err := t.send(); err != nil {
		return nil, err
	}
	if err := t.receive(); err != nil {
		return nil, t.lost(err)
	}
	return &t.resp, nil
}

// unopened implements role.
func (c *ClientConn) unopened(id uint32) bool { return id%2 == 0 || id >= c.nextID }

// cut implements role: who waits for the stream finds out.
func (c *ClientConn) cut(*stream) {}

// setting implements role.
func (c *ClientConn) setting(s http2.Setting) error {
	switch s.ID {
	case http2.SettingMaxConcurrentStreams:
		c.most = int(min(s.Val, maxWindow))
	case settingConnectProtocol:
		c.connect = s.Val == 1
	case http2.SettingEnablePush:
		if s.Val != 0 {
			return connError{http2.ErrCodeProtocol, "a server that enables push"}
		}
	default: // of no interest to a client
	}
	return nil
}

// goAway implements role.
func (c *ClientConn) goAway(last uint32, _ http2.ErrCode) {
	c.leaving = true
	if !c.told {
		c.told = true
		if c.cfg.Left != nil {
			c.cfg.Left()
		}
	}
	for id, s := range c.streams {
		if id > last {
			c.end(s, errUnprocessed, true)
		}
	}
	c.finishIfIdle()
}

// head implements role.
func (c *ClientConn) head(id uint32, p []byte, ended bool, bad breach) error {
	s := c.streams[id]
	switch {
	case s == nil && c.unopened(id):
		return connError{http2.ErrCodeProtocol, "HEADERS on an idle stream"}
	case s == nil:
		return c.ignore(p) // on its way when we cut it off
	case s.remoteDone:
		if err := c.ignore(p); err != nil {
			return err
		}
		return c.streamError(id, s, http2.ErrCodeStreamClosed, errMalformed)
	case s.trip.headed:
		return c.takeTrailer(s, p, ended, bad)
	}
	t := s.trip
	c.block.begin(blockResponse, &t.resp.Header, c.bounds)
	defer c.block.forget()
	if err := c.decode(p); err != nil {
		return err
	}
	if bad == "" && c.block.tooLarge != "" {
		c.frames.TooLarge.Add(1)
		bad = c.block.tooLarge
	}
	if bad == "" {
		bad = t.take(&c.block, ended)
	}
	switch {
	case bad != "":
		if c.block.tooLarge == "" {
			c.frames.Errors.Add(1)
		}
		return c.streamError(id, s, http2.ErrCodeProtocol, bad)
	case ended:
		return c.remoteEnd(s)
	}
	return nil
}
