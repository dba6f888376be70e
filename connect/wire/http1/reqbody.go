package http1

import (
	"errors"
	"io"
	"net/http"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// maxDrain is how much of a body that nobody wanted is read to keep the
// connection, and how long that may take.
const (
	maxDrain  = 256 << 10
	drainTime = 5 * time.Second
)

// requestBody is the body of a request, and after a switch of protocols what the
// client sends.
type requestBody struct {
	c        *conn
	dec      decoder
	expected bool         // the client may wait for 100
	left     atomic.Int64 // of a body of known length

	mu sync.Mutex // held while reading; guards:
	// err ends the body: io.EOF, a fault, or errClosedBody.
	err   error
	count int64
	// present says that the request has a body, raw that it is a tunnel's, which
	// gives nothing before the switch.
	present, raw, switched bool
	// torn says that somebody was reading when the body was closed, or has not
	// read to its end: he may still hold it.
	torn bool
	// tunnelEnd is closed when the client's side of a tunnel has ended.
	tunnelEnd chan struct{}

	closing sync.Mutex // held while closing
}

// begin makes b the body of req and tells whether there is one.
func (b *requestBody) begin(c *conn, req *wire.Request, f *framing) bool {
	b.c = c
	b.err, b.count, b.torn, b.switched, b.tunnelEnd = nil, 0, false, false, nil
	b.expected = req.ExpectContinue
	b.raw = req.Upgrade != "" || req.Method == http.MethodConnect
	b.present = b.raw || req.ContentLength != 0
	how := frameLength
	switch {
	case b.raw:
		how = frameClose
	case !b.present:
		how, b.err = frameNone, io.EOF
	case f.chunked:
		how = frameChunked
	}
	b.left.Store(req.ContentLength)
	b.dec.start(&c.src, how, req.ContentLength, limits{bytes: c.srv.cfg.MaxHeaderBytes, fields: c.srv.cfg.MaxHeaders})
	return b.present
}

// Read implements [wire.Body]. The first one sends 100 if the client waits for it.
func (b *requestBody) Read(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return 0, b.err
	case b.raw && !b.switched:
		return 0, io.EOF
	}
	if b.expected {
		if err := b.c.sendContinue(); err != nil {
			b.err = gone(err)
			return 0, b.err
		}
	}
	n, err := b.dec.read(p)
	b.count += int64(n)
	b.left.Add(int64(-n))
	if b.raw {
		b.c.touch()
	}
	if err != nil {
		b.fail(err)
	}
	if err != nil && n > 0 && !errors.Is(err, io.EOF) {
		return n, nil
	}
	return n, b.err
}

// fail ends the body.
func (b *requestBody) fail(err error) {
	if b.err = io.EOF; !errors.Is(err, io.EOF) {
		b.err = b.fault(err)
	}
	if b.tunnelEnd != nil {
		close(b.tunnelEnd)
		b.tunnelEnd = nil
	} else if errors.Is(err, io.EOF) {
		b.c.bodyDone()
	}
}

// fault is what a body's error means.
func (b *requestBody) fault(err error) error {
	var p problem
	switch {
	case b.c.rd.stop.Load():
		return errClosedBody
	case errors.As(err, &p):
		b.c.srv.count(func(s *Stats) { s.Malformed.Add(1) })
		return &wire.Fault{Status: p.status(), Flag: wire.FlagDownstreamProtocol, Text: p.Error(), Close: true, Err: p}
	case errors.Is(err, os.ErrDeadlineExceeded):
		b.c.countTimeout()
		return &wire.Fault{
			Status: http.StatusRequestTimeout, Flag: wire.FlagDownstreamReset,
			Text: "request body timeout", Close: true, Err: err,
		}
	}
	return gone(err)
}

// countTimeout counts a body that has not come in time.
func (c *conn) countTimeout() {
	if c.phase != phaseBody {
		return // a tunnel's
	}
	whole := reached(c.wholeBy(), c.now)
	c.srv.count(func(s *Stats) {
		if whole {
			s.RequestTimeouts.Add(1)
		} else {
			s.BodyTimeouts.Add(1)
		}
	})
}

// gone is the fault of a client that left before its request was complete.
func gone(err error) *wire.Fault {
	return &wire.Fault{
		Status: http.StatusBadRequest, Flag: wire.FlagDownstreamReset,
		Text: "incomplete request body", Close: true, Err: err,
	}
}

// Trailer implements [wire.Body].
func (b *requestBody) Trailer() *wire.Header {
	if b.dec.trailer.Len() == 0 {
		return nil
	}
	return &b.dec.trailer
}

// Buffered implements [wire.Buffered].
func (b *requestBody) Buffered() bool {
	_, whole := b.ready()
	return whole
}

// AtHand implements [wire.AtHand].
func (b *requestBody) AtHand() bool {
	some, _ := b.ready()
	return some
}

func (b *requestBody) ready() (some, whole bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.err != nil:
		return true, true
	case b.raw && !b.switched:
		return false, false
	}
	return b.dec.ready()
}

// Close implements [wire.Body]: it ends a Read that is under way, and those that
// follow. What is left of the body is the connection's business.
func (b *requestBody) Close() error {
	b.closing.Lock()
	defer b.closing.Unlock()
	if !b.mu.TryLock() {
		b.c.rd.interrupt()
		b.mu.Lock()
		b.torn = true
		b.c.recall()
	}
	defer b.mu.Unlock()
	if b.err == nil {
		b.err = errClosedBody
	}
	if b.tunnelEnd != nil {
		close(b.tunnelEnd)
		b.tunnelEnd = nil
	}
	return nil
}

// tooMuchLeft tells whether more is left of the body than would be drained.
// Somebody else may be reading it meanwhile.
func (b *requestBody) tooMuchLeft() bool {
	return b.present && b.dec.frame == frameLength && b.left.Load() > maxDrain
}

// underWay tells whether more of the body may come. Somebody else may be reading
// it meanwhile.
func (b *requestBody) underWay() bool {
	return b.present && (b.dec.frame == frameChunked || b.left.Load() > 0)
}

// switchOver makes a raw body give what the client sends. The channel is closed
// when that ends.
func (b *requestBody) switchOver() <-chan struct{} {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.c.phase = phaseTunnel
	b.c.touch()
	b.switched = true
	b.tunnelEnd = make(chan struct{})
	return b.tunnelEnd
}

// end closes the body for its consumer. If it is not clean, somebody may hold
// it still: it is not used for another exchange.
func (b *requestBody) end() (clean bool) {
	if !b.present {
		return true
	}
	b.Close()
	b.mu.Lock()
	defer b.mu.Unlock()
	return errors.Is(b.err, io.EOF) && !b.torn
}

// drain reads what is left of an ended body and tells whether the next request
// may follow.
func (b *requestBody) drain() bool {
	switch {
	case b.raw:
		return !b.switched
	case b.dec.done:
		return true
	case !errors.Is(b.err, errClosedBody):
		return false
	case b.dec.frame == frameLength && b.dec.left > maxDrain:
		return false
	}
	b.c.phase, b.c.until = phaseHead, time.Now().Add(drainTime)
	buf := b.c.srv.cfg.Buffers.get(mediumBuffer)
	defer b.c.srv.cfg.Buffers.put(buf)
	for total := 0; total <= maxDrain; {
		n, err := b.dec.read(buf.b)
		if err != nil {
			return errors.Is(err, io.EOF)
		}
		total += n
	}
	return false
}
