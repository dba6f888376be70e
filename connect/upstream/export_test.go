package upstream

import (
	"context"
	"net/netip"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Pick is what Serve and Dial pick at now.
func (c *Cluster) Pick(now time.Time, tried ...*Host) *Host { return c.pick(now, preference{}, tried) }

// PickAs is what an exchange picks at now.
func (c *Cluster) PickAs(now time.Time, choice wire.Choice, tries ...wire.Attempt) *Host {
	return c.pick(now, preference{Choice: choice, tried: tries}, nil)
}

// Hosts are all hosts in the order of their endpoints.
func (c *Cluster) Hosts() []*Host { return c.hosts.Load().all }

// Resolve makes f answer in place of DNS.
func (s *Set) Resolve(f func(ctx context.Context, network, host string) ([]netip.Addr, error)) {
	s.lookup = f
}

// Schedule is one round of picks on the level that has the most.
func (c *Cluster) Schedule() []string {
	var all []string
	var best level
	for _, l := range c.hosts.Load().levels {
		if l.load > best.load {
			best = l
		}
	}
	switch p := best.picker.(type) {
	case rotation:
		for _, h := range p.schedule {
			all = append(all, h.text)
		}
	case single:
		all = append(all, p.host.text)
	}
	return all
}

// Busy makes n exchanges under way of the host.
func (h *Host) Busy(n int) { h.active.Store(int32(n)) }

// CameAt says when the host came.
func (h *Host) CameAt(t time.Time) {
	h.cluster.set.mu.Lock()
	defer h.cluster.set.mu.Unlock()
	h.since = t
}

// SlowShare is the share of its weight that a host of that age has.
func SlowShare(s mesh.SlowStart, age time.Duration) float64 { return share(&s, age) }

// SpellOver tells whether an ejection of so many times is over at now.
func SpellOver(o *mesh.Outlier, times int, jitter time.Duration, since, now time.Time) bool {
	s := spell{since: since, jitter: jitter, times: times}
	return s.over(o, now)
}

// Answered notes an answer of h.
func (c *Cluster) Answered(h *Host, grpc bool, resp *wire.Response) { c.answered(h, grpc, resp) }

// Ejected tells whether the host is.
func (h *Host) Ejected() bool {
	o := h.outlier.Load()
	return o != nil && o.ejected.Load()
}

// Queued is how many exchanges wait for a connection.
func (c *Cluster) Queued() int { return int(c.queue.waiting.Load()) }

// SetActive makes n exchanges under way, pending of them without a connection.
func (c *Cluster) SetActive(n, pending int64) {
	c.active.Store(n)
	c.pending.Store(pending)
}

// DialLate dials for an exchange that has waited in the queue until ctx was over.
func (c *Cluster) DialLate(ctx context.Context, h *Host) error {
	_, _, err := c.dial(late(ctx), c.config.Load(), h, c.config.Load().secure.by(http1TLS))
	return err
}

// PrepareFor makes connections to the host until there are as many as there should be.
func (h *Host) PrepareFor(ctx context.Context, should int) { h.prepare(ctx, should) }

// Refresh looks the names of a cluster up, be it still of s or not.
func (s *Set) Refresh(ctx context.Context, c *Cluster, now time.Time) {
	lookups := newResolver(s)
	lookups.refresh(ctx, c, now)
	lookups.wait()
}

// Active is how many exchanges are under way with the host.
func (h *Host) Active() int32 { return h.active.Load() }

// Idle is how many connections wait for an exchange, or are shared by them.
func (h *Host) Idle() int {
	h.pool.mu.Lock()
	defer h.pool.mu.Unlock()
	h.shared.mu.Lock()
	defer h.shared.mu.Unlock()
	return len(h.pool.idle) + len(h.shared.conns)
}

// Failed and Succeeded note the outcome of a dial.
func (h *Host) Failed(now time.Time) { h.failed(now) }

// Paused tells whether the host is passed over.
func (h *Host) Paused(now time.Time) bool { return h.paused(now) }

// Succeeded is the other outcome.
func (h *Host) Succeeded() { h.succeeded() }

// Sweep does what Run does at each tick.
func (s *Set) Sweep(ctx context.Context, now time.Time) {
	lookups := newResolver(s)
	s.sweep(ctx, lookups, now)
	lookups.wait()
}

// SweepOriginals forgets hosts of original destinations that nobody goes to at now.
func (c *Cluster) SweepOriginals(now time.Time) { c.originals.sweep(time.Time{}, time.Time{}, now) }

// MaxOriginals bounds the hosts of a cluster of original destinations.
const MaxOriginals = maxOriginals

// PickFor is what is picked for who wanted to go somewhere.
func (c *Cluster) PickFor(peer *wire.Peer) *Host {
	return c.pick(time.Now(), preference{peer: peer}, nil)
}

// InTurn is the order in which addresses are tried.
func InTurn(all []netip.AddrPort, order mesh.Race) []netip.AddrPort { return inTurn(all, order) }

// Names is for how many names the host keeps connections.
func (h *Host) Names() int {
	n := &h.cluster.named
	n.mu.Lock()
	defer n.mu.Unlock()
	return len(h.names)
}

// MaxNames bounds the names for which a cluster has connections of their own.
const MaxNames = maxNames

// ForName is who keeps the connections for a name, of whom somebody asks for it until
// Left is called.
func (h *Host) ForName(name string) *Host { return h.forName(name, time.Now()) }

// Left says that an exchange with one of ForName has come to its end.
func (h *Host) Left() { h.asked.Add(-1) }

// Conns counts connections.
func (c *Cluster) Conns() int64 { return c.conns.Load() }

// Reserve counts a connection of the host, if there may be one, until Freed.
func (h *Host) Reserve() bool { return h.cluster.reserve(h, false) }

// Freed is the end of one of Reserve.
func (h *Host) Freed() { h.cluster.freed(h, false) }

// Close lets all connections of the host end.
func (h *Host) Close() { h.close() }

// Closed tells whether connections that come back are closed.
func (h *Host) Closed() bool { return h.gone.Load() }

// Ask begins a check of the host that only tells what comes of it.
func (h *Host) Ask() (tell func(well bool)) {
	k := &check{cluster: h.cluster, host: h, config: h.cluster.config.Load().asks, stop: func() {}}
	h.check.Store(k)
	return func(well bool) {
		if well {
			k.note(wentWell)
		} else {
			k.note(noAnswer)
		}
	}
}

// Plan is the plan in force, to be compared.
func (c *Cluster) Plan() any { return c.hosts.Load() }

// Waits tells whether there are requests to wait for the first checks.
func (c *Cluster) Waits() bool { return c.unknown() != nil }

// Asks is by what hosts are asked, to be compared.
func (c *Cluster) Asks() *mesh.ActiveCheck { return c.config.Load().asks }

// Metadata is that of the host, to be compared.
func (h *Host) Metadata() *wire.Metadata { return h.metadata.Load() }

// Places are those for checks, of which there are so many.
type Places struct{ places }

// NewPlaces returns so many.
func NewPlaces(most int) *Places { return &Places{places{most: most}} }

// Turns are those of one cluster.
type Turns = turns

// Enter waits for a place.
func (p *Places) Enter(ctx context.Context, t *Turns) bool { return p.enter(ctx, t) }

// Leave gives one back.
func (p *Places) Leave(t *Turns) { p.leave(t) }

// Waiting is how many wait.
func (p *Places) Waiting(t *Turns) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return t.wait.Len()
}
