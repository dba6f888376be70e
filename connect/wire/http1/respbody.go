package http1

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"

	"github.com/serai-net/serai/connect/wire"
)

// responseBody is the body of an upstream's response.
type responseBody struct {
	trip *trip

	mu  sync.Mutex // held while reading; guards:
	dec decoder
	err error // ends the body
}

func (b *responseBody) begin(t *trip) {
	b.trip, b.err = t, nil
	b.dec.trailer.Reset()
}

// Read implements [wire.Body].
func (b *responseBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return 0, b.err
	}
	t := b.trip
	if t.tunnel {
		if t.pump == nil && t.req.Body != nil {
			t.out = outflow{snk: &t.c.snk, pool: t.pool, buf: t.pool.get(mediumBuffer), frame: frameClose}
			t.startPump()
		}
		t.c.touch()
	}
	n, err := b.dec.read(p)
	switch {
	case err == nil:
		return n, nil
	case errors.Is(err, io.EOF):
		b.err = err
		t.whole, t.left = true, b.dec.frame == frameClose
		if !t.tunnel {
			t.finish(t.keep)
		}
	default:
		b.err = t.brokeOff(err)
	}
	return n, b.err
}

// brokeOff ends a trip whose response has not ended well and tells why.
func (t *trip) brokeOff(err error) error {
	var p problem
	fault := &wire.Fault{Status: http.StatusBadGateway, Flag: wire.FlagUpstreamReset, Text: "upstream response broke off", Err: err}
	_, cause := t.endPump()
	reason := t.x.Aborted()
	switch {
	case reason != nil:
		fault = wire.Aborted(reason)
	case cause != nil:
		fault = wire.AsFault(cause)
	case errors.As(err, &p):
		fault.Flag = wire.FlagUpstreamProtocol
	case errors.Is(err, os.ErrDeadlineExceeded):
		fault.TimeOut(t.x)
	default:
		t.left = true
	}
	t.a.Flag = fault.Flag
	t.finish(false)
	return fault
}

// Trailer implements [wire.Body].
func (b *responseBody) Trailer() *wire.Header {
	if b.dec.trailer.Len() == 0 {
		return nil
	}
	return &b.dec.trailer
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
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.err != nil {
		return true, true
	}
	return b.dec.ready()
}

// Close implements [wire.Body]. Before the end it gives the connection up.
func (b *responseBody) Close() error {
	t := b.trip
	if !b.mu.TryLock() {
		t.over.Lock()
		if !t.released {
			t.c.Cancel()
		}
		t.over.Unlock()
		b.mu.Lock()
	}
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = errClosedBody
	}
	t.finish(false)
	return nil
}
