package http1

import (
	"os"
	"time"
)

// arm is guard.arm for the connection's trip.
func (t *trip) arm(again bool) {
	if t.now.IsZero() {
		t.now = time.Now()
	}
	now := t.now
	if !again {
		t.watchAt = now.Add(watchAfter)
		if t.pause > 0 {
			t.until = now.Add(t.pause)
		}
	}
	wake := t.until
	if !t.tunnel {
		wake = sooner(wake, t.x.Deadline)
	}
	if !t.watched {
		wake = sooner(wake, t.watchAt)
	}
	if t.expecting {
		wake = sooner(wake, t.continueAt)
	}
	t.c.rd.early(now, wake)
	t.now = time.Time{}
}

// expired is guard.expired for the connection's trip.
func (t *trip) expired() error {
	now := time.Now()
	t.now = now
	if t.tunnel && t.pause > 0 {
		t.until = t.c.start.Add(time.Duration(t.c.active.Load())).Add(t.pause)
	}
	t.extend(now)
	switch {
	case t.c.rd.stop.Load(), reached(t.until, now), !t.tunnel && reached(t.x.Deadline, now):
		return os.ErrDeadlineExceeded
	}
	if !t.watched && reached(t.watchAt, now) {
		t.watched = true
		t.x.Watch()
	}
	if t.expecting && reached(t.continueAt, now) {
		t.startPump()
	}
	return nil
}

// extend makes deadlines that are over count from the end of the request, which
// is not before now if its body is still being sent. A response may pause while
// the request's body moves.
func (t *trip) extend(now time.Time) {
	if t.pump == nil || t.tunnel {
		return
	}
	x, end, running := t.x, now, !t.pump.wait(0)
	if !running {
		end = t.pump.ended
	}
	if x.Timeout > 0 && reached(x.Deadline, now) {
		x.Deadline = later(x.Deadline, end.Add(x.Timeout))
	}
	switch {
	case !reached(t.until, now):
	case t.wait > 0:
		t.until = later(t.until, end.Add(t.wait))
	case t.pause > 0:
		t.until = later(t.until, t.c.start.Add(time.Duration(t.c.active.Load())).Add(t.pause))
	}
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

// sooner returns the earlier of two times of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func reached(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }
