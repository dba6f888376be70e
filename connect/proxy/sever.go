package proxy

import (
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/wire"
)

// grace is how long requests of a peer may go on whom new intentions do not
// allow anything any more. With what Consul takes it must stay under 2 s.
const grace = 750 * time.Millisecond

// sever ends the connections of peers to whom new intentions allow nothing any more,
// with whatever streams they have, after a while in which short requests may end.
func (c *chain) sever() {
	hopeless := func(peer *wire.Peer) bool { return c.policy.Load().Hopeless(rbac.Input{Peer: peer}) }
	found := false
	c.listen.Peers(func(peer *wire.Peer, _ func()) { found = found || hopeless(peer) })
	if !found {
		return
	}
	time.AfterFunc(grace, func() {
		c.listen.Peers(func(peer *wire.Peer, kill func()) {
			if hopeless(peer) {
				kill()
			}
		})
	})
}

// doubt ends the connections of peers whom c would not believe any more, since it goes
// by other roots than when they came, say. They are asked to leave at once, and closed
// after a while, unless they are believed again: an identity that nobody vouches for is
// none.
func (cs *chains) doubt(c *chain) {
	clients := c.clients.Load()
	go func() {
		doubtful := distrusted(clients)
		c.listen.Drain().Each(func(d wire.Drainable) {
			if k, ok := d.(wire.Known); ok && doubtful(k.Peer()) {
				d.CloseIdle()
			}
		})
	}()
	time.AfterFunc(cs.listeners.ChainDrain(), func() {
		// Who is doubtful only since a later change has as long from then on.
		closed, before, now := 0, distrusted(clients), distrusted(c.clients.Load())
		c.listen.Peers(func(peer *wire.Peer, kill func()) {
			if before(peer) && now(peer) {
				closed++
				kill()
			}
		})
		if closed > 0 {
			cs.log.Warn("connections closed of peers who are not believed any more", "chain", c.listen.Name, "connections", closed)
		}
	})
}

// distrusted tells whether a peer would not be believed by clients. It looks once at what
// many connections of one peer have shown.
func distrusted(clients *mtls.Clients) func(peer *wire.Peer) bool {
	known := map[string]bool{}
	return func(peer *wire.Peer) bool {
		var shown strings.Builder
		for _, certificate := range peer.Chain {
			shown.Write(certificate.Raw)
		}
		is, ok := known[shown.String()]
		if !ok {
			is = clients.Distrust(peer.Chain) != nil
			known[shown.String()] = is
		}
		return is
	}
}
