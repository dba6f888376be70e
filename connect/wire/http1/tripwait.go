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

// extend makes a deadline that is over count from the end of the request, which
// is not before now if its body is still being sent.
func (t *trip) extend(now time.Time) {
	x := t.x
	if x.Timeout == 0 || t.pump == nil || !reached(x.Deadline, now) {
		return
	}
	end := now
	if t.pump.wait(0) {
		end = t.pump.ended
	}
	if d := end.Add(x.Timeout); d.After(x.Deadline) {
		x.Deadline = d
	}
}

// sooner returns the earlier of two times of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

func reached(t, now time.Time) bool { return !t.IsZero() && !now.Before(t) }
