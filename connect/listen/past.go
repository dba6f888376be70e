package listen

import "github.com/serai-net/serai/connect/mtls"

// Counted returns what all listeners count, those of them that are no more, too, whose
// StatNames others still have: counters do not go back as long as there is one of the
// name.
func (s *Set) Counted() []Stats {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.settle()
	all := s.statsLocked()
	for _, l := range s.past {
		all = append(all, l.stats())
	}
	for _, one := range s.gone {
		all = append(all, *one)
	}
	return all
}

// Draining is how many listeners are gone but for their connections, and how many chains
// of listeners that are not.
func (s *Set) Draining() (listeners, chains int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	those := map[*listener]bool{}
	for _, l := range s.leaving {
		if s.listeners[l.spec.Load().key()] == l {
			chains++
		} else {
			those[l] = true
		}
	}
	return len(those), chains
}

// settle keeps the numbers alone of what has no connections any more, and forgets those
// that nobody asks for. The lock is held.
func (s *Set) settle() {
	if len(s.past) == 0 && len(s.gone) == 0 {
		return
	}
	living := map[string]bool{}
	for _, l := range s.listeners {
		living[l.statName()] = true
	}
	left := s.past[:0]
	for _, l := range s.past {
		switch name := l.statName(); {
		case !living[name]:
		case l.open.Load() > 0:
			left = append(left, l)
		default:
			one := l.stats()
			if s.gone[name] == nil {
				s.gone[name] = &Stats{StatName: name}
			}
			s.gone[name].add(&one)
		}
	}
	clear(s.past[len(left):])
	s.past = left
	for name := range s.gone {
		if !living[name] {
			delete(s.gone, name)
		}
	}
}

// add adds what another has counted; nothing of it lives.
func (s *Stats) add(other *Stats) {
	s.Accepted += other.Accepted
	s.Destroyed += other.Destroyed
	s.Overflow += other.Overflow
	s.NoChain += other.NoChain
	s.BadHandshakes += other.BadHandshakes
	s.BadProxyHeaders += other.BadProxyHeaders
	s.FilterTimeouts += other.FilterTimeouts
	s.FilterErrors += other.FilterErrors
	s.Left += other.Left
	s.Restored += other.Restored
	if other.Secured != nil {
		if s.Secured == nil {
			s.Secured = &mtls.Handshakes{}
		}
		s.Secured.Add(other.Secured)
	}
}
