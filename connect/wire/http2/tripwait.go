package http2

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

func isEOF(err error) bool { return errors.Is(err, io.EOF) }

// receive waits for the head of the response.
func (t *trip) receive() error {
	l := t.l
	l.mu.Lock()
	for !t.headed {
		switch {
		case len(t.interim) > 0:
			next := t.interim[0]
			t.interim = t.interim[1:]
			if next.status == http.StatusContinue {
				t.goOn()
			}
			l.mu.Unlock()
			t.x.Interim(next.status, &next.header) //nolint:errcheck // a client that is gone is noticed soon
			l.mu.Lock()
			continue
		case t.over != nil, t.pump.cause != nil:
			err := t.over
			l.mu.Unlock()
			return cmp.Or[error](err, errLost)
		case l.mayFlush():
			l.unlock(false)
			l.mu.Lock()
			continue
		}
		if t.await(&t.readUntil, t.wakeAt()) {
			continue
		}
		l.mu.Unlock()
		if err := t.expired(time.Time{}); err != nil {
			return err
		}
		l.mu.Lock()
	}
	bare := t.bare
	if !t.tunnel && !t.pump.running {
		t.a.Uploaded = t.pump.ended // zero if the body was at hand
	}
	l.unlock(false)
	t.a.Head, t.a.Status = time.Now(), t.resp.Status
	if bare {
		t.resp.Body = nil
		t.finish()
		return nil
	}
	t.resp.Body = &t.body
	t.headBy = time.Time{}
	t.active = t.a.Head
	return nil
}

// goOn begins to send a body that has waited for 100. The lock is held.
func (t *trip) goOn() {
	if t.expecting && t.over == nil && !t.localDone {
		t.expecting = false
		t.startPump(t.req.Body)
	}
}

// wakeAt is when who waits should look at the time. The lock is held.
func (t *trip) wakeAt() time.Time {
	wake := t.headBy
	if !t.tunnel {
		wake = sooner(wake, t.x.Deadline)
	}
	if !t.watched {
		wake = sooner(wake, t.watchAt)
	}
	if t.expecting {
		wake = sooner(wake, t.continueAt)
	}
	return wake
}

// expired looks at the time; nil means to wait on, until by at most; zero for never.
func (t *trip) expired(by time.Time) error {
	now := time.Now()
	tunnel := t.extend(now)
	if reached(by, now) || reached(t.headBy, now) || !tunnel && reached(t.x.Deadline, now) {
		return errStalled
	}
	if !t.watched && reached(t.watchAt, now) {
		t.watched = true
		t.x.Watch()
	}
	if t.expecting && reached(t.continueAt, now) {
		t.l.mu.Lock()
		t.goOn()
		t.l.mu.Unlock()
	}
	return nil
}

// extend makes deadlines that are over count from the end of the request, which is
// not before now if its body is still being sent. It tells whether there are
// deadlines no longer, since the trip is a tunnel.
func (t *trip) extend(now time.Time) (tunnel bool) {
	t.l.mu.Lock()
	running, end, tunnel := t.pump.running, now, t.tunnel
	if !running {
		end = t.pump.ended
	}
	t.l.mu.Unlock()
	if end.IsZero() {
		return tunnel
	}
	if x := t.x; x.Timeout > 0 && reached(x.Deadline, now) {
		x.Deadline = later(x.Deadline, end.Add(x.Timeout))
	}
	if t.headWait > 0 && reached(t.headBy, now) {
		t.headBy = later(t.headBy, end.Add(t.headWait))
	}
	return tunnel
}

// endOf is when d is over that has begun at since; zero for never, if d is none.
func endOf(since time.Time, d time.Duration) time.Time {
	if d <= 0 {
		return time.Time{}
	}
	return since.Add(d)
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}

// shorter returns the shorter of two durations of which zero means no limit.
func shorter(a, b time.Duration) time.Duration {
	if a == 0 || b > 0 && b < a {
		return b
	}
	return a
}

func reached(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }

// writeLimit implements sending.
func (t *trip) writeLimit(since time.Time) time.Time {
	if t.tunnel {
		return endOf(t.active, t.x.Pause(t.l.bounds.TunnelTimeout))
	}
	return endOf(since, t.x.Pause(t.l.bounds.WriteTimeout))
}

// lost ends a trip that has no response and tells why.
func (t *trip) lost(err error) *wire.Fault {
	cause := t.endPump()
	fault := &wire.Fault{Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamReset, Repeat: wire.RepeatIdempotent, Err: err}
	fault.Text = "upstream connection was lost"
	t.l.mu.Lock()
	unsent := !t.opened || t.l.written <= t.began
	answered := t.interims > 0
	t.l.mu.Unlock()
	reset, isReset := errors.AsType[*ResetError](err)
	b, isBreach := errors.AsType[breach](err)
	reason := t.x.Aborted()
	switch {
	case reason != nil:
		fault = wire.Aborted(reason)
	case cause != nil:
		fault = wire.AsFault(cause)
	case isReset:
		fault.Text = "upstream has reset the stream"
		if http2.ErrCode(reset.Code) == http2.ErrCodeRefusedStream {
			fault.Repeat = wire.RepeatAny
		}
	case b == errStalled:
		fault.TimeOut(t.x)
	case b == errUnprocessed, b == errGone, b == errLost && unsent:
		fault.Repeat = wire.RepeatAny
	case b == errNoConnect:
		fault.Status, fault.Repeat, fault.Text = http.StatusBadGateway, wire.RepeatNever, "upstream cannot switch protocols"
	case isBreach && b != errLost:
		fault.Status, fault.Flag, fault.Repeat = http.StatusBadGateway, wire.FlagUpstreamProtocol, wire.RepeatNever
		fault.Text = "upstream sent a malformed response"
	}
	if answered && fault.Repeat == wire.RepeatIdempotent {
		fault.Repeat = wire.RepeatNever
	}
	return t.fail(fault)
}

// fail ends a trip with fault.
func (t *trip) fail(fault *wire.Fault) *wire.Fault {
	t.a.Flag = fault.Flag
	t.body.err = errClosedBody
	t.finish()
	return fault
}

// finish ends the trip and gives its place back, once.
func (t *trip) finish() {
	t.l.mu.Lock()
	done := t.released
	t.released = true
	t.l.mu.Unlock()
	if done {
		return
	}
	t.x.OnAbort(nil) //nolint:errcheck // taken back
	t.endPump()      //nolint:errcheck // whoever wants to know the cause has asked
	t.l.mu.Lock()
	defer t.l.unlock(false)
	t.giveUp(errClosedBody)
	t.dropOut()
	t.c.release()
}
