package wire

import "sync/atomic"

// Ending is how a connection came to its end. Its zero value is that the other side
// left, as it may.
type Ending struct {
	// Ours says that we have closed it, Busy that an exchange was under way.
	Ours, Busy bool
}

// Endings counts connections that have ended. The zero value is ready for use, by
// any goroutine.
type Endings struct {
	// Ours were closed by us, Theirs by the other side; each was one of the two.
	Ours, Theirs atomic.Int64
	// OursBusy and TheirsBusy are those of them with an exchange under way.
	OursBusy, TheirsBusy atomic.Int64
}

// Count counts one.
func (e *Endings) Count(one Ending) {
	switch {
	case one.Ours && one.Busy:
		e.OursBusy.Add(1)
	case one.Busy:
		e.TheirsBusy.Add(1)
	}
	if one.Ours {
		e.Ours.Add(1)
	} else {
		e.Theirs.Add(1)
	}
}
