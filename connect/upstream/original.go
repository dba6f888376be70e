package upstream

import (
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxOriginals bounds the hosts of one cluster of original destinations.
	maxOriginals = 16384
	// forgetAfter is how long one is kept that nobody goes to (xDS: cleanup_interval).
	forgetAfter = 5 * time.Second
)

// originals are the hosts of a cluster of original destinations (xDS: ORIGINAL_DST):
// each peer has its own, which is the address that it went to before its connection
// was redirected to us. They come with the first connection and go when none is left.
type originals struct {
	overflow atomic.Int64

	mu sync.Mutex // guards:
	// hosts is nil before the first.
	hosts map[netip.AddrPort]*original
}

type original struct {
	host *Host
	used time.Time
}

// pick returns the host of peer; nil if c is no such cluster, or if it is not known
// where the peer wanted to go.
func (o *originals) pick(c *Cluster, peer *wire.Peer, now time.Time, passed []*Host) *Host {
	if c.config.Load().Kind != mesh.ClusterOriginalDst || peer == nil || !peer.Restored || !reachable(peer.Local) {
		return nil
	}
	address := netip.AddrPortFrom(peer.Local.Addr().Unmap(), peer.Local.Port())
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.hosts[address]
	if at == nil {
		if len(o.hosts) >= maxOriginals {
			o.overflow.Add(1)
			return nil
		}
		at = &original{host: newOriginal(c, address)}
		if o.hosts == nil {
			o.hosts = map[netip.AddrPort]*original{}
		}
		o.hosts[address] = at
	}
	at.used = now
	if slices.Contains(passed, at.host) {
		return nil // there is no other
	}
	return at.host
}

// reachable tells whether there can be somebody at an address.
func reachable(address netip.AddrPort) bool {
	ip := address.Addr()
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && address.Port() != 0
}

func newOriginal(c *Cluster, address netip.AddrPort) *Host {
	endpoint := &mesh.Endpoint{Address: mesh.Address{AddrPort: address}, Weight: 1}
	h := &Host{cluster: c, address: endpoint.Address, text: endpoint.Address.String()}
	h.endpoint.Store(endpoint)
	return h
}

// sweep closes connections that are idle since limit, or older than oldest, and
// forgets hosts that nobody goes to. It returns how many connections were idle.
func (o *originals) sweep(limit, oldest, now time.Time) (idle int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for address, at := range o.hosts {
		h := at.host
		idle += int64(h.pool.sweep(limit, oldest) + h.shared.sweep(limit, oldest))
		if h.allConns() == 0 && h.active.Load() == 0 && now.Sub(at.used) > forgetAfter {
			delete(o.hosts, address)
			h.close()
		}
	}
	return idle
}

// close forgets all hosts; what is under way ends by itself.
func (o *originals) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, at := range o.hosts {
		at.host.close()
	}
	clear(o.hosts)
}

func (o *originals) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.hosts)
}
