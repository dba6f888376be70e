// Package listen owns the sockets that a data plane accepts on, chooses a
// filter chain for each connection, does its TLS handshake and hands it over.
//
//	socket ── accept ── chain ── handshake ── Handler
//
// Sockets and chains outlive configurations: an update that names the same
// address keeps the socket, and one that names the same [Chain] keeps its
// connections.
package listen

import (
	"cmp"
	"crypto/tls"
	"iter"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
)

// Handler serves one connection and closes it. It registers the connection in
// drain for as long as it lives.
type Handler interface {
	Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain)
}

// Chain is a living filter chain: what is done with a connection. Its identity
// is its pointer: as long as a Spec has the same one, its connections stay.
type Chain struct {
	// Name for logs.
	Name string
	// TLS is loaded for each handshake, so a new certificate touches no
	// connection; nil means plain.
	TLS func() *tls.Config
	// Handler gets each connection.
	Handler Handler

	drain wire.Drain
}

// Drain is the signal that all connections of the chain hold.
func (c *Chain) Drain() *wire.Drain { return &c.drain }

func within(prefixes []netip.Prefix, source netip.Addr) bool {
	source = source.Unmap().WithZone("")
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(source) })
}

// Spec is what one listener should be.
type Spec struct {
	Name    string
	Address mesh.Address
	// StatName stands for the address in the names of what is counted; "" means
	// the address.
	StatName string
	// Outbound listeners accept until the very end of a shutdown, since the
	// application beside us may still call.
	Outbound bool
	// ProxyHeader is how connections begin before anything else; nil means that
	// they do not begin with a header of the PROXY protocol.
	ProxyHeader *ProxyHeader
	// Inspect is what else is looked at before a chain is chosen.
	Inspect mesh.Inspect
	// HandOff gives connections that were redirected to the listener of the address
	// that they went to, if there is one.
	HandOff bool
	// Unbound listeners have no socket: they get what others hand off.
	Unbound bool
	// ReusePort lets other sockets of the same user have the same port, as far as
	// they ask for it, too: at another address, or one address in all.
	ReusePort bool
	// Chains choose what is done with a connection. Where no chain matches,
	// connections are closed.
	Chains *Table
	// Unmatched is told of each connection that no chain is for; nil for nobody. It
	// must not wait.
	Unmatched func(peer *wire.Peer)
}

// Key tells listeners apart: one without a socket may stand beside one that has it.
type Key struct {
	address mesh.Address // without its mode
	unbound bool
}

// KeyOf is that of a listener at an address, and whether it has no socket there.
func KeyOf(address mesh.Address, unbound bool) Key {
	address.Mode = 0
	return Key{address, unbound}
}

func (s *Spec) key() Key { return KeyOf(s.Address, s.Unbound) }

// ProxyHeader is the header of the PROXY protocol, version 1 or 2, at the beginning
// of each connection. The address in it is the peer's, for all that comes after.
type ProxyHeader struct {
	// Trusted may send a header; empty means everybody.
	Trusted []netip.Prefix
	// Optional also takes connections without one. Such clients must speak first.
	Optional bool
}

func (p *ProxyHeader) trusts(source netip.Addr) bool {
	return len(p.Trusted) == 0 || within(p.Trusted, source)
}

// Config bounds a Set. The zero Config has the defaults named.
type Config struct {
	// MaxConnections at one time on one listener; 0 means 65536. What is over
	// it is closed at once and counted.
	MaxConnections int
	// MaxHandshakes at one time on all listeners, included what listener filters
	// wait for; 0 means 2048. A listener may have no more than it leaves to others:
	// half of them, if it alone is busy. What is over it is closed at once
	// and counted.
	MaxHandshakes int
	// HandshakeTimeout for each; 0 means 10 s.
	HandshakeTimeout time.Duration
	// ChainDrain is how long connections of a chain that is gone may live on;
	// 0 means 60 s.
	ChainDrain time.Duration
	// Strict makes Prepare fail if an address cannot be bound. Otherwise it is
	// tried again every second while the rest serves.
	Strict bool
}

func (c *Config) defaults() {
	setDefault(&c.MaxConnections, 65536)
	setDefault(&c.MaxHandshakes, 2048)
	setDefault(&c.HandshakeTimeout, 10*time.Second)
	setDefault(&c.ChainDrain, time.Minute)
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field == 0 {
		*field = value
	}
}

// Stats are the counters of one listener since it was bound.
type Stats struct {
	Name string
	// Address that is bound, with the port that the system has chosen for 0.
	Address string
	// StatName stands for the address in the names of what is counted; never "".
	StatName string
	// Bound is false while the address cannot be bound.
	Bound bool
	// Accepted counts connections that have found a chain, of which Active live and
	// Destroyed have ended, for whatever reason. As with Envoy others count below alone.
	Accepted, Active, Destroyed int64
	// Overflow were closed for a limit, NoChain since no chain matched,
	// BadHandshakes since TLS failed, but not those that left without a word,
	// BadProxyHeaders for a header of the PROXY protocol that was missing, broken or
	// not from who may send one.
	Overflow, NoChain, BadHandshakes, BadProxyHeaders int64
	// Pending are connections that have no chain yet. FilterTimeouts counts those for
	// which that took too long, FilterErrors those that were closed for what listener
	// filters found, or did not find in time, Left those that left without a word.
	Pending, FilterTimeouts, FilterErrors, Left int64
	// Restored counts connections of which the address before a redirect is known.
	Restored int64
	// Secured counts handshakes of TLS, of which those without a word are none. It
	// goes on counting; nil if no chain has TLS.
	Secured *mtls.Handshakes
	// TLS and HTTP are what the inspectors saw; nil where they do not look.
	TLS  *TLSStats
	HTTP *HTTPStats
}

// TLSStats are the counters of tls_inspector.
type TLSStats struct {
	Found, NotFound, TooLarge, SNI, NoSNI, ALPN, NoALPN int64
}

// HTTPStats are the counters of http_inspector.
type HTTPStats struct {
	HTTP10, HTTP11, HTTP2, NotFound, ReadErrors int64
}

// All yields the counters by Envoy's names where there is one.
func (s Stats) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		_ = yield("downstream_cx_total", s.Accepted) &&
			yield("downstream_cx_active", s.Active) &&
			yield("downstream_cx_overflow", s.Overflow) &&
			yield("no_filter_chain_match", s.NoChain) &&
			yield("proxy_proto.denied", s.BadProxyHeaders) &&
			yield("downstream_pre_cx_active", s.Pending) &&
			yield("downstream_pre_cx_timeout", s.FilterTimeouts) &&
			yield("downstream_listener_filter_error", s.FilterErrors) &&
			yield("downstream_listener_filter_remote_close", s.Left)
	}
}

// listener is the runtime of one address.
type listener struct {
	config  Config
	log     *slog.Logger
	buffers *bulk.Buffers
	spec    atomic.Pointer[Spec]
	socket  atomic.Pointer[gate]
	once    sync.Once     // guards the closing of:
	closed  chan struct{} // by close
	ended   chan struct{} // by run

	set     *Set
	places  *places // of the set
	shaking int     // of the places, those that are taken here

	// open are all sockets, those without a chain included
	open                             atomic.Int64
	accepted, active, destroyed      atomic.Int64
	overflow, noChain, badHandshakes atomic.Int64
	secured                          mtls.Handshakes
	badHeaders, left, filterErrors   atomic.Int64
	inspected                        inspected
	// pending are connections that have no chain yet.
	pending wire.Drain
}

// address is the one that is bound, or is to be.
func (l *listener) address() string {
	if bound := l.socket.Load(); bound != nil {
		return bound.Addr().String()
	}
	address := l.spec.Load().Address
	return address.String()
}

// statName stands for the address in the names of what is counted.
func (l *listener) statName() string { return cmp.Or(l.spec.Load().StatName, l.address()) }

func (l *listener) stats() Stats {
	spec, bound := l.spec.Load(), l.socket.Load()
	address := l.address()
	in := &l.inspected
	s := Stats{
		Name: spec.Name, Address: address, StatName: cmp.Or(spec.StatName, address), Bound: bound != nil,
		Accepted: l.accepted.Load(), Active: l.active.Load(), Destroyed: l.destroyed.Load(),
		Overflow: l.overflow.Load(), NoChain: l.noChain.Load(), BadHandshakes: l.badHandshakes.Load(),
		BadProxyHeaders: l.badHeaders.Load(), Pending: int64(l.pending.Len()),
		FilterTimeouts: in[timedOut].Load(), FilterErrors: l.filterErrors.Load(), Left: l.left.Load(), Restored: in[restored].Load(),
	}
	for chain := range spec.Chains.All() {
		if chain.TLS != nil {
			s.Secured = &l.secured
			break
		}
	}
	if spec.Inspect.TLS {
		s.TLS = &TLSStats{
			Found: in[tlsFound].Load(), NotFound: in[tlsNotFound].Load(), TooLarge: in[helloTooLarge].Load(),
			SNI: in[sniFound].Load(), NoSNI: in[sniNotFound].Load(), ALPN: in[alpnFound].Load(), NoALPN: in[alpnNotFound].Load(),
		}
	}
	if spec.Inspect.HTTP {
		s.HTTP = &HTTPStats{
			HTTP10: in[http10Found].Load(), HTTP11: in[http11Found].Load(), HTTP2: in[http2Found].Load(),
			NotFound: in[httpNotFound].Load(), ReadErrors: in[httpReadError].Load(),
		}
	}
	return s
}
