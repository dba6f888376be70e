package http2

import (
	"fmt"
	"net/http"
	"runtime/debug"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

// exchange is one stream of a downstream connection, kept for the next one.
type exchange struct {
	stream
	c      *conn
	worker *worker // that waits for the exchange; nil for a new one
	x      wire.Exchange
	req    wire.Request
	body   requestBody
	key    string // of a websocket, made here
	// head and resp are the response that is sent.
	head responseHead
	resp *wire.Response

	// link.mu guards:
	// raw says that the stream is a tunnel, switched that it has begun to be one.
	raw, switched bool
	// expected says that the client waits for 100, headed that the final head was
	// appended, so that nothing may come before it any more.
	expected, headed bool
	// done says that x is not to be touched by the reader any more.
	done bool
	// read says that the body was read to its end, in how many bytes it had.
	read bool
	in   int64
	// active is when bytes last moved, either way, while more may come.
	active time.Time
}

func (p *Buffers) takeExchange() *exchange {
	if ex, ok := p.exchanges.Get().(*exchange); ok {
		return ex
	}
	ex := &exchange{}
	ex.ex = ex
	ex.body.ex = ex
	return ex
}

// begin makes the exchange ready whose stream has just been opened. The lock is
// held.
func (ex *exchange) begin(c *conn) {
	ex.c, ex.worker = c, nil
	ex.switched, ex.headed, ex.done, ex.read, ex.in = false, false, false, false, 0
	ex.expected, ex.active = ex.req.ExpectContinue, time.Time{}
	req, x := &ex.req, &ex.x
	x.Reset(ex, c.peer, c.lastRead)
	req.SchemeFrom(c.peer)
	if ex.raw || !ex.remoteDone {
		req.Body = &ex.body
	}
	x.Method, x.Authority, x.Path = req.Method, req.Authority, req.Path
	x.GRPC = wire.IsGRPC(&req.Header)
	ex.key = ""
	if req.Upgrade == websocket {
		ex.key = offerKey(&req.Header)
	}
}

// serve serves one exchange.
func (c *conn) serve(ex *exchange) {
	defer func() {
		if v := recover(); v != nil {
			c.panicked(ex, v)
		}
	}()
	ex.x.Request = &ex.req
	resp, err := c.srv.service().Serve(&ex.x, &ex.req)
	c.answer(ex, resp, err)
	c.finish(ex)
}

// finish ends the exchange.
func (c *conn) finish(ex *exchange) {
	c.mu.Lock()
	clean := ex.settle()
	c.unlock(false)
	if ex.x.Done(time.Now()) && clean {
		ex.req.Body, ex.resp = nil, nil
		c.bounds.Buffers.exchanges.Put(ex)
	}
}

// panicked answers and ends an exchange whose service has panicked.
func (c *conn) panicked(ex *exchange, v any) {
	c.srv.count(func(s *Stats) { s.Panics.Add(1) })
	c.srv.log.Error("panic while serving a request", "panic", fmt.Sprint(v), "stack", string(debug.Stack()))
	c.mu.Lock()
	over := ex.done
	c.mu.Unlock()
	if over {
		return
	}
	defer func() {
		if v := recover(); v != nil {
			c.srv.log.Error("panic at the end of an exchange", "panic", fmt.Sprint(v))
		}
	}()
	x := &ex.x
	x.Abort(errPanicked)
	if x.HeadSent.IsZero() {
		c.answer(ex, nil, &wire.Fault{Status: http.StatusInternalServerError, Flag: wire.FlagInternal, Err: errPanicked})
	}
	c.mu.Lock()
	ex.settle()
	c.unlock(false)
	x.Done(time.Now())
}

// Watch implements [wire.Control]: the reader sees the client leave anyway.
func (ex *exchange) Watch() {}

// Interim implements [wire.Control].
func (ex *exchange) Interim(status int, header *wire.Header) error {
	if status < 100 || status > 199 || status == http.StatusSwitchingProtocols {
		return errBadResponse
	}
	if err := checkFields(header); err != nil {
		return err
	}
	l := ex.l
	l.mu.Lock()
	defer l.unlock(false)
	switch {
	case ex.over != nil:
		return ex.over
	case ex.headed, status == http.StatusContinue && !ex.expected:
		return nil
	case status == http.StatusContinue:
		ex.expected = false
	}
	l.interim(ex.id, status, header)
	return nil
}

// interim appends the head of an interim response. The lock is held.
func (l *link) interim(id uint32, status int, header *wire.Header) {
	start := l.beginHead(id, false)
	l.out = appendFields(l.enc, appendStatus(l.enc, l.enc.begin(l.out), status), header)
	l.endHead(start)
}

// settle ends what is left of the stream and tells whether it may be used again.
// The lock is held.
func (ex *exchange) settle() (clean bool) {
	ex.done = true
	if ex.localDone && !ex.remoteDone && ex.over == nil && !ex.switched {
		ex.c.srv.count(func(s *Stats) { s.Unfinished.Add(1) })
	}
	code := http2.ErrCodeNo
	if !ex.localDone {
		code = http2.ErrCodeInternal
	}
	clean = (ex.req.Body == nil || ex.read) && !ex.torn && !ex.reading
	ex.abandon(code, errClosedBody)
	ex.x.BytesIn = ex.in
	return clean
}
