package host

import (
	"iter"
	"sync/atomic"
)

// counters are of one plugin's name, over all its processes.
type counters struct {
	calls, refused, canceled                             atomic.Int64
	unavailable, timeouts, overloads, violations, failed atomic.Int64
	ends, starts, startFails                             atomic.Int64
	active, waiting                                      atomic.Int64
}

// Stats are the counters of one plugin since it was first configured.
type Stats struct {
	Name string
	// Up is whether its process runs now, Pid which one that is (0 if none).
	Up  bool
	Pid int
	// Calls were begun; Active are under way, Waiting wait for a place.
	Calls, Active, Waiting int64
	// Refused were answered by the plugin with a refusal; for Canceled the
	// caller went away.
	Refused, Canceled int64
	// The failures, by their errors ErrUnavailable, ErrTimeout, ErrOverload,
	// ErrProtocol and ErrFailed.
	Unavailable, Timeouts, Overloads, Violations, Failed int64
	// Starts that went well, StartFails that did not, and Ends that nobody
	// asked for.
	Starts, StartFails, Ends int64
}

// All yields the counters by name; there is none of Envoy's to follow.
func (s Stats) All() iter.Seq2[string, int64] {
	up := int64(0)
	if s.Up {
		up = 1
	}
	return func(yield func(string, int64) bool) {
		_ = yield("up", up) &&
			yield("calls_total", s.Calls) &&
			yield("calls_active", s.Active) &&
			yield("calls_waiting", s.Waiting) &&
			yield("refused", s.Refused) &&
			yield("canceled", s.Canceled) &&
			yield("failed_unavailable", s.Unavailable) &&
			yield("failed_timeout", s.Timeouts) &&
			yield("failed_overload", s.Overloads) &&
			yield("failed_protocol", s.Violations) &&
			yield("failed_plugin", s.Failed) &&
			yield("starts", s.Starts) &&
			yield("start_fails", s.StartFails) &&
			yield("unexpected_ends", s.Ends)
	}
}

func (w *worker) stats() Stats {
	c := w.counts
	s := Stats{
		Name: w.config.Name, Calls: c.calls.Load(), Active: c.active.Load(), Waiting: c.waiting.Load(),
		Refused: c.refused.Load(), Canceled: c.canceled.Load(),
		Unavailable: c.unavailable.Load(), Timeouts: c.timeouts.Load(), Overloads: c.overloads.Load(),
		Violations: c.violations.Load(), Failed: c.failed.Load(),
		Starts: c.starts.Load(), StartFails: c.startFails.Load(), Ends: c.ends.Load(),
	}
	if current := w.session.Load(); current != nil && current.isUp() {
		s.Up, s.Pid = true, current.process.cmd.Process.Pid
	}
	return s
}
