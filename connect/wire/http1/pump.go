package http1

import (
	"fmt"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// pump is the goroutine that sends a request body which is not yet at hand,
// while the exchange's own goroutine waits for the response.
type pump struct {
	c      *ClientConn
	body   wire.Body
	tunnel bool
	// ending is set before the write that ends the body, stopped when the pump
	// is told to end.
	ending, stopped atomic.Bool
	// whole is when all of the body was read, in nanoseconds since begun; 0 before.
	whole atomic.Int64
	begun time.Time
	// done is closed at the end; then err tells why not the whole body has left,
	// and cause is the same if it was the body that broke by itself.
	// ended is when.
	done       chan struct{}
	err, cause error
	ended      time.Time
}

// startPump begins to send the request's body.
func (t *trip) startPump() {
	t.expecting = false
	p := &pump{c: t.c, body: t.req.Body, tunnel: t.tunnel, done: make(chan struct{}), begun: time.Now()}
	out := t.out
	out.ending, out.whole, out.begun = &p.ending, &p.whole, p.begun
	t.out.buf = nil
	t.pump = p
	t.c.snk.after = t.c.touch
	t.c.touch()
	go p.run(out)
}

// run copies the body. An upstream that does not take it may still answer, so
// only a body that breaks ends the exchange.
func (p *pump) run(out outflow) {
	defer func() {
		p.ended = time.Now()
		close(p.done)
	}()
	defer func() {
		if v := recover(); v != nil {
			p.brokeOff(fmt.Errorf("panic in a request body: %v", v))
		}
		out.pool.put(out.buf)
	}()
	readErr, writeErr := out.copy(p.body)
	switch {
	case readErr != nil:
		p.brokeOff(readErr)
	case writeErr != nil:
		p.err = writeErr
		if p.tunnel {
			p.body.Close() // a tunnel's other end has nobody else to find out from
		}
	case p.tunnel:
		closeWrite(p.c.conn)
	}
}

func (p *pump) brokeOff(err error) {
	p.err = err
	if !p.stopped.Load() {
		p.cause = err
		p.c.Cancel()
	}
}

// wait tells whether the pump has ended, or does so in d.
func (p *pump) wait(d time.Duration) bool {
	select {
	case <-p.done:
		return true
	default:
	}
	if d == 0 {
		return false
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-p.done:
		return true
	case <-timer.C:
		return false
	}
}

// endPump ends the pump and tells whether the whole body has left, and why not
// if the body is to blame. A pump whose body cannot be interrupted is left
// alone: it holds nothing that is used again.
func (t *trip) endPump() (clean bool, cause error) {
	const grace = 100 * time.Millisecond
	p := t.pump
	switch {
	case p == nil:
		return true, nil
	case p.ending.Load() && p.wait(grace), p.wait(0):
	case !p.stopped.Swap(true):
		p.c.snk.deadline.interrupt()
		p.body.Close()
		if !p.wait(grace) {
			return false, nil
		}
	default:
		return false, nil
	}
	return p.err == nil, p.cause
}
