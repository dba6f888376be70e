package upstream

import (
	"context"
	"time"
)

// Pick is what Serve and Dial pick at now.
func (c *Cluster) Pick(now time.Time, tried ...*Host) *Host { return c.pick(now, tried) }

// Hosts are all hosts in the order of their endpoints.
func (c *Cluster) Hosts() []*Host { return c.hosts.Load().all }

// Schedule is one round of picks.
func (c *Cluster) Schedule() []string {
	var all []string
	for _, h := range c.hosts.Load().schedule {
		all = append(all, h.text)
	}
	return all
}

// Failed and Succeeded note the outcome of a dial.
func (h *Host) Failed(now time.Time) { h.failed(now) }

// Succeeded is the other outcome.
func (h *Host) Succeeded() { h.succeeded() }

// Sweep does what Run does at each tick.
func (s *Set) Sweep(ctx context.Context, now time.Time) {
	lookups := newResolver(s)
	s.sweep(ctx, lookups, now)
	lookups.wait()
}
