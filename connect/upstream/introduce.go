package upstream

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/proxyproto"
)

// peerKey is the key of the downstream peer in the context of a dial.
type peerKey struct{}

// For tells who is served by what is dialled with ctx: clusters with the PROXY
// protocol pass the addresses on, and without it speak for themselves; clusters of
// original destinations connect to where the peer wanted to go, and without it
// nowhere.
func For(ctx context.Context, peer *wire.Peer) context.Context {
	return context.WithValue(ctx, peerKey{}, peer)
}

// peerOf is the peer of [For], nil if there is none.
func peerOf(ctx context.Context) *wire.Peer {
	peer, _ := ctx.Value(peerKey{}).(*wire.Peer)
	return peer
}

// introduce sends the header of the PROXY protocol, before anything else.
func introduce(ctx context.Context, conn net.Conn, version int) error {
	var h proxyproto.Header
	if peer := peerOf(ctx); peer != nil {
		h.Source, h.Destination = peer.Addr, peer.Local
	}
	if until, ok := ctx.Deadline(); ok {
		if err := conn.SetWriteDeadline(until); err != nil {
			return fmt.Errorf("proxy protocol: %w", err)
		}
	}
	if _, err := conn.Write(h.Append(make([]byte, 0, 128), version)); err != nil {
		return fmt.Errorf("proxy protocol: %w", err)
	}
	return conn.SetWriteDeadline(time.Time{})
}
