package proxy

import (
	"time"

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
