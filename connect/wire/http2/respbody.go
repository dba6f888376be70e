package http2

import (
	"errors"
	"net/http"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// responseBody is the body of an upstream's response.
type responseBody struct {
	t   *trip
	err error // ends the body; link.mu guards it
}

var (
	_ wire.Body     = (*responseBody)(nil)
	_ wire.Buffered = (*responseBody)(nil)
)

// Read implements [wire.Body].
func (b *responseBody) Read(p []byte) (int, error) {
	t := b.t
	l := t.l
	l.mu.Lock()
	if b.err != nil {
		l.mu.Unlock()
		return 0, b.err
	}
	t.reading = true
	if t.tunnel {
		if !t.pump.running && t.pump.ended.IsZero() && t.req.Body != nil && !t.localDone {
			t.startPump(t.req.Body)
		}
		t.touch()
	}
	n, err := b.wait(p)
	t.reading = false
	if err == nil {
		l.unlock(false)
		return n, nil
	}
	if isEOF(err) {
		b.err = err
		l.unlock(false)
		if !t.tunnel {
			t.finish()
		}
		return n, err
	}
	l.unlock(false)
	fault := t.brokeOff(err)
	l.mu.Lock()
	defer l.mu.Unlock()
	if b.err == nil {
		b.err = fault
	}
	return n, b.err
}

// wait reads what has arrived, and waits for it. The lock is held.
func (b *responseBody) wait(p []byte) (int, error) {
	t := b.t
	l := t.l
	for first := true; ; {
		n, err := t.stream.receive(p)
		if n > 0 || err != nil || len(p) == 0 {
			return n, err
		}
		if l.mayFlush() {
			l.unlock(false)
			l.mu.Lock()
			continue
		}
		if first {
			first = false
			t.watchAt = time.Now().Add(watchAfter)
		}
		by := t.streamLimit()
		if t.await(&t.readUntil, sooner(t.wakeAt(), by)) {
			continue
		}
		by = t.streamLimit() // bytes may have moved the other way
		l.mu.Unlock()
		err = t.expired(by)
		l.mu.Lock()
		if err != nil {
			return 0, err
		}
	}
}

// streamLimit is until when the body may pause. The lock is held.
func (t *trip) streamLimit() time.Time {
	if t.tunnel {
		return endOf(t.active, t.x.Pause(t.l.bounds.TunnelTimeout))
	}
	return endOf(later(t.watchAt.Add(-watchAfter), t.active), t.x.Pause(t.c.cfg.StreamTimeout))
}

// brokeOff ends a trip whose response has not ended well and tells why.
func (t *trip) brokeOff(err error) error {
	fault := &wire.Fault{Status: http.StatusBadGateway, Flag: wire.FlagUpstreamReset, Text: "upstream response broke off", Err: err}
	cause := t.endPump()
	reason := t.x.Aborted()
	b, isBreach := errors.AsType[breach](err)
	switch {
	case reason != nil:
		fault = wire.Aborted(reason)
	case cause != nil:
		fault = wire.AsFault(cause)
	case b == errStalled:
		fault.TimeOut(t.x)
	case isBreach && b != errLost && b != errClosedBody:
		fault.Flag = wire.FlagUpstreamProtocol
	}
	t.a.Flag = fault.Flag
	t.finish()
	return fault
}

// Trailer implements [wire.Body].
func (b *responseBody) Trailer() *wire.Header {
	if b.t.trailer.Len() == 0 {
		return nil
	}
	return &b.t.trailer
}

// Buffered implements [wire.Buffered].
func (b *responseBody) Buffered() bool {
	_, whole := b.ready()
	return whole
}

// AtHand implements [wire.AtHand].
func (b *responseBody) AtHand() bool {
	some, _ := b.ready()
	return some
}

func (b *responseBody) ready() (some, whole bool) {
	b.t.l.mu.Lock()
	defer b.t.l.mu.Unlock()
	if b.err != nil {
		return true, true
	}
	return b.t.isReady()
}

// Close implements [wire.Body]. Before the end it gives the stream up.
func (b *responseBody) Close() error {
	t := b.t
	t.l.mu.Lock()
	t.torn = t.torn || t.reading
	if b.err == nil {
		b.err = errClosedBody
		t.giveUp(errClosedBody)
	}
	t.l.unlock(false)
	t.finish()
	return nil
}
