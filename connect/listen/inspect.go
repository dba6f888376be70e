package listen

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/socket"
)

// filterTimeout is Envoy's default of listener_filters_timeout.
const filterTimeout = 15 * time.Second

// looksFirst tells whether something is to be found out before a chain is chosen.
func (s *Spec) looksFirst() bool {
	return s.ProxyHeader != nil || s.Inspect.OriginalDst || s.Inspect.TLS || s.Inspect.HTTP
}

// errLeft says that a peer left without a word, as a bare TCP check does, which is
// no error.
var errLeft = errors.New("the peer left without a word")

// arrive finds out what there is to know of a connection, and serves it. held is
// among l's pending.
func (l *listener) arrive(conn net.Conn, a *Arrival, held *holder) {
	spec := l.spec.Load()
	same, count := l.find(conn, a, spec)
	var chain *Chain
	at := l
	if same != nil {
		if spec.HandOff && a.Peer.Restored {
			at = l.handOff(a.Peer.Local, held)
		}
		if at != l {
			switch next := at.spec.Load(); {
			case at.open.Load() > int64(at.config.MaxConnections):
				same, count = nil, &at.overflow
			case next.looksFirst():
				same, count = at.find(same, a, next)
			}
		}
	}
	if same != nil {
		// Before it is pending no more, so that a drain knows of it at any time.
		if chain = at.hold(held, a); chain == nil {
			count = &at.noChain
			at.unmatched(a.Peer)
		}
	}
	at.pending.Remove(held)
	if chain == nil {
		at.refuse(conn, count)
		return
	}
	at.serve(same, a.Peer, chain, held)
}

// handOff gives a connection to the listener of the address that it went to; to l
// if there is no other.
func (l *listener) handOff(address netip.AddrPort, held *holder) *listener {
	other := l.set.receive(address, l, held)
	if other == nil {
		return l
	}
	l.pending.Remove(held)
	l.open.Add(-1)
	return other
}

// find returns the connection behind its PROXY protocol header, with all that
// listener filters find out in a; or nil and where that is counted.
func (l *listener) find(conn net.Conn, a *Arrival, spec *Spec) (net.Conn, *atomic.Int64) {
	if !l.places.enter(&l.shaking) {
		return nil, &l.overflow
	}
	defer l.places.leave(&l.shaking)
	same := conn
	if spec.ProxyHeader != nil {
		var count *atomic.Int64
		if same, count = l.header(conn, a.Peer, spec.ProxyHeader); same == nil {
			return nil, count
		}
	}
	if spec.Inspect.OriginalDst {
		l.restore(conn, a.Peer)
	}
	if !spec.Inspect.TLS && !spec.Inspect.HTTP {
		return same, nil
	}
	same, err := l.inspect(same, a, &spec.Inspect)
	switch {
	case err == nil:
		return same, nil
	case errors.Is(err, errLeft):
		return nil, &l.left
	case errors.Is(err, os.ErrDeadlineExceeded):
		l.saw(timedOut)
		if spec.Inspect.Continue {
			return same, nil
		}
		return nil, &l.filterErrors
	}
	l.log.Debug("listener filter", "listener", spec.Name, "peer", conn.RemoteAddr().String(), "err", err)
	return nil, &l.filterErrors
}

// restore puts the address in Peer.Local that the connection went to before it was
// redirected. One that came to us directly keeps its own, and nobody takes that for
// an address to go on to.
func (l *listener) restore(conn net.Conn, peer *wire.Peer) {
	sock, ok := conn.(syscall.Conn)
	if !ok || !peer.Local.IsValid() {
		return
	}
	original, err := originalDst(sock, peer.Local.Addr().Is4())
	if err != nil || original == peer.Local || original.Port() == 0 {
		return
	}
	peer.Local, peer.Restored = original, true
	l.saw(restored)
}

// inspect looks at the first bytes. The connection that it returns begins with them.
func (l *listener) inspect(conn net.Conn, a *Arrival, in *mesh.Inspect) (net.Conn, error) {
	timeout := in.Timeout
	if timeout == 0 {
		timeout = filterTimeout
	}
	if timeout > 0 {
		if err := conn.SetReadDeadline(time.Now().Add(timeout)); err != nil {
			return conn, err
		}
	}
	var err error
	if in.TLS {
		conn, err = l.inspectTLS(conn, a, in.MaxHello)
	}
	if err == nil && in.HTTP && a.Transport != mesh.TransportTLS {
		conn, err = l.inspectHTTP(conn, a)
	}
	if timeout > 0 {
		err = errors.Join(err, conn.SetReadDeadline(time.Time{}))
	}
	return conn, err
}

func (l *listener) inspectTLS(conn net.Conn, a *Arrival, most int) (net.Conn, error) {
	if most <= 0 || most > defaultMaxHello {
		most = defaultMaxHello
	}
	var h hello
	var v verdict
	conn, err := l.set.looks.look(conn, most, func(b []byte) bool {
		h, v = parseHello(b, most)
		return v != needMore
	})
	switch {
	case errors.Is(err, io.EOF):
		return conn, errLeft
	case errors.Is(err, socket.ErrTooMuch):
		v = tooLong
	case err != nil:
		return conn, err
	}
	switch v {
	case tooLong:
		l.saw(helloTooLarge)
		return conn, socket.ErrTooMuch
	case found:
		l.saw(tlsFound)
		a.Transport, a.ServerName, a.ALPN, a.Peer.ServerName = mesh.TransportTLS, h.serverName, h.alpn, h.serverName
		l.either(h.serverName != "", sniFound, sniNotFound)
		l.either(len(h.alpn) > 0, alpnFound, alpnNotFound)
	default:
		l.saw(tlsNotFound)
	}
	return conn, nil
}

func (l *listener) either(is bool, yes, no sight) {
	if is {
		l.saw(yes)
	} else {
		l.saw(no)
	}
}

func (l *listener) inspectHTTP(conn net.Conn, a *Arrival) (net.Conn, error) {
	var protocol string
	var v verdict
	conn, err := l.set.looks.look(conn, maxLine, func(b []byte) bool {
		protocol, v = sniffHTTP(b)
		return v != needMore
	})
	switch {
	case errors.Is(err, io.EOF):
		return conn, errLeft
	case errors.Is(err, socket.ErrTooMuch), errors.Is(err, io.ErrUnexpectedEOF): // no line of HTTP
	case err != nil:
		l.saw(httpReadError)
		return conn, err
	}
	if v != found {
		l.saw(httpNotFound)
		return conn, nil
	}
	a.ALPN = []string{protocol}
	switch protocol {
	case protoHTTP10:
		l.saw(http10Found)
	case protoHTTP11:
		l.saw(http11Found)
	default:
		l.saw(http2Found)
	}
	return conn, nil
}
