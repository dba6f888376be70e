package host

import (
	"slices"
	"time"
)

// maxRetired bounds the processes that are kept though no longer configured, and
// for each process the uses; the oldest go first.
const (
	maxRetired     = 8
	maxRetiredUses = 256
)

// takeRetired takes the processes that were retired before then and have no
// calls, and those that are too many; mu is held.
func (s *Set) takeRetired(then time.Time) (over []*worker) {
	s.retired = slices.DeleteFunc(s.retired, func(w *worker) bool {
		gone := w.retired.Before(then) && len(w.slots) == 0
		if gone {
			over = append(over, w)
		}
		return gone
	})
	if n := len(s.retired) - maxRetired; n > 0 {
		over = append(over, s.retired[:n]...)
		s.retired = slices.Delete(s.retired, 0, n)
	}
	return over
}

// sweep ends what has been retired for long enough.
func (s *Set) sweep() {
	select {
	case s.planned <- struct{}{}:
		defer s.letPlan()
	default:
		return // a plan may want what is retired now
	}
	then := time.Now().Add(-s.times.Linger)
	s.mu.Lock()
	over := s.takeRetired(then)
	var unused []entry
	for _, w := range s.workers {
		unused = append(unused, w.unused(then)...)
	}
	s.mu.Unlock()
	s.end(over)
	for _, e := range unused {
		e.worker.drop(e.key)
	}
}

// unused are the uses that were retired before then and have no calls, and those
// that are too many. Set.mu is held.
func (w *worker) unused(then time.Time) []entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	var retired []entry
	for key, i := range w.instances {
		if !i.retired.IsZero() {
			retired = append(retired, entry{w, key})
		}
	}
	slices.SortFunc(retired, func(a, b entry) int {
		return w.instances[a.key].retired.Compare(w.instances[b.key].retired)
	})
	n := max(0, len(retired)-maxRetiredUses)
	for n < len(retired) {
		i := w.instances[retired[n].key]
		if !i.retired.Before(then) || i.active.Load() > 0 {
			break
		}
		n++
	}
	return retired[:n]
}
