package http2

import "time"

// clock is the one timer of a link. It goes off at the earliest time that anybody
// has asked for, or before. link.mu guards it.
type clock struct {
	timer   *time.Timer // nil before it was needed
	at      time.Time   // when it goes off; zero if it does not
	stopped bool
	goesOff func() // is called then, and asks for the next time
}

// remind makes the clock go off at t or before; zero means never. The lock is
// held.
func (c *clock) remind(t time.Time) {
	if t.IsZero() || c.stopped || !c.at.IsZero() && !t.Before(c.at) {
		return
	}
	c.at = t
	// What is over already is looked at soon, and never again and again at once.
	if d := max(time.Millisecond, time.Until(t)); c.timer == nil {
		c.timer = time.AfterFunc(d, c.goesOff)
	} else {
		c.timer.Reset(d)
	}
}

// remindPending sees to it that a head does not take too long. The lock is held.
func (l *link) remindPending() {
	if d := l.headTime; d > 0 {
		l.remind(l.pending.since.Add(d))
	}
}

// stopClock ends the clock for good. The lock is held.
func (c *clock) stopClock() {
	c.stopped = true
	if c.timer != nil {
		c.timer.Stop()
	}
}

// check wakes streams whose time has come, and sees to the connection itself.
func (l *link) check() {
	l.mu.Lock()
	defer l.unlock(true)
	now := time.Now()
	l.at = time.Time{}
	if l.dead != nil {
		return
	}
	var next time.Time
	for _, s := range l.streams {
		next = s.checkTime(now, next)
	}
	for _, s := range l.waiting {
		next = s.checkTime(now, next)
	}
	l.remind(next)
	if l.pending.id != 0 && l.headTime > 0 {
		if until := l.pending.since.Add(l.headTime); now.Before(until) {
			l.remind(until)
		} else {
			l.late(lateHead)
			l.kill()
			return
		}
	}
	l.keepAlive(now)
	if len(l.streams) == 0 && !l.flushing {
		l.spare = nil
		if len(l.out) == 0 {
			l.out = nil
		}
	}
	if l.tick != nil {
		l.tick(now)
	}
}

// checkTime wakes who waits on s if it is time, and returns when to look again. The
// lock is held.
func (s *stream) checkTime(now, next time.Time) time.Time {
	for _, until := range [...]time.Time{s.readUntil, s.writeUntil} {
		switch {
		case until.IsZero():
		case now.Before(until):
			next = sooner(next, until)
		default:
			s.wake()
		}
	}
	return next
}

// keepAlive sends a PING if the other side was silent for too long, and gives up
// if it does not answer. While it takes a write slowly, the PING may still be behind
// that, whose own deadline holds. The lock is held.
func (l *link) keepAlive(now time.Time) {
	interval, patience := l.bounds.PingInterval, l.bounds.PingTimeout
	if interval <= 0 || len(l.streams) == 0 && !l.pingIdle {
		return
	}
	switch {
	case l.pinged.IsZero() && now.Sub(l.lastRead) >= interval:
		l.pinged = now
		l.out = appendPing(l.out, 0, [8]byte{'a', 'l', 'i', 'v', 'e', '?'})
	case !l.pinged.IsZero() && patience > 0 && now.Sub(l.pinged) >= patience && l.flushing:
		l.remind(now.Add(time.Second))
		return
	case !l.pinged.IsZero() && patience > 0 && now.Sub(l.pinged) >= patience:
		l.late(latePong)
		l.kill()
		return
	}
	switch {
	case l.pinged.IsZero():
		l.remind(l.lastRead.Add(interval))
	case patience > 0:
		l.remind(l.pinged.Add(patience))
	}
}

// lateness is what has not come in time.
type lateness uint8

const (
	lateHead lateness = iota
	latePong
)

// late tells whoever counts it. The lock is held.
func (l *link) late(what lateness) {
	if l.onLate != nil {
		l.onLate(what)
	}
}

// kill closes the connection; the reader sees it and ends all.
func (l *link) kill() {
	l.killed.Store(true)
	base(l.nc).Close()
}

// sooner returns the earlier of two times of which zero means never.
func sooner(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}
