package listen

import "time"

// reach is which listeners are meant: as yet none, all but the outbound ones, or all.
type reach uint8

const (
	reachNone reach = iota
	reachInbound
	reachAll
)

func reachOf(inboundOnly bool) reach {
	if inboundOnly {
		return reachInbound
	}
	return reachAll
}

func (r reach) has(spec *Spec) bool { return r == reachAll || r == reachInbound && !spec.Outbound }

// Drain asks the clients of all listeners, or of all but the outbound ones, to
// leave, also of those that are still to come: responses close their connections.
// Sockets accept on.
func (s *Set) Drain(inboundOnly bool) { begin(s.some(&s.draining, inboundOnly)) }

// ChainDrain is how long connections may live on whose chain is gone.
func (s *Set) ChainDrain() time.Duration { return s.config.ChainDrain }

// Advise lets responses ask clients to leave, as long as it is on. Sockets accept on,
// and connections that are not used stay.
func (s *Set) Advise(on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advised = on
	for _, l := range s.listeners {
		for chain := range l.spec.Load().Chains.All() {
			chain.drain.Advise(on)
		}
	}
}

// Stop closes the sockets of all listeners, or of all but the outbound ones. None of
// these is bound again, whatever is configured; connections live on.
func (s *Set) Stop(inboundOnly bool) {
	for _, l := range s.some(&s.stopped, inboundOnly) {
		l.close()
	}
}

// some returns the listeners that are meant, and notes in to that those are that come.
func (s *Set) some(to *reach, inboundOnly bool) []*listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	meant := reachOf(inboundOnly)
	*to = max(*to, meant)
	var all []*listener
	for _, l := range s.listeners {
		if meant.has(l.spec.Load()) {
			all = append(all, l)
		}
	}
	return all
}
