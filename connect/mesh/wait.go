package mesh

import "time"

// Wait is how long is waited for what a resource names and what has not come yet, before
// the resource is served without it (xDS: ConfigSource.initial_fetch_timeout). The zero
// Wait is the default.
type Wait time.Duration

const (
	// DefaultWait is that of the zero Wait.
	DefaultWait = Wait(15 * time.Second)
	// WaitForever has no end.
	WaitForever Wait = -1
)

// End is when a wait is over that began at since; ok is false if it never is.
func (w Wait) End(since time.Time) (end time.Time, ok bool) {
	switch {
	case w < 0:
		return time.Time{}, false
	case w == 0:
		w = DefaultWait
	}
	return since.Add(time.Duration(w)), true
}

// Longer is the longer one of two.
func (w Wait) Longer(other Wait) Wait {
	switch {
	case w < 0 || other < 0:
		return WaitForever
	case w == 0:
		w = DefaultWait
	case other == 0:
		other = DefaultWait
	}
	return max(w, other)
}
