package http2

import (
	"fmt"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

// pump is the state of the goroutine that sends a request body which is not yet at
// hand, while the exchange's own goroutine waits for the response.
type pump struct {
	running, stopped bool
	// cause is why not the whole body has left, if it was the body that broke by
	// itself; ended is when the pump has.
	cause error
	ended time.Time
}

// startPump begins to send the request's body. The lock is held.
func (t *trip) startPump(body wire.Body) {
	t.pump.running = true
	out := t.out
	t.out.buf = nil
	if t.tunnel {
		out = sender{s: &t.stream, side: t, length: -1, headed: true}
	}
	go t.run(out, body)
}

// touch implements sending: it notes that bytes have moved.
func (t *trip) touch() { t.active = time.Now() }

// run copies the body. An upstream that does not take it may still answer, so only
// a body that breaks ends the exchange.
func (t *trip) run(out sender, body wire.Body) {
	var readErr error
	defer func() {
		if v := recover(); v != nil {
			readErr = fmt.Errorf("panic in a request body: %v", v)
		}
		t.l.mu.Lock()
		defer t.l.unlock(true)
		t.pump.running, t.pump.ended = false, time.Now()
		if readErr != nil && !t.pump.stopped {
			t.pump.cause = readErr
			t.abandon(http2.ErrCodeCancel, errClosedBody)
		}
		t.wake()
	}()
	var writeErr error
	if readErr, writeErr = out.copy(body); writeErr != nil && t.isTunnel() {
		body.Close() // a tunnel's other end has nobody else to find out from
	}
}

func (t *trip) isTunnel() bool {
	t.l.mu.Lock()
	defer t.l.mu.Unlock()
	return t.tunnel
}

// endPump ends the pump and tells why not all has left, if the body is to blame. A
// pump whose body cannot be interrupted is left alone: it holds nothing that is
// used again.
func (t *trip) endPump() (cause error) {
	const grace = 100 * time.Millisecond
	l := t.l
	l.mu.Lock()
	defer l.mu.Unlock()
	if !t.pump.running {
		return t.pump.cause
	}
	if !t.pump.stopped {
		t.pump.stopped = true
		if t.opened && !t.localDone {
			t.abandon(http2.ErrCodeCancel, errClosedBody)
		}
		body := t.req.Body
		l.mu.Unlock()
		body.Close()
		l.mu.Lock()
	}
	if !t.pump.running {
		return t.pump.cause
	}
	timer := time.AfterFunc(grace, func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		t.wake()
	})
	defer timer.Stop()
	for end := time.Now().Add(grace); t.pump.running && time.Now().Before(end); {
		t.cond.Wait()
	}
	return t.pump.cause
}
