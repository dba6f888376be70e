package listen

import (
	"crypto/tls"
	"sync/atomic"
)

// Secured counts handshakes of TLS that were good.
type Secured struct {
	// Handshakes, of which Resumed took up an older session, and TLS12 and TLS13
	// tell the version.
	Handshakes, Resumed, TLS12, TLS13 int64
}

// secured counts them.
type secured struct{ handshakes, resumed, tls12, tls13 atomic.Int64 }

func (s *secured) count(state *tls.ConnectionState) {
	s.handshakes.Add(1)
	if state.DidResume {
		s.resumed.Add(1)
	}
	switch state.Version {
	case tls.VersionTLS12:
		s.tls12.Add(1)
	case tls.VersionTLS13:
		s.tls13.Add(1)
	}
}

func (s *secured) read() Secured {
	return Secured{s.handshakes.Load(), s.resumed.Load(), s.tls12.Load(), s.tls13.Load()}
}
