package http2

import (
	"errors"
	"io"
	"net/http"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// requestBody is the body of a request, and after a switch of protocols what the
// client sends.
type requestBody struct {
	ex *exchange
}

var (
	_ wire.Body     = (*requestBody)(nil)
	_ wire.Buffered = (*requestBody)(nil)
)

// Read implements [wire.Body]. The first one sends 100 if the client waits for it.
func (b *requestBody) Read(p []byte) (int, error) {
	ex := b.ex
	l := ex.l
	l.mu.Lock()
	defer l.unlock(false)
	if ex.dropped && ex.over == nil {
		return 0, errClosedBody
	}
	if ex.raw && !ex.switched || len(p) == 0 {
		return 0, endUnless(len(p) == 0 && !ex.raw)
	}
	if ex.expected && !ex.headed && ex.over == nil {
		ex.expected = false
		l.interim(ex.id, http.StatusContinue, nil)
	}
	ex.reading = true
	defer func() { ex.reading = false }()
	for since := time.Now(); ; {
		n, err := ex.receive(p)
		ex.in += int64(n)
		switch {
		case err == nil && n > 0:
			ex.touch()
			return n, nil
		case errors.Is(err, io.EOF):
			ex.read = true
			ex.wake() // who waits for the end of a tunnel
			return n, err
		case err != nil:
			return n, ex.fault(err)
		}
		if l.mayFlush() {
			l.unlock(false)
			l.mu.Lock()
			continue
		}
		if !ex.await(&ex.readUntil, ex.patience(since)) && reached(ex.patience(since), time.Now()) {
			ex.countTimeout()
			return 0, &wire.Fault{
				Status: http.StatusRequestTimeout, Flag: wire.FlagDownstreamReset,
				Text: "request body timeout", Err: errStalled,
			}
		}
		if ex.dropped && ex.over == nil {
			return 0, errClosedBody
		}
	}
}

func endUnless(goesOn bool) error {
	if goesOn {
		return nil
	}
	return io.EOF
}

// touch notes that bytes have moved, if more may come. The lock is held.
func (ex *exchange) touch() {
	if !ex.remoteDone || ex.switched {
		ex.active = time.Now()
	}
}

// patience is until when the client may pause, who has since then: what has moved
// the other way meanwhile counts, too. Zero means for ever. The lock is held.
func (ex *exchange) patience(since time.Time) time.Time {
	d := ex.c.srv.cfg.BodyIdleTimeout
	switch {
	case ex.switched:
		return endOf(ex.active, ex.x.Pause(ex.l.bounds.TunnelTimeout))
	case ex.x.GRPC && d > 0:
		d = max(d, DefaultStreamTimeout)
	}
	return sooner(endOf(later(since, ex.active), ex.x.Pause(d)), ex.wholeBy())
}

// wholeBy is until when the request has to be whole; zero for never, which it is from
// the head of the response on. The lock is held.
func (ex *exchange) wholeBy() time.Time {
	if ex.headed {
		return time.Time{}
	}
	return endOf(ex.x.Start, ex.c.srv.cfg.RequestTimeout)
}

// countTimeout counts a body that has not come in time.
func (ex *exchange) countTimeout() {
	if ex.switched {
		return // a tunnel's
	}
	whole := reached(ex.wholeBy(), time.Now())
	ex.c.srv.count(func(s *Stats) {
		if whole {
			s.RequestTimeouts.Add(1)
		} else {
			s.BodyTimeouts.Add(1)
		}
	})
}

// fault is what the end of a stream means to who reads the body.
func (ex *exchange) fault(err error) error {
	if b, ok := errors.AsType[breach](err); ok {
		if b == errClosedBody {
			return b
		}
		if b != errLost {
			return clientFault(b)
		}
	}
	return &wire.Fault{
		Status: http.StatusBadRequest, Flag: wire.FlagDownstreamReset, Text: "incomplete request body", Err: err,
	}
}

// clientFault is the fault of a client that has broken its word.
func clientFault(b breach) *wire.Fault {
	return &wire.Fault{Status: http.StatusBadRequest, Flag: wire.FlagDownstreamProtocol, Text: string(b), Err: b}
}

// Trailer implements [wire.Body].
func (b *requestBody) Trailer() *wire.Header {
	if b.ex.trailer.Len() == 0 {
		return nil
	}
	return &b.ex.trailer
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
	ex := b.ex
	ex.l.mu.Lock()
	defer ex.l.mu.Unlock()
	if ex.raw && !ex.switched {
		return false, false
	}
	return ex.isReady()
}

// Close implements [wire.Body]: it ends a Read that is under way, and those that
// follow. The stream goes on the other way.
func (b *requestBody) Close() error {
	ex := b.ex
	ex.l.mu.Lock()
	defer ex.l.unlock(false)
	if ex.done {
		return nil
	}
	ex.torn = ex.torn || ex.reading
	if !ex.read {
		ex.drop()
	}
	ex.wake()
	return nil
}
