package listen

// Drain asks the clients of all listeners, or of all but the outbound ones, to
// leave: responses close their connections. Sockets accept on.
func (s *Set) Drain(inboundOnly bool) { begin(s.some(inboundOnly)) }

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

// Stop closes the sockets of all listeners, or of all but the outbound ones. They
// are not bound again, whatever is configured; connections live on.
func (s *Set) Stop(inboundOnly bool) {
	for _, l := range s.some(inboundOnly) {
		l.close()
	}
}

func (s *Set) some(inboundOnly bool) []*listener {
	s.mu.Lock()
	defer s.mu.Unlock()
	var all []*listener
	for _, l := range s.listeners {
		if !inboundOnly || !l.spec.Load().Outbound {
			all = append(all, l)
		}
	}
	return all
}
