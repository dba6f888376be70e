package upstream

import (
	"slices"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

const (
	// idleTimeout closes pooled connections. It is under the minute after which
	// many a server does.
	idleTimeout = 55 * time.Second
	// maxIdle bounds the pooled connections of one host.
	maxIdle = 1024
)

// lease is one HTTP/1 connection with what its host knows of it. It belongs to
// the exchange that it serves, or to the pool.
type lease struct {
	conn   *http1.ClientConn
	host   *Host
	born   time.Time
	served uint32
	single bool // it serves one exchange
	peer   *wire.Peer
}

// release takes the connection back after an exchange.
func (l *lease) release(_ *http1.ClientConn, reusable bool) {
	h := l.host
	h.busy(-1)
	l.served++
	switch {
	case !reusable:
		how, announced := l.conn.Ending()
		if announced {
			h.cluster.answers.announced.Add(1)
		}
		h.cluster.answers.ended.Count(how)
		h.cluster.freed(h, false)
	case l.single:
		l.close(true)
	case l.worn(&h.cluster.config.Load().Pool):
		h.cluster.cxMaxRequests.Add(1)
		l.close(true)
	case l.old(&h.cluster.config.Load().Pool):
		h.cluster.answers.aged.Add(1)
		l.close(true)
	default:
		h.give(l)
	}
}

// since is when the connection was last of use.
func (l *lease) since() time.Time {
	if used := l.conn.Used(); !used.IsZero() {
		return used
	}
	return l.born
}

// close closes an idle connection; ours says that the other side has not closed it.
func (l *lease) close(ours bool) {
	l.conn.Close()
	l.host.cluster.answers.ended.Count(wire.Ending{Ours: ours})
	l.host.cluster.freed(l.host, false)
}

// give puts an idle connection to use: for an exchange that waits, or for one to come.
func (h *Host) give(l *lease) {
	c := h.cluster
	if c.queue.waiting.Load() > 0 && h.offer(l) {
		return
	}
	h.pool.put(l)
	// One that began to wait meanwhile may not have seen it.
	if c.queue.waiting.Load() > 0 {
		if l = h.pool.get(time.Time{}, false); l != nil && !h.offer(l) {
			h.pool.put(l)
		}
	}
}

// offer gives an idle connection to who waits, if it is of use to him: if not by itself,
// then by its end where it serves one name and there may be one for another instead.
func (h *Host) offer(l *lease) bool {
	if h.cluster.queue.hand(h, l) {
		return true
	}
	if h.parent == nil {
		return false
	}
	l.close(true)
	return true
}

// pool keeps idle HTTP/1 connections; the one used last is taken first, so that
// those not needed grow old and are closed.
type pool struct {
	mu     sync.Mutex // guards:
	idle   []idleConn
	closed bool
}

type idleConn struct {
	*lease
	since time.Time
}

// warm is how long a connection counts as in use after the head of a response. It is
// about what bytes take to the other side and back: what that sends or closes in this
// time is as often under way at the moment of a look, which does not see it.
const warm = 500 * time.Microsecond

// get returns a living idle connection, nil if there is none. For a request that
// may be repeated, one that is warm is taken without a look at its socket.
func (p *pool) get(now time.Time, repeatable bool) *lease {
	for {
		p.mu.Lock()
		last := len(p.idle) - 1
		if last < 0 {
			p.mu.Unlock()
			return nil
		}
		l, since := p.idle[last].lease, p.idle[last].since
		p.idle[last] = idleConn{}
		p.idle = p.idle[:last]
		p.mu.Unlock()
		if l.conn.Alive(repeatable && now.Sub(since) < warm) {
			return l
		}
		l.close(false)
	}
}

func (p *pool) put(l *lease) {
	p.mu.Lock()
	full := p.closed || len(p.idle) >= maxIdle
	if !full {
		p.idle = append(p.idle, idleConn{l, l.since()})
	}
	p.mu.Unlock()
	if full {
		l.close(true)
	}
}

// makeRoom closes the connection that was used last but the longest ago, and tells whether
// there was one.
func (p *pool) makeRoom() bool {
	p.mu.Lock()
	if len(p.idle) == 0 {
		p.mu.Unlock()
		return false
	}
	l := p.idle[0].lease
	p.idle = slices.Delete(p.idle, 0, 1)
	p.mu.Unlock()
	l.close(true)
	return true
}

// sweep closes connections that nobody has used since limit, or that were made
// before oldest, and returns how many were idle for too long.
func (p *pool) sweep(limit, oldest time.Time) (idle int) {
	p.mu.Lock()
	var gone []idleConn
	kept := p.idle[:0]
	for _, c := range p.idle {
		if c.since.Before(limit) || c.born.Before(oldest) {
			gone = append(gone, c)
		} else {
			kept = append(kept, c)
		}
	}
	clear(p.idle[len(kept):])
	p.idle = kept
	p.mu.Unlock()
	for _, c := range gone {
		if c.born.Before(oldest) {
			c.host.cluster.answers.aged.Add(1)
		} else {
			idle++
		}
		c.close(true)
	}
	return idle
}

// close closes idle connections, and those that come back.
func (p *pool) close() {
	p.mu.Lock()
	gone := p.idle
	p.idle, p.closed = nil, true
	p.mu.Unlock()
	for _, c := range gone {
		c.close(true)
	}
}

// worn tells whether a connection has served as often as it may.
func (l *lease) worn(p *mesh.Pool) bool { return p.MaxRequests > 0 && l.served >= p.MaxRequests }

// old tells whether it has lived for as long as it may.
func (l *lease) old(p *mesh.Pool) bool { return p.MaxAge > 0 && time.Since(l.born) > p.MaxAge }
