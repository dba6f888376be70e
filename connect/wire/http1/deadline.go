package http1

import (
	"sync/atomic"
	"time"
)

// deadline is the read or the write deadline of a connection. Moving it costs
// about as much as a short system call, so it moves only when it must. Its owner
// is who reads, or who writes; interrupt may be called by anyone.
type deadline struct {
	set func(time.Time) error
	at  time.Time // what is set; zero for none
	// stop is set before the deadline is put into the past, and looked at after
	// the owner has moved it, so that an interrupt is never lost.
	stop atomic.Bool
}

// past is a deadline that is over.
func past() time.Time { return time.Unix(1, 0) }

// early makes the next operation end at until or before: whoever sees it end
// looks at the clock and goes on if it is too early. Zero means never.
func (d *deadline) early(now, until time.Time) {
	switch {
	case until.IsZero():
		if d.at.IsZero() {
			return
		}
	case d.at.After(now) && !d.at.After(until):
		return
	}
	d.move(until)
}

// late makes the next operation end at until, or up to slack later. Zero means
// never.
func (d *deadline) late(until time.Time, slack time.Duration) {
	switch {
	case until.IsZero():
		if d.at.IsZero() {
			return
		}
	case !d.at.IsZero() && !d.at.Before(until) && !d.at.After(until.Add(slack)):
		return
	default:
		until = until.Add(slack)
	}
	d.move(until)
}

func (d *deadline) move(until time.Time) {
	d.at = until
	d.set(until) //nolint:errcheck // a closed connection fails at the next operation
	if d.stop.Load() {
		d.set(past()) //nolint:errcheck // as above
	}
}

// interrupt ends the operation under way and all that follow.
func (d *deadline) interrupt() {
	d.stop.Store(true)
	d.set(past()) //nolint:errcheck // as above
}

// resume takes an interrupt back. The operation it ended must have returned.
func (d *deadline) resume() {
	d.stop.Store(false)
	d.at = past()
}

// unset lets the next operation take as long as it needs.
func (d *deadline) unset() {
	if !d.at.IsZero() {
		d.move(time.Time{})
	}
}
