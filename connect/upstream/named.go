package upstream

import (
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// maxNames bounds the names for which a host has connections of their own. What is
// beyond takes the place of the name that was not asked for the longest.
const maxNames = 1024

// named keeps the connections to one host where they are made for the names that
// requests ask for (xDS: auto_sni, auto_san_validation): each name has a host of its own,
// of which that one is the root. It is nil elsewhere.
type named struct {
	conns atomic.Int32 // of all of them

	mu  sync.Mutex // guards:
	all map[string]*byName
}

type byName struct {
	host *Host
	used time.Time
}

// perName tells whether connections serve requests of one name only.
func (c *config) perName() bool { return c.TLS != nil && (c.TLS.AutoSNI || c.TLS.AutoSAN) }

// nameOf is the name that a request asks for.
func (c *config) nameOf(req *wire.Request) string {
	name := req.Authority
	if c.TLS.NameHeader != "" {
		if value := req.Header.Get(c.TLS.NameHeader); value != "" {
			name = value
		}
	}
	if host, _, err := net.SplitHostPort(name); err == nil {
		name = host
	}
	return strings.ToLower(strings.Trim(name, "[]"))
}

// root is the host itself, of which h keeps the connections for one name.
func (h *Host) root() *Host {
	if h.parent != nil {
		return h.parent
	}
	return h
}

// busy counts exchanges under way.
func (h *Host) busy(n int32) {
	h.active.Add(n)
	if h.parent != nil {
		h.parent.active.Add(n)
	}
}

// forName is who keeps the connections to h for a name.
func (h *Host) forName(name string, now time.Time) *Host {
	n := h.names.Load()
	if n == nil {
		h.names.CompareAndSwap(nil, &named{all: map[string]*byName{}})
		n = h.names.Load()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	at := n.all[name]
	if at == nil {
		if len(n.all) >= maxNames {
			n.makeRoom()
		}
		name = strings.Clone(name) // it is a view of the request
		at = &byName{host: &Host{cluster: h.cluster, address: h.address, text: h.text, parent: h, name: name}}
		n.all[name] = at
	}
	at.used = now
	at.host.endpoint.Store(h.endpoint.Load())
	return at.host
}

// makeRoom forgets the name that was not asked for the longest. The lock is held.
func (n *named) makeRoom() {
	oldest := ""
	for name, at := range n.all {
		if oldest == "" || at.used.Before(n.all[oldest].used) {
			oldest = name
		}
	}
	n.all[oldest].host.close()
	delete(n.all, oldest)
}

// sweep closes connections that are idle since limit, or older than oldest, and forgets
// names that have none. It returns how many were idle.
func (n *named) sweep(limit, oldest, now time.Time) (idle int) {
	if n == nil {
		return 0
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for name, at := range n.all {
		h := at.host
		idle += h.pool.sweep(limit, oldest) + h.shared.sweep(limit, oldest)
		if h.allConns() == 0 && h.active.Load() == 0 && now.Sub(at.used) > forgetAfter {
			delete(n.all, name)
			h.close()
		}
	}
	return idle
}

// close closes what is idle, and the rest when it becomes so.
func (n *named) close() {
	if n == nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, at := range n.all {
		at.host.close()
	}
}
