package upstream

import "sync"

// living are the raw connections of a host where they are to end with its health
// (xDS: close_connections_on_host_health_failure). Elsewhere it stays empty.
type living struct {
	mu  sync.Mutex // guards:
	all map[*countedConn]struct{}
}

func (l *living) add(c *countedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.all == nil {
		l.all = map[*countedConn]struct{}{}
	}
	l.all[c] = struct{}{}
}

func (l *living) remove(c *countedConn) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.all, c)
}

// end closes all. Closing TLS might wait for a host that does not read any more, which
// is why nobody waits for it.
func (l *living) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for c := range l.all {
		go c.Close()
	}
}

// unhealthy is told when a host turns out to be so, after it was found healthy.
func (c *Cluster) unhealthy(h *Host) {
	if c.config.Load().Pool.CloseUnhealthy {
		h.raw.end()
	}
}
