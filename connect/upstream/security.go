package upstream

import (
	"crypto/tls"
	"sync/atomic"

	"github.com/serai-net/serai/connect/mtls"
)

// purpose is what a connection with TLS is for, by which ALPN differs.
type purpose uint8

const (
	// rawTLS is for bytes, and offers what the control plane says.
	rawTLS purpose = iota
	http1TLS
	http2TLS
	// eitherTLS is for what of these the two sides agree on.
	eitherTLS
	purposes
)

// security is TLS of a cluster. A configuration is made when the first connection needs
// it, and stays: of many clusters few are called, and each in one way. It is safe for
// concurrent use.
type security struct {
	*mtls.Client
	made [purposes]atomic.Pointer[tls.Config]
}

// by is the configuration for a purpose; nil if s is, for no TLS.
func (s *security) by(p purpose) *tls.Config {
	if s == nil {
		return nil
	}
	if made := s.made[p].Load(); made != nil {
		return made
	}
	s.made[p].CompareAndSwap(nil, s.make(p)) // if another was first, its sessions are kept
	return s.made[p].Load()
}

// make makes a configuration. Where the control plane says nothing of ALPN, HTTP/2 is
// offered all the same, as by Envoy: many a server speaks it only then. HTTP/1.1 needs no
// such thing.
func (s *security) make(p purpose) *tls.Config {
	made := s.Config()
	switch {
	case p == http1TLS && len(made.NextProtos) > 0:
		made.NextProtos = []string{"http/1.1"}
	case p == http2TLS:
		made.NextProtos = []string{"h2"}
	case p == eitherTLS:
		made.NextProtos = []string{"h2", "http/1.1"}
	}
	return made
}
