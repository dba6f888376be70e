package upstream

import (
	"container/list"
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
	// maxBusy is how many hosts are looked at to find one that may make room for another.
	maxBusy = 16
)

// originals are the hosts of a cluster of original destinations (xDS: ORIGINAL_DST):
// each peer has its own, which is the address that it went to before its connection
// was redirected to us. They come with the first connection and go when none is left,
// or when another needs the room: then it is the one that nobody has gone to for longest.
type originals struct {
	// evicted counts those that made room, overflow those for which there was none.
	evicted, overflow atomic.Int64

	mu sync.Mutex // guards:
	// hosts is nil before the first.
	hosts map[netip.AddrPort]*list.Element
	// order has an original for each, the one used last in front.
	order list.List
}

type original struct {
	address netip.AddrPort
	host    *Host
	used    time.Time
}

// busy tells whether somebody has a connection with the host, or waits for one.
func (o *original) busy() bool { return o.host.allConns() > 0 || o.host.active.Load() > 0 }

// pick returns the host of peer; nil if c is no such cluster, or if it is not known
// where the peer wanted to go.
func (o *originals) pick(c *Cluster, peer *wire.Peer, now time.Time, passed []*Host) *Host {
	if c.config.Load().Kind != mesh.ClusterOriginalDst || peer == nil || !peer.Restored || !reachable(peer.Local) {
		return nil
	}
	address := netip.AddrPortFrom(peer.Local.Addr().Unmap(), peer.Local.Port())
	o.mu.Lock()
	defer o.mu.Unlock()
	at := o.at(c, address)
	if at == nil {
		o.overflow.Add(1)
		return nil
	}
	at.used = now
	if slices.Contains(passed, at.host) {
		return nil // there is no other
	}
	return at.host
}

// at returns the one of an address, a new one if there is none; nil if there is no room
// for it. Callers hold the lock.
func (o *originals) at(c *Cluster, address netip.AddrPort) *original {
	if e := o.hosts[address]; e != nil {
		o.order.MoveToFront(e)
		at, _ := e.Value.(*original)
		return at
	}
	if len(o.hosts) >= maxOriginals && !o.evict() {
		return nil
	}
	if o.hosts == nil {
		o.hosts = map[netip.AddrPort]*list.Element{}
	}
	at := &original{address: address, host: newOriginal(c, address)}
	o.hosts[address] = o.order.PushFront(at)
	return at
}

// evict forgets the host that nobody has gone to for longest, and tells whether there
// was one. Whoever is busy will have been used no earlier than now: it goes to the front,
// so that a few looks are enough however many are. Callers hold the lock.
func (o *originals) evict() bool {
	for range maxBusy {
		e := o.order.Back()
		at, ok := e.Value.(*original)
		if ok && !at.busy() {
			o.forget(e, at)
			o.evicted.Add(1)
			return true
		}
		o.order.MoveToFront(e)
	}
	return false
}

// forget drops a host; what is under way ends by itself. Callers hold the lock.
func (o *originals) forget(e *list.Element, at *original) {
	o.order.Remove(e)
	delete(o.hosts, at.address)
	at.host.close()
}

// reachable tells whether there can be somebody at an address.
func reachable(address netip.AddrPort) bool {
	ip := address.Addr()
	return ip.IsValid() && !ip.IsUnspecified() && !ip.IsMulticast() && address.Port() != 0
}

func newOriginal(c *Cluster, address netip.AddrPort) *Host {
	endpoint := &mesh.Endpoint{Address: mesh.Address{AddrPort: address}, Weight: 1}
	h := &Host{cluster: c, text: endpoint.Address.String()}
	h.become(endpoint)
	return h
}

// sweep closes connections that are idle since limit, or older than oldest, and
// forgets hosts that nobody goes to. It returns how many connections were idle.
func (o *originals) sweep(limit, oldest, now time.Time) (idle int64) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.hosts {
		at, ok := e.Value.(*original)
		if !ok {
			continue
		}
		idle += int64(at.host.pool.sweep(limit, oldest) + at.host.shared.sweep(limit, oldest))
		if !at.busy() && now.Sub(at.used) > forgetAfter {
			o.forget(e, at)
		}
	}
	return idle
}

// close forgets all hosts; what is under way ends by itself.
func (o *originals) close() {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, e := range o.hosts {
		if at, ok := e.Value.(*original); ok {
			o.forget(e, at)
		}
	}
}

func (o *originals) len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.hosts)
}
