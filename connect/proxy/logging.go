package proxy

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// observing is what sees connections of a chain, which may be nil, with the access
// logs that xDS asks for.
func (c *chain) observing(see stack.Observe) stack.Observe {
	return func(x *wire.Exchange) (in, out *atomic.Int64) {
		for _, logs := range []*accesslog.Place{c.listenerLogs.Load(), c.logs.Load()} {
			logs.On(x)
		}
		if see == nil {
			return &atomic.Int64{}, &atomic.Int64{}
		}
		return see(x)
	}
}

// tell writes of a connection of the chain that lives.
func (c *chain) tell(x *wire.Exchange, kind string) { c.logs.Load().Tell(x, kind, nil) }

// logging writes of each connection of an HTTP chain, if the listener asks for it.
type logging struct {
	next  listen.Handler
	chain *chain
}

// Serve implements [listen.Handler].
func (l logging) Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain) {
	logs := l.chain.listenerLogs.Load()
	if logs == nil {
		l.next.Serve(conn, peer, drain)
		return
	}
	x := &wire.Exchange{}
	x.Reset(nil, peer, time.Now())
	logs.On(x)
	l.next.Serve(conn, peer, drain)
	x.Done(time.Now())
}

// unmatched writes of a connection that no chain is for.
func unmatched(logs *accesslog.Place, peer *wire.Peer) {
	now := time.Now()
	x := &wire.Exchange{}
	x.Reset(nil, peer, now)
	x.Flag, x.Details = wire.FlagNoRoute, "filter_chain_not_found"
	logs.On(x)
	x.Done(now)
}
