package http1

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/socket"
)

// phase is what a downstream connection reads.
type phase uint8

const (
	phaseIdle phase = iota
	phaseHead
	phaseBody
	phaseTunnel
)

// conn is one downstream connection.
type conn struct {
	// set by newConn
	srv   *Server
	nc    net.Conn
	peer  *wire.Peer
	drain *wire.Drain

	// owned by the goroutine that serves, reading lent to who reads the body
	src   source
	snk   sink
	rd    deadline
	phase phase
	until time.Time     // the end of a wait; zero for none
	pause time.Duration // until is that long after a read of a body or tunnel begins; 0 for none
	slow  time.Duration // how long the head under way made us wait
	now   time.Time     // a time that is good enough to begin phaseIdle
	ex    *exchange
	hard  bool // the connection is to be closed without further ado
	fresh bool // no request has been waited for yet
	// ending is how it ends, as far as that is known; drained says that a drain was
	// counted, parting that the client asked for the end and has sent all it had to.
	ending           wire.Ending
	drained, parting bool
	// active is when a tunnel last moved bytes, in nanoseconds since start.
	start  time.Time
	active atomic.Int64
	// answering says that the response has begun, so that the request may take its time.
	answering atomic.Bool

	mu sync.Mutex // guards:
	// idle says that no exchange is under way, closing that none may follow.
	idle, closing, killed bool
	watch                 watch
	tunnelled             *wire.Exchange // that of a tunnel, nil if there is none

	interim sync.Mutex // held while an interim response is written; guards:
	// continued says that the client does not wait for 100, or no longer.
	continued bool
}

func newConn(s *Server, nc net.Conn, peer *wire.Peer, drain *wire.Drain) *conn {
	nc = socket.New(nc)
	c := &conn{srv: s, nc: nc, peer: peer, drain: drain, start: time.Now(), fresh: true}
	c.now = c.start
	c.rd.set = nc.SetReadDeadline
	c.snk = sink{conn: nc, timeout: s.cfg.WriteTimeout}
	c.snk.deadline.set = nc.SetWriteDeadline
	c.src = source{conn: nc, pool: s.cfg.Buffers, guard: c, first: smallBuffer}
	c.src.sock, _ = nc.(*socket.Conn)
	return c
}

// Peer implements [wire.Known].
func (c *conn) Peer() *wire.Peer { return c.peer }

// CloseIdle implements [wire.Drainable].
func (c *conn) CloseIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing = true
	if c.idle {
		c.rd.interrupt()
	}
}

// Kill implements [wire.Drainable].
func (c *conn) Kill() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closing, c.killed = true, true
	base(c.nc).Close()
	if c.tunnelled != nil {
		c.tunnelled.Abort(wire.ErrClientGone)
	}
}

// base is the connection below TLS, whose Close does not wait for anybody.
func base(nc net.Conn) net.Conn {
	if sock := socket.Of(nc); sock != nil {
		return sock
	}
	if t, ok := nc.(*tls.Conn); ok {
		return t.NetConn()
	}
	return nc
}

// arm implements guard.
func (c *conn) arm(again bool) {
	if !again && c.phase != phaseIdle {
		c.now = time.Now()
		switch c.phase {
		case phaseBody:
			c.pause = c.ex.x.Pause(c.srv.cfg.BodyIdleTimeout)
			c.until = endOf(c.now, c.pause)
		case phaseTunnel:
			c.pause = c.ex.x.Pause(c.srv.cfg.TunnelTimeout)
			c.until = endOf(c.now, c.pause)
		case phaseIdle, phaseHead:
		}
	}
	c.rd.early(c.now, sooner(c.until, c.wholeBy()))
}

// wholeBy is until when the request has to be whole; zero for never.
func (c *conn) wholeBy() time.Time {
	if c.phase != phaseBody || c.answering.Load() {
		return time.Time{}
	}
	return endOf(c.ex.x.Start, c.srv.cfg.RequestTimeout)
}

// expired implements guard.
func (c *conn) expired() error {
	c.now = time.Now()
	if c.phase == phaseTunnel || c.phase == phaseBody { // what goes the other way may have moved meanwhile
		c.until = later(c.until, endOf(c.start.Add(time.Duration(c.active.Load())), c.pause))
	}
	if c.rd.stop.Load() || reached(sooner(c.until, c.wholeBy()), c.now) {
		return os.ErrDeadlineExceeded
	}
	return nil
}

// serve serves one exchange, whose first bytes are there, and tells whether
// another one may follow.
func (c *conn) serve() (again bool) {
	ex := c.srv.takeExchange()
	c.ex, ex.done = ex, true
	defer func() {
		if v := recover(); v != nil {
			again = false
			c.panicked(ex, v)
		}
		c.ex = nil
	}()
	start := time.Now()
	if p, err := c.readHead(ex, start); err != nil {
		c.hard = true
		return false
	} else if p != 0 {
		c.refuse(p)
		return false
	}
	c.begin(ex, start)
	ex.x.Request = &ex.req
	resp, err := c.srv.service().Serve(&ex.x, &ex.req)
	again = c.answer(ex, resp, err)
	return c.finish(ex, again)
}

// readHead reads one head; err is why it did not come.
func (c *conn) readHead(ex *exchange, start time.Time) (p problem, err error) {
	c.phase, c.until = phaseHead, time.Time{}
	if d := c.srv.cfg.HeaderTimeout; d > 0 {
		c.until = start.Add(d)
	}
	lim := limits{bytes: c.srv.cfg.MaxHeaderBytes, fields: c.srv.cfg.MaxHeaders}
	c.slow = 0
	blank := false
	for seen := 0; ; {
		have := c.src.unread()
		if !blank && len(have) >= 2 && have[0] == '\r' && have[1] == '\n' {
			// RFC 9112 section 2.2: one empty line before a request is ignored.
			blank = true
			c.src.r += 2
			seen = 0
			continue
		}
		size := headEnd(have, seen)
		if size > lim.bytes || size == 0 && len(have) > lim.bytes {
			return tooLarge(have[:lim.bytes]), nil
		}
		if size > 0 {
			c.src.r += size
			c.src.hold()
			return parseRequest(have[:size], lim, c.srv.cfg.Connect, &ex.req, &ex.framing), nil
		}
		if p = checkLines(have, seen); p != 0 {
			return p, nil
		}
		seen = len(have)
		switch err = c.src.fill(); {
		case err == nil:
			c.slow = time.Since(start)
		case errors.Is(err, os.ErrDeadlineExceeded):
			c.srv.count(func(s *Stats) { s.HeaderTimeouts.Add(1) })
			return errHeadTimeout, nil
		default:
			return 0, err
		}
	}
}

func tooLarge(have []byte) problem {
	if slices.Contains(have, '\n') {
		return errHeadTooLarge
	}
	return errTargetTooLong
}

// begin makes the exchange and its request's body ready.
func (c *conn) begin(ex *exchange, start time.Time) {
	req := &ex.req
	ex.x.Reset(c, c.peer, start)
	ex.x.HeadWait = c.slow
	ex.done, ex.waits = false, false
	req.SchemeFrom(c.peer)
	req.Body = nil
	ex.x.Method, ex.x.Authority, ex.x.Path = req.Method, req.Authority, req.Path
	ex.x.GRPC = wire.IsGRPC(&req.Header)
	c.phase = phaseBody
	c.answering.Store(false)
	c.snk.timeout = c.srv.cfg.WriteTimeout
	c.continued = !req.ExpectContinue || len(c.src.unread()) > 0
	c.mu.Lock()
	c.watch.begin(req.ContentLength == 0 && req.Upgrade == "" && req.Method != http.MethodConnect)
	c.mu.Unlock()
	if ex.body.begin(c, req, &ex.framing) {
		req.Body = ex.body
	}
}

// finish ends the exchange after its response and tells whether another one may
// follow; again is whether one would be welcome.
func (c *conn) finish(ex *exchange, again bool) bool {
	c.stopWatch()
	clean := ex.body.end()
	c.now = time.Now()
	ex.x.BytesIn = ex.body.count
	ex.done = true
	reusable := ex.x.Done(c.now)
	again = again && !c.hard && ex.body.drain()
	if !reusable {
		c.src.detach()
		return again
	}
	c.src.forget()
	c.snk.after = nil
	if !clean {
		ex.body = &requestBody{}
	}
	ex.req.Body = nil
	c.srv.exchanges.Put(ex)
	return again
}

// panicked answers and ends an exchange whose service has panicked.
func (c *conn) panicked(ex *exchange, v any) {
	c.srv.count(func(s *Stats) { s.Panics.Add(1) })
	c.srv.log.Error("panic while serving a request", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	c.hard, c.ending.Ours = true, true
	if ex.done {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			c.srv.log.Error("panic at the end of an exchange", "panic", fmt.Sprint(v))
		}
	}()
	x := &ex.x
	x.Abort(panicked)
	if x.HeadSent.IsZero() {
		c.answer(ex, nil, &wire.Fault{Status: http.StatusInternalServerError, Flag: wire.FlagInternal, Close: true, Err: panicked})
		c.hard = false
	}
	c.stopWatch()
	ex.body.end()
	x.BytesIn = ex.body.count
	ex.done = true
	x.Done(time.Now())
	c.src.detach()
}
