package http2

import (
	"errors"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// answer sends the response of a service, or the one that its error makes.
func (c *conn) answer(ex *exchange, resp *wire.Response, err error) {
	x := &ex.x
	if reason := x.Aborted(); errors.Is(reason, wire.ErrClientGone) {
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		x.Flag, x.Err = wire.FlagDownstreamReset, reason
		c.srv.count(func(s *Stats) { s.Aborted.Add(1) })
		return
	}
	switch {
	case err != nil:
		resp = wire.Reply(x, err)
	case resp == nil:
		resp, err = wire.Reply(x, errNoAnswer), errNoAnswer
	}
	if err != nil {
		c.complain(x, err)
	}
	if err = c.respond(ex, resp); err != nil {
		// Nothing has left yet: there is room for a better answer.
		c.complain(x, err)
		err = c.respond(ex, wire.Reply(x, err))
	}
	if err != nil {
		c.srv.log.Error("no response could be sent", "error", err)
	}
}

// complain logs what no client and no upstream has caused.
func (c *conn) complain(x *wire.Exchange, err error) {
	var b breach
	if errors.As(err, &b) && (b == errBadField || b == errBadResponse || b == errNoAnswer) {
		c.srv.log.Error("a response cannot be sent", "error", err, "route", x.Route, "cluster", x.Cluster)
	}
}

// responseHead says how a response is sent.
type responseHead struct {
	status int
	length int64 // Content-Length, negative for none
	body   bool
	tunnel bool
}

// plan says how a response is sent. That goes by the method of the client, which layers
// may have changed in the request: to HEAD there is never a body.
func (ex *exchange) plan(resp *wire.Response) (h responseHead, err error) {
	req := &ex.req
	h = responseHead{status: resp.Status, length: -1}
	switch {
	case resp.Status == http.StatusSwitchingProtocols:
		if req.Upgrade == "" || resp.Body == nil {
			return h, errBadResponse
		}
		if err = checkAnswer(ex.key, resp); err != nil {
			return h, err
		}
		h.status, h.tunnel = http.StatusOK, true // RFC 8441 section 5
	case resp.Status < 200 || resp.Status > 999:
		return h, errBadResponse
	case ex.x.Method == http.MethodConnect && resp.Status/100 == 2:
		if resp.Body == nil {
			return h, errBadResponse
		}
		h.tunnel = true
	case resp.Status == http.StatusNoContent:
	case resp.Status == http.StatusNotModified: // clients of Go would wait for so much
	case ex.x.Method == http.MethodHead:
		if resp.ContentLength > 0 {
			h.length = resp.ContentLength
		}
	case resp.Body == nil:
		if resp.ContentLength > 0 {
			return h, errBadResponse
		}
		if !ex.x.GRPC {
			h.length = 0
		}
	default:
		h.length, h.body = resp.ContentLength, true
	}
	return h, checkFields(&resp.Header)
}

// respond sends one response. An error means that nothing of it has left.
func (c *conn) respond(ex *exchange, resp *wire.Response) error {
	if resp.Body != nil {
		defer resp.Body.Close()
	}
	head, err := ex.plan(resp)
	if err != nil {
		return err
	}
	x := &ex.x
	ex.head, ex.resp = head, resp
	x.Status, x.HeadSent, x.Response = head.status, time.Now(), resp
	if !head.body && !head.tunnel {
		c.mu.Lock()
		err = ex.sendHead()
		c.unlock(false)
		if err != nil {
			c.gaveUp(ex, nil, err)
		}
		return nil
	}
	out := sender{s: &ex.stream, side: ex, length: head.length}
	if head.tunnel {
		c.tunnel(ex, resp.Body, &out)
		return nil
	}
	readErr, writeErr := out.copy(resp.Body)
	x.BytesOut = out.sent
	switch {
	case readErr != nil && !out.headed:
		x.Status, x.HeadSent, x.Response = 0, time.Time{}, nil
		return wire.BrokeOff(readErr)
	case readErr != nil || writeErr != nil:
		c.gaveUp(ex, readErr, writeErr)
	}
	return nil
}

// depart tells the client that we go, if we do. The lock is held.
func (c *conn) depart(ex *exchange) {
	draining := c.drain.Draining()
	if draining && !c.drained {
		c.drained = true
		c.srv.count(func(s *Stats) { s.Drained.Add(1) })
	}
	switch {
	case ex.x.CloseDownstream:
		c.close()
	case c.stage == staying && draining:
		c.leave()
	}
}

// writeLimit implements sending.
func (ex *exchange) writeLimit(since time.Time) time.Time {
	if ex.switched {
		return ex.patience(ex.active)
	}
	return endOf(since, ex.x.Pause(ex.l.bounds.WriteTimeout))
}

// sendHead implements sending.
func (ex *exchange) sendHead() error {
	if ex.over != nil {
		return ex.over
	}
	ex.headed = true
	if !ex.remoteDone && !ex.head.tunnel {
		ex.c.srv.count(func(s *Stats) { s.Early.Add(1) })
	}
	l := ex.l
	ended := !ex.head.body && !ex.head.tunnel
	start := l.beginHead(ex.id, ended)
	l.out = ex.appendHead(l.enc.begin(l.out))
	l.endHead(start)
	if ended {
		ex.localEnd()
	}
	ex.c.depart(ex)
	return nil
}

// appendHead writes the header block of the response.
func (ex *exchange) appendHead(b []byte) []byte {
	h, header, enc := &ex.head, &ex.resp.Header, ex.l.enc
	b = appendStatus(enc, b, h.status)
	date := false
	for i := range header.Len() {
		f := header.At(i)
		switch f.Name {
		case "date":
			date = true
		case acceptField:
			if h.tunnel { // there is no key in HTTP/2 (RFC 8441 section 5)
				continue
			}
		}
		if !grammar.Own(f.Name) {
			b = enc.field(b, f.Name, f.Value)
		}
	}
	if !date {
		b = enc.field(b, "date", ex.c.srv.dateAt(ex.x.HeadSent))
	}
	if h.length >= 0 {
		b = enc.field(b, "content-length", enc.decimal(h.length))
	}
	return b
}

// appendStatus writes :status.
func appendStatus(enc *encoder, b []byte, status int) []byte {
	if status == http.StatusOK {
		return append(b, 0x80|8)
	}
	return enc.field(b, ":status", enc.decimal(int64(status)))
}

// appendFields writes the fields of h but the connection's own.
func appendFields(enc *encoder, b []byte, h *wire.Header) []byte {
	for i := range h.Len() {
		if f := h.At(i); !grammar.Own(f.Name) {
			b = enc.field(b, f.Name, f.Value)
		}
	}
	return b
}

// gaveUp ends an exchange whose response breaks off, so that the client does not
// take it for complete.
func (c *conn) gaveUp(ex *exchange, readErr, writeErr error) {
	c.srv.count(func(s *Stats) { s.Aborted.Add(1) })
	x := &ex.x
	flag, err := wire.FlagDownstreamReset, writeErr
	code := http2.ErrCodeCancel
	if readErr != nil {
		flag, err = wire.FlagUpstreamReset, readErr
		code = http2.ErrCodeInternal
		if reset, ok := errors.AsType[*ResetError](readErr); ok {
			code = http2.ErrCode(reset.Code)
		}
		if reason := x.Aborted(); errors.Is(reason, wire.ErrClientGone) {
			flag, err = wire.FlagDownstreamReset, reason
		} else if fault := wire.BrokeOff(readErr); fault.Flag != wire.FlagInternal {
			flag = fault.Flag
		}
	}
	if x.Flag == wire.FlagNone {
		x.Flag = flag
	}
	if x.Err == nil {
		x.Err = err
	}
	x.Cut = flag != wire.FlagDownstreamReset
	c.mu.Lock()
	ex.abandon(code, errBadResponse)
	c.unlock(false)
}

// tunnel sends the head, then moves bytes both ways until both sides have ended:
// this goroutine from body to the client, and whoever reads the request's body the
// other way.
func (c *conn) tunnel(ex *exchange, body wire.Body, out *sender) {
	c.mu.Lock()
	err := out.begin()
	ex.switched, ex.active = true, time.Now()
	c.unlock(false)
	if err != nil {
		c.gaveUp(ex, nil, err)
		return
	}
	out.length = -1
	readErr, writeErr := out.copy(body)
	ex.x.BytesOut = out.sent
	if readErr != nil || writeErr != nil {
		c.gaveUp(ex, readErr, writeErr)
		return
	}
	// The upstream has ended its side; the client may go on with its own.
	c.mu.Lock()
	defer c.unlock(false)
	for !ex.remoteDone && ex.over == nil && !ex.dropped {
		if !ex.awaitOther() {
			return
		}
	}
	for ex.over == nil && !ex.read && !ex.dropped { // what has come is still on its way
		if !ex.awaitOther() {
			return
		}
	}
}

// awaitOther waits for a change of a tunnel whose upstream has ended its side, and
// is false if nothing has moved for too long. The lock is held.
func (ex *exchange) awaitOther() bool {
	return ex.await(&ex.writeUntil, ex.patience(ex.active)) || time.Now().Before(ex.patience(ex.active))
}
