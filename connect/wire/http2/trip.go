package http2

import (
	"net/http"
	"slices"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// watchAfter is how long an upstream may take before the client is watched.
	watchAfter = 50 * time.Millisecond
	// maxInterim bounds the 1xx responses before the final one.
	maxInterim = 16
	// settleTime is how long an upstream may take to tell what it can.
	settleTime = 5 * time.Second
)

// trip is one exchange over an upstream connection, and the memory of its
// response, which outlives the trip until the exchange is over. Its stream is the
// body of the response.
type trip struct {
	stream
	// set by begin
	c    *ClientConn
	x    *wire.Exchange
	a    *wire.Attempt
	req  *wire.Request
	resp wire.Response
	body responseBody

	// owned by the goroutine that serves the exchange
	expecting bool // the body waits for 100
	watched   bool
	out       sender
	// headWait is how long the head may take once the request has left; 0 for ever.
	headWait time.Duration
	// headBy, watchAt and continueAt are times to look at; zero for never.
	headBy, watchAt, continueAt time.Time

	// link.mu guards:
	// opened says that the stream was, headed that the final head has come, bare
	// that it was all, tunnel that raw bytes follow, released that the place was
	// given back.
	opened, headed, bare, tunnel, released bool
	// interim are heads that were not yet passed on, interims counts all.
	interim  []interim
	interims int
	pump     pump
	// active is when bytes last moved, either way in a tunnel, else of the request.
	active time.Time
}

// interim is the head of an interim response.
type interim struct {
	status int
	header wire.Header
}

func (p *Buffers) takeTrip() *trip {
	if t, ok := p.trips.Get().(*trip); ok {
		return t
	}
	t := &trip{}
	t.trip = t
	t.body.t = t
	return t
}

func (t *trip) begin(c *ClientConn, x *wire.Exchange, a *wire.Attempt, req *wire.Request) {
	t.l, t.cond.L = &c.link, &c.mu
	t.c, t.x, t.a, t.req = c, x, a, req
	t.over, t.torn, t.reading, t.first, t.last = nil, false, false, nil, nil
	t.remoteDone, t.localDone = false, false
	t.trailer.Reset()
	t.tunnel, t.expecting, t.watched = false, false, false
	t.opened, t.headed, t.bare, t.released = false, false, false, false
	t.pump, t.interims, t.interim = pump{}, 0, t.interim[:0]
	t.body.err = nil
	t.out = sender{}
	t.resp.Header.Reset()
	t.resp.Body, t.resp.Upgrade = nil, ""
	now := a.Connected
	if now.IsZero() {
		now = time.Now()
	}
	t.watchAt, t.headBy, t.continueAt = now.Add(watchAfter), time.Time{}, time.Time{}
	t.active = time.Time{}
	if t.headWait = shorter(c.cfg.HeaderTimeout, x.Pause(0)); t.headWait > 0 {
		t.headBy = now.Add(t.headWait)
	}
}

// TakeBack implements [wire.Lender].
func (t *trip) TakeBack(keep bool) {
	t.body.Close()
	t.l.mu.Lock()
	again := !keep && !t.pump.running && !t.torn && !t.reading
	t.l.mu.Unlock()
	if again {
		t.x, t.a, t.req = nil, nil, nil
		t.l.bounds.Buffers.trips.Put(t)
	}
}

// Cancel implements [wire.Canceler].
func (t *trip) Cancel() {
	l := t.l
	l.mu.Lock()
	defer l.unlock(true)
	t.giveUp(errClosedBody)
}

// giveUp ends the stream, if it has not ended. The lock is held.
func (t *trip) giveUp(err error) {
	if t.opened {
		t.abandon(http2.ErrCodeCancel, err)
	} else {
		t.over = err
		t.wake()
	}
}

// send sends the request as far as that needs no waiting for its body.
func (t *trip) send() error {
	req := t.req
	if err := checkRequest(req); err != nil {
		return t.fail(&wire.Fault{Flag: wire.FlagInternal, Err: err})
	}
	body := req.Body
	switch {
	case req.Upgrade != "":
		if err := t.awaitConnect(); err != nil {
			return t.lost(err)
		}
		body = nil
	case req.Method == http.MethodConnect || req.ContentLength == 0:
		body = nil
	}
	t.out = sender{s: &t.stream, side: t, length: req.ContentLength, headed: true}
	t.expecting = body != nil && req.ExpectContinue
	if body != nil && !t.expecting && wire.BodyBuffered(body) {
		if err := t.gatherAll(body); err != nil {
			return t.fail(wire.AsFault(err))
		}
	}
	if err := t.start(body); err != nil {
		return t.lost(err)
	}
	if d := t.c.cfg.ContinueTimeout; t.expecting && d > 0 {
		t.continueAt = time.Now().Add(d)
	}
	return nil
}

// gatherAll reads the beginning of a body that is at hand, and perhaps all of it.
func (t *trip) gatherAll(body wire.Body) error {
	o := &t.out
	o.buf = t.l.bounds.Buffers.get(o.length < 0 || o.length > smallBuffer)
	full, err := o.gather(body)
	switch {
	case full && err == nil:
		return nil
	case err == nil || !isEOF(err):
		if err == nil {
			return nil // it was not all at hand after all
		}
		t.dropOut()
		return err
	case o.length >= 0 && o.read != o.length:
		t.dropOut()
		return errTooShort
	}
	o.ended = true
	return nil
}

// dropOut gives back what was gathered and did not leave.
func (t *trip) dropOut() {
	t.l.bounds.Buffers.put(t.out.buf)
	t.out.buf = nil
}

// start opens the stream and appends the head, and the body if it is at hand and
// the windows allow.
func (t *trip) start(body wire.Body) error {
	var trailer *wire.Header
	if t.out.ended {
		if trailer = body.Trailer(); trailer.Len() > 0 {
			if err := checkFields(trailer); err != nil {
				return err
			}
		} else {
			trailer = nil
		}
	}
	c, o := t.c, &t.out
	c.mu.Lock()
	defer c.unlock(false)
	switch {
	case t.over != nil:
		return t.over
	case c.dead != nil, c.leaving, c.nextID >= maxStreamID-1:
		return errGone
	}
	if len(c.streams) == 0 {
		c.lastRead = t.watchAt.Add(-watchAfter) // it could not be silent before
	}
	t.open(&c.link, c.nextID, -1)
	c.nextID += 2
	t.opened = true
	c.remindPing()
	raw := t.req.Upgrade != "" || t.req.Method == http.MethodConnect
	t.writeRequest(body == nil && !raw || o.ended && o.have == 0 && trailer == nil)
	switch {
	case body == nil || t.localDone:
	case t.expecting:
		return nil
	case !o.ended, int64(o.have) > min(t.sendLeft, c.sendLeft), len(c.out) > maxQueued/2:
		t.startPump(body)
		return nil
	default:
		t.stream.send(o.buf.b[:o.have], trailer == nil)
		if trailer != nil {
			t.trailers(trailer)
		}
	}
	t.dropOut()
	return nil
}

// remindPing makes the clock look after a connection that has a stream. The lock
// is held.
func (l *link) remindPing() {
	if d := l.bounds.PingInterval; d > 0 && l.pinged.IsZero() {
		l.remind(l.lastRead.Add(d))
	}
}

// awaitConnect waits until the upstream has told whether it knows extended
// CONNECT.
func (t *trip) awaitConnect() error {
	c := t.c
	c.mu.Lock()
	defer c.mu.Unlock()
	until := time.Now().Add(settleTime)
	c.waiting = append(c.waiting, &t.stream)
	defer func() {
		c.waiting = slices.DeleteFunc(c.waiting, func(s *stream) bool { return s == &t.stream })
	}()
	for !c.settled && t.over == nil && c.dead == nil && t.await(&t.readUntil, until) {
		continue
	}
	switch {
	case t.over != nil:
		return t.over
	case c.dead != nil:
		return errGone
	case !c.connect:
		return errNoConnect
	}
	return nil
}

// take takes the head of a response that was decoded. The lock is held.
func (t *trip) take(k *block, ended bool) breach {
	status, bad := k.response()
	if bad != "" {
		return bad
	}
	resp := &t.resp
	if status < 200 {
		t.interims++
		switch {
		case ended:
			return errBadStatus
		case t.interims > maxInterim:
			return errInterimFlood
		}
		t.interim = append(t.interim, interim{status, resp.Header.Clone()})
		t.wake()
		return ""
	}
	resp.Status, resp.ContentLength, resp.Upgrade = status, k.length, ""
	t.tunnel = status/100 == 2 && (t.req.Upgrade != "" || t.req.Method == http.MethodConnect)
	head := t.req.Method == http.MethodHead && t.req.Upgrade == ""
	switch {
	case t.tunnel:
		resp.ContentLength = wire.UnknownLength
	case status == http.StatusNoContent:
		resp.ContentLength, t.left = 0, 0
	case head || status == http.StatusNotModified:
		t.left = 0
	case ended && k.length > 0:
		return errTooShort
	case ended:
		resp.ContentLength = 0
	default:
		t.left = k.length
	}
	if t.tunnel && t.req.Upgrade != "" {
		resp.Status, resp.Upgrade = http.StatusSwitchingProtocols, t.req.Upgrade
		if key := t.req.Header.Get(keyField); key != "" && t.req.Upgrade == websocket {
			resp.Header.Set(acceptField, acceptKey(key))
		}
	}
	t.headed = true
	t.bare = ended || !t.tunnel && (head || status == http.StatusNoContent || status == http.StatusNotModified)
	t.wake()
	return ""
}
