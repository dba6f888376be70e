package http1

import (
	"net/http"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// watchAfter is how long an upstream may take before the client is watched.
	watchAfter = 50 * time.Millisecond
	// maxInterim bounds the 1xx responses before the final one.
	maxInterim = 16
)

// trip is one exchange over an upstream connection, and the memory of its
// response, which outlives the trip until the exchange is over.
type trip struct {
	// set by begin
	c    *ClientConn
	pool *Buffers
	x    *wire.Exchange
	a    *wire.Attempt
	req  *wire.Request

	out     outflow
	resp    wire.Response
	framing framing
	body    responseBody
	memory  *buffer // what the strings of resp point to, once the trip is over
	pump    *pump   // nil if there was none

	wrote     bool // bytes of the request have left, unless it is held
	held      bool // the request may be held until we wait for its response
	answered  bool // bytes of a response have come
	keep      bool // the connection may live on after the response
	whole     bool // all of the response has come
	left      bool // the upstream has closed the connection
	tunnel    bool
	expecting bool // the body waits for 100
	watched   bool

	// now is the time if it is known; the others are when a read ends, zero for
	// never.
	now, until, watchAt, continueAt time.Time
	pause                           time.Duration // until is that long after a read begins
	wait                            time.Duration // or, before the head, after the request has left

	over     sync.Mutex // guards:
	released bool
}

func (p *Buffers) takeTrip() *trip {
	if t, ok := p.trips.Get().(*trip); ok {
		return t
	}
	return &trip{}
}

func (t *trip) begin(c *ClientConn, x *wire.Exchange, a *wire.Attempt, req *wire.Request) {
	t.c, t.pool, t.x, t.a, t.req = c, c.cfg.Buffers, x, a, req
	t.memory, t.pump, t.held = nil, nil, false
	t.wrote, t.answered, t.keep, t.tunnel, t.expecting, t.watched = false, false, false, false, false, false
	t.released, t.whole, t.left = false, false, false
	t.body.begin(t)
	if t.now = a.Connected; t.now.IsZero() {
		t.now = time.Now()
	}
	t.pause, t.continueAt = 0, time.Time{}
	t.wait = shorter(c.cfg.HeaderTimeout, x.Pause(0))
	t.until = endOf(t.now, t.wait)
	c.trip, c.snk.after = t, nil
	c.snk.timeout, c.snk.limit = writeTimeout(c.cfg.WriteTimeout, x), time.Time{}
	if x.Timeout == 0 {
		c.snk.limit = x.Deadline
	}
}

// TakeBack implements [wire.Lender].
func (t *trip) TakeBack(keep bool) {
	t.body.Close()
	if keep {
		return
	}
	t.pool.put(t.memory)
	t.c, t.x, t.a, t.req, t.memory, t.pump = nil, nil, nil, nil, nil, nil
	t.out = outflow{}
	t.pool.trips.Put(t)
}

// send writes the request as far as that needs no waiting for its body.
func (t *trip) send() error {
	req := t.req
	head, err := planRequest(req)
	if err != nil {
		return t.fail(&wire.Fault{Flag: wire.FlagInternal, Err: err}, true)
	}
	inline := head.frame != frameNone && !req.ExpectContinue && req.ContentLength <= largeBuffer && wire.BodyBuffered(req.Body)
	size := head.size
	if head.frame != frameNone {
		size += bodyRoom + chunkPrefix + chunkSuffix
	}
	if inline && req.ContentLength > 0 {
		size += int(req.ContentLength)
	}
	t.out = outflow{
		snk: &t.c.snk, pool: t.pool, buf: t.pool.get(min(size, max(largeBuffer, head.size+mediumBuffer))),
		now: t.now, frame: head.frame, length: req.ContentLength,
	}
	b, err := head.appendRequest(t.out.buf.b[:0], req)
	if err != nil {
		t.pool.put(t.out.buf)
		return t.fail(&wire.Fault{Flag: wire.FlagInternal, Err: err}, true)
	}
	t.out.head = len(b)
	var readErr error
	if (inline && req.ContentLength >= 0 || head.frame == frameNone) && size <= smallBuffer-tlsOverhead {
		t.hold()
	}
	if inline {
		readErr, err = t.out.copy(req.Body)
	} else {
		err = t.out.flush(0, t.out.head)
	}
	t.wrote = t.out.wrote > 0 || t.c.secure && err != nil
	waits := head.frame != frameNone && !inline && err == nil
	if !waits {
		t.pool.put(t.out.buf)
		t.out.buf = nil
	}
	switch {
	case readErr != nil:
		return t.fail(wire.AsFault(readErr), false)
	case err != nil:
		return t.lost(err)
	case waits && req.ExpectContinue:
		t.expecting = true
		if d := t.c.cfg.ContinueTimeout; d > 0 {
			t.continueAt = time.Now().Add(d)
		}
	case waits:
		t.startPump()
	}
	return nil
}

// tlsOverhead is more than TLS adds to a small request.
const tlsOverhead = 256

// hold keeps the request back until we wait for its response: it leaves in the
// same step.
func (t *trip) hold() {
	if sock := t.c.sock; sock != nil {
		t.held = true
		t.c.held.hold(sock, t.pool)
	}
}

// unhold ends hold and notes whether the request has left.
func (t *trip) unhold() {
	if t.held {
		t.held = false
		t.wrote = t.c.sock.Drop()
	}
}

// receive waits for the head of the response.
func (t *trip) receive() error {
	src := &t.c.src
	lim := t.limits()
	interim := 0
	for seen := 0; ; {
		have := src.unread()
		size := headEnd(have, seen)
		switch {
		case size > lim.bytes, size == 0 && len(have) > lim.bytes:
			return errHeadTooLarge
		case size == 0:
			if p := checkLines(have, seen); p != 0 {
				return p
			}
			seen = len(have)
			held := t.held
			err := src.fill()
			t.unhold()
			switch {
			case err != nil:
				return err
			case held && !t.wrote:
				return errUnasked // TLS had it before the request could leave
			}
			t.answered = true
			continue
		}
		src.r += size
		minor, p := parseResponse(have[:size], lim, &t.resp, &t.framing)
		if p != 0 {
			return p
		}
		if t.resp.Status >= 200 || t.resp.Status == http.StatusSwitchingProtocols {
			src.hold()
			return t.head(minor)
		}
		if interim++; interim > maxInterim {
			return errTooManyInterim
		}
		t.x.Interim(t.resp.Status, &t.resp.Header) //nolint:errcheck // a client that is gone is noticed soon
		if t.expecting && t.resp.Status == http.StatusContinue {
			t.startPump()
		}
		seen = 0
	}
}

func (t *trip) limits() limits {
	return limits{bytes: t.c.cfg.MaxHeaderBytes, fields: t.c.cfg.MaxHeaders}
}

// head takes the head of the final response in.
func (t *trip) head(minor int) error {
	resp := &t.resp
	if resp.Status == http.StatusSwitchingProtocols && t.req.Upgrade == "" {
		return errUnasked101
	}
	how, p := frameResponse(t.req.Method, minor, resp, &t.framing)
	if p != 0 {
		return p
	}
	t.a.Head, t.a.Status = time.Now(), resp.Status
	t.noteUpload(false)
	t.now, t.c.used = t.a.Head, t.a.Head
	t.keep = t.framing.keepsAlive(minor) && how != frameClose && !t.expecting
	t.dropOut()
	t.expecting = false
	t.c.closing = t.framing.closing || minor == 0 && !t.framing.keeping
	if how == frameNone {
		t.whole = true
		resp.Body = nil
		t.finish(t.keep)
		return nil
	}
	resp.Body = &t.body
	t.body.dec.start(&t.c.src, how, t.framing.length, t.limits())
	t.tunnel = resp.Status == http.StatusSwitchingProtocols || t.req.Method == http.MethodConnect && resp.Status/100 == 2
	t.until, t.wait, t.pause = time.Time{}, 0, t.x.Pause(t.c.cfg.StreamTimeout)
	if t.tunnel {
		t.pause = t.x.Pause(t.c.cfg.TunnelTimeout)
		t.c.snk.limit = time.Time{}
		t.c.snk.after = t.c.touch
		t.c.touch()
	}
	return nil
}

// noteUpload notes when all of the request's body was there, if that was not so
// from the start. A try that failed before has waited for nothing else.
func (t *trip) noteUpload(failed bool) {
	if t.pump == nil || t.tunnel {
		return
	}
	switch whole := t.pump.whole.Load(); {
	case whole > 0:
		t.a.Uploaded = t.pump.begun.Add(time.Duration(whole))
	case failed:
		t.a.Uploaded = time.Now()
	}
}

// dropOut gives the buffer back of a request body that never left.
func (t *trip) dropOut() {
	if t.out.buf != nil {
		t.pool.put(t.out.buf)
		t.out.buf = nil
	}
}

// finish ends the trip and releases the connection, once.
func (t *trip) finish(reusable bool) {
	t.over.Lock()
	done := t.released
	t.released = true
	t.over.Unlock()
	if done {
		return
	}
	c := t.c
	t.dropOut()
	t.unhold()
	clean, _ := t.endPump()
	reusable = reusable && clean
	t.x.OnAbort(nil) //nolint:errcheck // taken back
	reusable = reusable && !c.rd.stop.Load() && !c.snk.deadline.stop.Load() && len(c.src.unread()) == 0
	t.memory = c.src.detach()
	c.trip = nil
	if !reusable {
		base(c.conn).Close()
		c.ending = wire.Ending{Ours: !t.left, Busy: !t.whole || !clean}
	}
	c.release(c, reusable)
}
