package upstream

import (
	"context"
	"math"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	// maxWanted bounds the hosts that wait for connections to be made beforehand.
	maxWanted = 1024
	// maxPreconnect is Envoy's bound of per_upstream_preconnect_ratio.
	maxPreconnect = 3
)

// want asks for so many connections to a host as there should be. How many are
// missing is seen when they are made: others may have asked for the same.
type want struct {
	host   *Host
	should int
}

// ready makes a connection to each of hosts that have come, if it is configured
// that connections are made beforehand.
func (c *Cluster) ready(hosts []*Host) {
	if cfg := c.config.Load(); cfg.Pool.Preconnect <= 1 || !cfg.ahead() {
		return
	}
	for _, h := range hosts {
		if h.healthy() {
			c.set.want(want{h, 1})
		}
	}
}

// preconnect asks for as many connections as there should be for those exchanges
// of h that there are. It is called for each, when it has its own.
func (c *Cluster) preconnect(cfg *config, h *Host) {
	ratio := min(cfg.Pool.Preconnect, maxPreconnect)
	if ratio <= 1 || !cfg.ahead() {
		return
	}
	should := int(math.Ceil(ratio * float64(h.active.Load())))
	if h.allConns() < should {
		c.set.want(want{h, should})
	}
}

// ahead tells whether connections can be made before it is known for whom: the PROXY
// protocol tells of one client, a name is that of a request, and what is negotiated is
// found out by the first.
func (c *config) ahead() bool {
	return c.ProxyProtocol == 0 && !c.perName() && !c.negotiates()
}

func (s *Set) want(w want) {
	select {
	case s.wanted <- w:
	default: // there is more to do already
	}
}

// prepare makes connections beforehand until there are as many as there should be,
// as far as the limits allow.
func (h *Host) prepare(ctx context.Context, should int) {
	c := h.cluster
	for range min(should, maxIdle) {
		cfg := c.config.Load()
		if h.allConns() >= should || cfg.check() != nil || !cfg.ahead() {
			return
		}
		if !c.spare(cfg) || !c.reserve(h, cfg.Protocol == mesh.HTTP2) {
			return
		}
		if cfg.Protocol == mesh.HTTP2 {
			h.share(ctx)
			return // one serves many
		}
		c.answers.http1.Add(1)
		made, peer, err := c.dial(ctx, cfg, h, cfg.forHTTP1())
		if err != nil {
			c.freed(h, false)
			return
		}
		h.give(c.lease(cfg, h, made, peer))
	}
}

// spare tells whether there may be one more connection that nobody needs yet.
func (c *Cluster) spare(cfg *config) bool {
	return c.conns.Load() < limit(cfg.Limits.MaxConnections, cfg.Limits.HasConnections)
}

// share makes the first shared connection. It was reserved.
func (h *Host) share(ctx context.Context) {
	s := &h.shared
	s.mu.Lock()
	if len(s.conns) > 0 || s.dial != nil {
		s.mu.Unlock()
		h.cluster.freed(h, true)
		return
	}
	d := &dialing{done: make(chan struct{})}
	s.dial = d
	s.mu.Unlock()
	h.cluster.makeFor(ctx, h, d, false) //nolint:errcheck // whoever needs one finds out
}
