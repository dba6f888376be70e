package mesh

import (
	"fmt"
	"net/netip"
	"time"
)

// Inspect is what a listener looks at before it chooses a chain (xDS:
// listener_filters). The zero Inspect looks at nothing.
type Inspect struct {
	// OriginalDst asks the system where the connection went before it was
	// redirected to us (filters.listener.original_dst.v3).
	OriginalDst bool
	// TLS reads the ClientHello, HTTP the first line of a connection without TLS;
	// both leave what they read in the connection (tls_inspector.v3,
	// http_inspector.v3).
	TLS, HTTP bool
	// MaxHello is the longest ClientHello that is read, in bytes; 0 means 16 KiB.
	MaxHello int
	// Timeout bounds all of this (listener_filters_timeout); 0 means 15 s, less
	// than 0 for ever.
	Timeout time.Duration
	// Continue chooses a chain by what is known when the time is over, and does not
	// close the connection (continue_on_listener_filters_timeout).
	Continue bool
}

// SourceType says who may use a chain, by the addresses alone.
type SourceType uint8

// Source types (xDS: FilterChainMatch.ConnectionSourceType).
const (
	AnySource SourceType = iota
	// LocalSource is the same machine: a loopback address, the address that was
	// called, a unix socket.
	LocalSource
	// ExternalSource is any other.
	ExternalSource
)

// Transports that a connection may be seen to have.
const (
	TransportTLS = "tls"
	// TransportRaw is what is not seen to be TLS, also where nobody looked.
	TransportRaw = "raw_buffer"
)

// ChainMatch chooses a filter chain; a zero field matches everything. Fields count
// in the order in which they stand here: of two chains that both match, the one is
// taken that is more specific in the first field in which they differ, and where it
// does not match in what follows, no other is taken in its place.
type ChainMatch struct {
	DestinationPort uint16
	Prefixes        []netip.Prefix // of the destination
	ServerNames     []string       // lower-case; "*.x" matches any depth below x
	// Transport is TransportTLS, TransportRaw, or "" for any.
	Transport string
	// ALPN has one of those that the client offers, or http_inspector saw
	// ("http/1.0", "http/1.1", "h2c").
	ALPN []string
	// DirectSourcePrefixes are of the peer of the socket, SourcePrefixes of who it
	// says that it speaks for (PROXY protocol), if it does.
	DirectSourcePrefixes []netip.Prefix
	SourceType           SourceType
	SourcePrefixes       []netip.Prefix
	SourcePorts          []uint16
}

// NeedsTLS tells whether the match can only be decided by the ClientHello: Envoy
// then reads it, also where it is not told to.
func (m *ChainMatch) NeedsTLS() bool {
	return m.Transport == TransportTLS || m.Transport == "" && len(m.ServerNames)+len(m.ALPN) > 0
}

// Source names the part of the match that looks at the peer: as long as it is the
// same, who might use the chain may go on.
func (m *ChainMatch) Source() string {
	return fmt.Sprintf("%v %d %v %v", m.DirectSourcePrefixes, m.SourceType, m.SourcePrefixes, m.SourcePorts)
}

// String names the match: equal ones have the same name.
func (m *ChainMatch) String() string {
	return fmt.Sprintf("%d %v %q %q %q %s", m.DestinationPort, m.Prefixes, m.ServerNames, m.Transport, m.ALPN, m.Source())
}
