package upstream

import (
	"container/list"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// maxNames bounds the names for which a cluster has connections of their own, on all of
// its hosts.
const maxNames = 1024

// named keeps the connections of a cluster where they are made for the names that
// requests ask for (xDS: auto_sni, auto_san_validation): each name has, for each host
// that it is asked of, one of its own of which that is the root. What is beyond the bound
// takes the place of the one that was not asked for the longest, if nobody uses it.
type named struct {
	// counts is held while connections of a name are counted, for the host and for the
	// cluster at one time. Nothing is waited for under it.
	counts sync.Mutex

	mu sync.Mutex // guards:
	// order has a byName for each, the one used last in front; so have names of hosts.
	order list.List
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

// forName is who keeps the connections to h for a name; nil if there is no room for it.
// The caller counts as one that asks for it until he takes himself from asked.
func (h *Host) forName(name string, now time.Time) *Host {
	n := &h.cluster.named
	at, evicted := n.at(h, name, now)
	if evicted != nil {
		evicted.close()
	}
	return at
}

func (n *named) at(h *Host, name string, now time.Time) (found, evicted *Host) {
	n.mu.Lock()
	defer n.mu.Unlock()
	e := h.names[name]
	if e == nil {
		if n.order.Len() >= maxNames {
			if evicted = n.evict(); evicted == nil {
				return nil, nil
			}
		}
		e = n.add(h, strings.Clone(name)) // it is a view of the request
	}
	n.order.MoveToFront(e)
	at, _ := e.Value.(*byName)
	at.used = now
	at.host.asked.Add(1)
	at.host.endpoint.Store(h.endpoint.Load())
	if h.gone.Load() { // it went between the pick and now
		at.host.close()
	}
	return at.host, evicted
}

// add makes one. Callers hold the lock.
func (n *named) add(h *Host, name string) *list.Element {
	if h.names == nil {
		h.names = map[string]*list.Element{}
	}
	e := n.order.PushFront(&byName{host: &Host{cluster: h.cluster, text: h.text, parent: h, name: name}})
	h.names[name] = e
	return e
}

// evict forgets the one that was not asked for the longest, which is to be closed; nil if
// there is none that nobody uses. As with originals, a few looks are enough. Callers hold
// the lock.
func (n *named) evict() *Host {
	for range maxBusy {
		e := n.order.Back()
		if at, ok := e.Value.(*byName); ok && !at.busy() {
			n.forget(e, at)
			return at.host
		}
		n.order.MoveToFront(e)
	}
	return nil
}

// busy tells whether there is an exchange with it, or one about to begin.
func (at *byName) busy() bool { return at.host.asked.Load() > 0 || at.host.active.Load() > 0 }

// forget drops one. Callers hold the lock.
func (n *named) forget(e *list.Element, at *byName) {
	n.order.Remove(e)
	delete(at.host.parent.names, at.host.name)
}

// sweep closes connections that are idle since limit, or older than oldest, and forgets
// names that have none. It returns how many were idle.
func (n *named) sweep(limit, oldest, now time.Time) (idle int64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	var before *list.Element
	for e := n.order.Back(); e != nil; e = before {
		before = e.Prev()
		at, ok := e.Value.(*byName)
		if !ok {
			continue
		}
		idle += int64(at.host.pool.sweep(limit, oldest) + at.host.shared.sweep(limit, oldest))
		if at.host.allConns() == 0 && !at.busy() && now.Sub(at.used) > forgetAfter {
			n.forget(e, at)
			at.host.close()
		}
	}
	return idle
}

// makeRoom closes an idle connection of the name that was not asked for the longest and has
// one, so that another may have it.
func (n *named) makeRoom() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for e := n.order.Back(); e != nil; e = e.Prev() {
		if at, ok := e.Value.(*byName); ok && (at.host.pool.makeRoom() || at.host.shared.makeRoom()) {
			return
		}
	}
}

// close closes what of h is idle, and the rest when it becomes so.
func (n *named) close(h *Host) {
	if h.parent != nil {
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, e := range h.names {
		if at, ok := e.Value.(*byName); ok {
			at.host.close()
		}
	}
}
