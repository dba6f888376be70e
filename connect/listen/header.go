package listen

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/proxyproto"
)

// errUntrusted is why a header is not believed.
var errUntrusted = errors.New("the peer may not send a PROXY protocol header")

// header returns the connection behind the header, or nil and where that is
// counted.
func (l *listener) header(conn net.Conn, peer *wire.Peer, header *ProxyHeader) (net.Conn, *atomic.Int64) {
	same, err := l.readHeader(conn, peer, header)
	switch {
	case err == nil:
		return same, nil
	case errors.Is(err, io.EOF): // came and left, as a bare TCP check does
		return nil, &l.left
	}
	l.log.Debug("proxy protocol", "listener", l.spec.Load().Name, "peer", conn.RemoteAddr().String(), "err", err)
	return nil, &l.badHeaders
}

func (l *listener) readHeader(conn net.Conn, peer *wire.Peer, header *ProxyHeader) (net.Conn, error) {
	trusted := header.trusts(peer.Addr.Addr())
	if !trusted && !header.Optional {
		return nil, errUntrusted
	}
	if err := conn.SetReadDeadline(time.Now().Add(l.config.HandshakeTimeout)); err != nil {
		return nil, err
	}
	same, present := conn, true
	var h proxyproto.Header
	var err error
	if header.Optional {
		h, present, same, err = proxyproto.ReadOptional(conn)
	} else {
		h, err = proxyproto.Read(conn)
	}
	if err != nil {
		return nil, err
	}
	if present && !trusted {
		return nil, errUntrusted
	}
	if h.Source.IsValid() {
		peer.Direct, peer.Addr, peer.Local, peer.Restored = peer.Addr, h.Source, h.Destination, true
	}
	return same, conn.SetReadDeadline(time.Time{})
}
