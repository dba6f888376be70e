package listen

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
)

// run accepts until the listener is closed.
func (l *listener) run() {
	defer close(l.ended)
	bound := l.bound()
	if bound == nil {
		return
	}
	pause := time.Duration(0)
	for {
		conn, err := bound.Accept()
		switch {
		case err == nil:
			pause = 0
			l.take(conn)
		case errors.Is(err, net.ErrClosed):
			return
		default: // no file descriptors left, or the like: it heals
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			l.log.Error("accept", "listener", l.spec.Load().Name, "retry_in", pause, "err", err)
			if !l.wait(pause) {
				return
			}
		}
	}
}

// bound returns the socket, nil if the listener was closed. A socket that could
// not be bound is tried again every second.
func (l *listener) bound() *gate {
	if l.spec.Load().Unbound {
		<-l.closed
		return nil
	}
	for {
		if bound := l.socket.Load(); bound != nil {
			return bound
		}
		if !l.wait(time.Second) {
			return nil
		}
		spec := l.spec.Load()
		bound, err := bind(spec)
		if err != nil {
			continue // told when Prepare tried first
		}
		l.socket.Store(bound)
		select {
		case <-l.closed: // while we bound
			bound.Close()
			return nil
		default:
		}
		l.log.Info("listener bound at last", "listener", spec.Name, "address", spec.Address.String())
	}
}

// wait pauses; it is false if the listener was closed meanwhile.
func (l *listener) wait(pause time.Duration) bool {
	select {
	case <-time.After(pause):
		return true
	case <-l.closed:
		return false
	}
}

// take chooses the chain of a connection and serves it. When the accept loop
// has ended, the drains know of all that was accepted.
func (l *listener) take(conn net.Conn) {
	if l.open.Add(1) > int64(l.config.MaxConnections) {
		l.refuse(conn, &l.overflow)
		return
	}
	peer := &wire.Peer{Addr: addrPort(conn.RemoteAddr()), Local: addrPort(conn.LocalAddr())}
	held := &holder{conn: conn}
	if l.spec.Load().looksFirst() {
		l.pending.Add(held)
		go l.arrive(conn, &Arrival{Peer: peer, Direct: peer.Addr}, held)
		return
	}
	if chain := l.hold(held, &Arrival{Peer: peer, Direct: peer.Addr}); chain != nil {
		go l.serve(conn, peer, chain, held)
	} else {
		l.unmatched(peer)
		l.refuse(conn, &l.noChain)
	}
}

// unmatched tells of a connection that no chain is for.
func (l *listener) unmatched(peer *wire.Peer) {
	if tell := l.spec.Load().Unmatched; tell != nil {
		tell(peer)
	}
}

// refuse closes a connection that is not served, and counts it.
func (l *listener) refuse(conn net.Conn, count *atomic.Int64) {
	count.Add(1)
	conn.Close()
	l.open.Add(-1)
}

// hold registers a connection with its chain; nil if there is none for it. A
// chain that is taken away at the same moment is not used any more.
func (l *listener) hold(held *holder, a *Arrival) *Chain {
	for {
		spec := l.spec.Load()
		chain := spec.Chains.Find(a)
		if chain == nil {
			return nil
		}
		chain.drain.Add(held)
		if l.spec.Load() == spec {
			l.accepted.Add(1)
			l.active.Add(1)
			return chain
		}
		chain.drain.Remove(held)
	}
}

// serve takes one connection through the handshake to its handler.
func (l *listener) serve(conn net.Conn, peer *wire.Peer, chain *Chain, held *holder) {
	defer func() {
		l.open.Add(-1) // first: who sees the end may come again
		l.active.Add(-1)
		l.destroyed.Add(1)
	}()
	defer chain.drain.Remove(held)
	if chain.TLS != nil {
		secured := l.handshake(conn, chain.TLS(), peer)
		if secured == nil {
			conn.Close()
			return
		}
		conn = secured
	}
	held.peer.Store(peer)
	chain.Handler.Serve(conn, peer, &chain.drain)
}

// holder keeps a drain waiting for a connection, from accept until its handler
// returns. The handler's own registration tells when it is idle.
type holder struct {
	conn net.Conn
	// peer is set when it is known who it is.
	peer atomic.Pointer[wire.Peer]
	// killed says that it was counted among those that had to be.
	killed atomic.Bool
}

func (h *holder) CloseIdle() {}
func (h *holder) Kill()      { h.conn.Close() }

// Peers calls f for every connection of the chain that is served, with what closes
// it at once.
func (c *Chain) Peers(f func(peer *wire.Peer, kill func())) {
	c.drain.Each(func(d wire.Drainable) {
		if h, ok := d.(*holder); ok {
			if peer := h.peer.Load(); peer != nil {
				f(peer, h.Kill)
			}
		}
	})
}

// handshake returns nil if there is no secure connection to be had.
func (l *listener) handshake(conn net.Conn, config *tls.Config, peer *wire.Peer) net.Conn {
	if !l.places.enter(&l.shaking) {
		l.overflow.Add(1)
		return nil
	}
	defer l.places.leave(&l.shaking)
	secured := tls.Server(bulk.Under(conn, l.buffers), config)
	ctx, cancel := context.WithTimeout(context.Background(), l.config.HandshakeTimeout)
	defer cancel()
	if err := secured.HandshakeContext(ctx); err != nil {
		if !silent(secured, err) {
			l.badHandshakes.Add(1)
			l.secured.Failed(err)
			l.log.Debug("tls handshake", "listener", l.spec.Load().Name, "peer", conn.RemoteAddr().String(), "err", err)
		}
		return nil
	}
	state := secured.ConnectionState()
	l.secured.Succeeded(&state)
	peer.TLS, peer.ServerName = true, strings.ToLower(state.ServerName)
	peer.Version, peer.Cipher, peer.Ours = state.Version, state.CipherSuite, mtls.Shown(config, state.ServerName)
	if len(state.PeerCertificates) > 0 {
		peer.Certificate, peer.Chain = state.PeerCertificates[0], state.PeerCertificates
		if id, err := spiffe.FromCertificate(peer.Certificate); err == nil {
			peer.ID = id
		}
	}
	return secured
}

// silent tells whether a handshake failed because the peer left without a word:
// a bare TCP check connects and leaves, which is no error. The connection itself
// cannot be asked, since whoever serves it wants it plain below TLS.
func silent(conn *tls.Conn, err error) bool {
	left := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
	return left && conn.ConnectionState().Version == 0
}

func addrPort(addr net.Addr) netip.AddrPort {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		ap := tcp.AddrPort()
		return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
	}
	return netip.AddrPort{}
}
