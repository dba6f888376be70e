package http1

import (
	"errors"
	"net/http"
	"os"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// Interim implements [wire.Control].
func (c *conn) Interim(status int, header *wire.Header) error {
	switch {
	case status < 100 || status > 199 || status == http.StatusSwitchingProtocols:
		return errBadResponse
	case c.ex.req.Minor == 0:
		return nil // RFC 9110 section 15.2
	}
	c.interim.Lock()
	defer c.interim.Unlock()
	if status == http.StatusContinue {
		if c.continued {
			return nil
		}
		c.continued = true
	}
	head := responseHead{status: status, header: header, length: wire.UnknownLength}
	buf := c.srv.cfg.Buffers.get(head.size())
	defer c.srv.cfg.Buffers.put(buf)
	b, err := head.appendTo(buf.b[:0])
	if err != nil {
		return err
	}
	_, err = c.snk.write(time.Now(), b)
	return err
}

// sendContinue sends 100 if the client waits for it.
func (c *conn) sendContinue() error {
	c.interim.Lock()
	defer c.interim.Unlock()
	if c.continued {
		return nil
	}
	c.continued = true
	_, err := c.snk.write(time.Now(), []byte("HTTP/1.1 100 Continue\r\n\r\n"))
	return err
}

// lastInterim ends the time of interim responses. Whoever reads the request's
// body might still send 100, into the middle of the final response.
func (c *conn) lastInterim(ex *exchange) {
	if !ex.req.ExpectContinue {
		return
	}
	c.interim.Lock()
	defer c.interim.Unlock()
	ex.waits = ex.waits || !c.continued
	c.continued = true
}

// answer sends the response of a service, or the one that its error makes, and
// tells whether another request would be welcome.
func (c *conn) answer(ex *exchange, resp *wire.Response, err error) (again bool) {
	x := &ex.x
	if reason := x.Aborted(); errors.Is(reason, wire.ErrClientGone) {
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		x.Flag, x.Err = wire.FlagDownstreamReset, reason
		c.hard, c.ending.Busy = true, true
		return false
	}
	c.lastInterim(ex)
	switch {
	case err != nil:
		resp = wire.Reply(x, err)
	case resp == nil:
		resp, err = wire.Reply(x, errNoAnswer), errNoAnswer
	}
	if err != nil {
		c.complain(x, err)
	}
	again, err = c.respond(ex, resp)
	if err != nil {
		// Nothing has left yet: there is room for a better answer.
		c.complain(x, err)
		again, err = c.respond(ex, wire.Reply(x, err))
	}
	if err != nil {
		c.srv.log.Error("no response could be sent", "error", err)
		c.hard, c.ending.Ours = true, true
		return false
	}
	c.note(ex)
	return again
}

// complain logs what no client and no upstream has caused.
func (c *conn) complain(x *wire.Exchange, err error) {
	var b breach
	if errors.As(err, &b) && b != errTooLong {
		c.srv.log.Error("a response cannot be sent", "error", err, "route", x.Route, "cluster", x.Cluster)
	}
}

// respond sends one response. An error means that nothing of it has left.
func (c *conn) respond(ex *exchange, resp *wire.Response) (again bool, err error) {
	if resp.Body != nil {
		defer resp.Body.Close()
	}
	now := time.Now()
	head, tunnel, err := c.plan(ex, resp, now)
	if err != nil {
		return false, err
	}
	size := head.size()
	if head.frame != frameNone {
		size = max(size+bodyRoom+chunkPrefix+chunkSuffix, bodyBuffer(resp))
	}
	out := outflow{
		snk: &c.snk, pool: c.srv.cfg.Buffers, buf: c.srv.cfg.Buffers.get(size),
		frame: head.frame, length: resp.ContentLength,
	}
	defer func() { out.pool.put(out.buf) }()
	b, err := head.appendTo(out.buf.b[:0])
	if err != nil {
		return false, err
	}
	out.head = len(b)
	out.now = now
	ex.x.Status, ex.x.HeadSent, ex.x.Response = resp.Status, now, resp
	c.answering.Store(true)
	c.snk.timeout = writeTimeout(c.srv.cfg.WriteTimeout, &ex.x)
	c.mu.Lock()
	ex.early = !c.watch.bodyDone && !tunnel
	c.mu.Unlock()
	switch {
	case tunnel:
		c.tunnel(ex, resp, &out)
		return false, nil
	case head.frame == frameNone:
		if err = out.flush(0, out.head); err != nil {
			c.cut(ex, head.frame, nil, err)
			return false, nil
		}
		return head.connection != "close", nil
	}
	if ex.body.underWay() {
		c.snk.after = c.touch
	}
	readErr, writeErr := out.copy(resp.Body)
	ex.x.BytesOut = out.sent
	switch {
	case readErr != nil && out.wrote == 0:
		ex.x.Status, ex.x.HeadSent, ex.x.Response = 0, time.Time{}, nil
		return false, wire.BrokeOff(readErr)
	case readErr != nil || writeErr != nil:
		c.cut(ex, head.frame, readErr, writeErr)
		return false, nil
	}
	return head.connection != "close", nil
}

// note counts what is remarkable about a response that has left.
func (c *conn) note(ex *exchange) {
	if ex.early {
		c.mu.Lock()
		unfinished := !c.watch.bodyDone
		c.mu.Unlock()
		c.srv.count(func(s *Stats) {
			s.Early.Add(1)
			if unfinished && !ex.x.Cut {
				s.Unfinished.Add(1)
			}
		})
	}
	c.parting = !ex.early && !ex.framing.keepsAlive(ex.req.Minor)
	if c.drain.Draining() && !c.drained {
		c.drained = true
		c.srv.count(func(s *Stats) { s.Drained.Add(1) })
	}
}

// bodyBuffer is how large a buffer for the beginning of the body should be.
func bodyBuffer(resp *wire.Response) int {
	if resp.ContentLength >= 0 && resp.ContentLength < smallBuffer/2 {
		return smallBuffer
	}
	return mediumBuffer
}

// plan says how a response is sent. That goes by the method of the client, which layers
// may have changed in the request: to HEAD there is never a body.
func (c *conn) plan(ex *exchange, resp *wire.Response, now time.Time) (head responseHead, tunnel bool, err error) {
	req := &ex.req
	head = responseHead{
		status: resp.Status, header: &resp.Header, length: wire.UnknownLength,
		date: c.srv.dateAt(now),
	}
	if resp.Status < 200 && resp.Status != http.StatusSwitchingProtocols || resp.Status > 999 {
		return head, false, errBadResponse
	}
	switch {
	case resp.Status == http.StatusSwitchingProtocols:
		if head.upgrade = resp.Upgrade; head.upgrade == "" {
			head.upgrade = req.Upgrade
		}
		if req.Upgrade == "" || resp.Body == nil {
			return head, false, errBadResponse
		}
		head.connection, head.frame = "upgrade", frameClose
		return head, true, nil
	case ex.x.Method == http.MethodConnect && resp.Status/100 == 2:
		if resp.Body == nil {
			return head, false, errBadResponse
		}
		head.frame = frameClose
		return head, true, nil
	case resp.Status == http.StatusNoContent:
	case ex.x.Method == http.MethodHead:
		head.length = resp.ContentLength
	case resp.Status == http.StatusNotModified:
		if resp.ContentLength > 0 {
			head.length = resp.ContentLength
		}
	case resp.Body == nil:
		if resp.ContentLength > 0 {
			return head, false, errBadResponse
		}
		head.length = 0
	case resp.ContentLength >= 0 && (req.Minor == 0 || !resp.Header.Has("trailer")):
		head.length, head.frame = resp.ContentLength, frameLength
	case req.Minor == 0:
		head.frame = frameClose
	default: // also what has a length and trailers, as HTTP/2 allows
		head.frame = frameChunked
	}
	switch {
	case c.closesAfter(ex) || head.frame == frameClose:
		head.connection = "close"
	case req.Minor == 0:
		head.connection = "keep-alive"
	}
	return head, false, nil
}

// closesAfter tells whether the connection closes after this response.
func (c *conn) closesAfter(ex *exchange) bool {
	if !ex.framing.keepsAlive(ex.req.Minor) || ex.x.CloseDownstream || c.drain.Draining() {
		return true
	}
	if ex.x.Method == http.MethodConnect {
		return true // refused: what follows may be meant for the tunnel
	}
	c.mu.Lock()
	closing := c.closing
	c.mu.Unlock()
	if closing {
		return true
	}
	return ex.waits || ex.body.tooMuchLeft()
}

// cut ends an exchange whose response breaks off. The client must not take it
// for complete: if the end of the connection is the end of the body, the
// connection is reset.
func (c *conn) cut(ex *exchange, f frame, readErr, writeErr error) {
	c.srv.count(func(s *Stats) { s.Aborted.Add(1) })
	c.hard = true
	x := &ex.x
	flag, err := wire.FlagDownstreamReset, writeErr
	if readErr != nil {
		flag, err = wire.FlagUpstreamReset, readErr
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
	c.ending = wire.Ending{Ours: x.Cut || errors.Is(writeErr, os.ErrDeadlineExceeded), Busy: !x.Cut}
	if t, ok := base(c.nc).(interface{ SetLinger(seconds int) error }); ok && (f == frameClose || writeErr != nil) {
		t.SetLinger(0) //nolint:errcheck // then it is a plain close
	}
	base(c.nc).Close()
}

// refuse answers a head that is no request.
func (c *conn) refuse(p problem) {
	c.srv.count(func(s *Stats) {
		s.Rejected.Add(1)
		if p != errHeadTimeout && p != errNoConnect { // which are well-formed, as far as they came
			s.Malformed.Add(1)
		}
	})
	if p == errNoVersion && c.srv.cfg.HTTP2 != nil {
		// It may as well be a bad preface (RFC 9113 section 3.4), whose sender takes no answer of HTTP/1.
		c.hard, c.ending.Ours = true, true
		return
	}
	resp := wire.Text(p.status(), p.Error()+"\n")
	if p == errNoConnect {
		resp.Header.Add("allow", "")
	}
	head := responseHead{
		status: resp.Status, header: &resp.Header, length: resp.ContentLength,
		connection: "close", date: c.srv.dateAt(time.Now()),
	}
	b, err := head.appendTo(nil)
	if err != nil {
		return
	}
	if _, err = c.snk.write(time.Now(), append(b, p.Error()+"\n"...)); err != nil {
		c.hard = true
	}
}
