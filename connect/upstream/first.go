package upstream

import (
	"context"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// firstWait is how long an exchange waits at most for the first hosts of a cluster,
// unless a connection may take longer: for a lookup, or for checks. Others hold traffic
// back until then, however long it takes (Envoy's warming).
const firstWait = 5 * time.Second

// unknown is closed when it is known what hosts there are and how they are, or that one
// may be used; nil if it is, or if nobody is to wait for it.
func (c *Cluster) unknown() <-chan struct{} {
	cfg := c.config.Load()
	if cfg.Check == nil && (!cfg.named() || cfg.DNS.NoWait) {
		return nil
	}
	if cfg.named() && !cfg.DNS.NoWait {
		if first := c.names.unknown(); first != nil {
			return first
		}
	}
	return c.checks.unknown()
}

// pickFirst picks for an exchange that has found no host: it waits for names that were
// never looked up, and hosts that were never asked for their health. among are those that
// it has looked at. It is nil if there is none all the same; the error is that of the
// client, or of the time that it has.
func (c *Cluster) pickFirst(x *wire.Exchange, p preference, among *hosts) (*Host, error) {
	if c.unknown() != nil {
		if err := c.patiently(x, c.awaitHosts); err != nil {
			return nil, err
		}
	}
	return c.pickSince(p, among), nil
}

// pickSince picks if there are others than among by now: to look at the same ones again
// would only count twice.
func (c *Cluster) pickSince(p preference, among *hosts) *Host {
	if c.hosts.Load() == among {
		return nil
	}
	return c.pick(time.Now(), p, nil)
}

// awaitHosts waits until the hosts are known, or for long enough. It fails only when ctx
// ends.
func (c *Cluster) awaitHosts(ctx context.Context) error {
	patience := time.NewTimer(max(c.config.Load().connectTimeout(), firstWait))
	defer patience.Stop()
	for {
		first := c.unknown()
		if first == nil {
			return nil
		}
		select {
		case <-first:
		case <-patience.C:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
