package upstream

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// checksAtOnce bounds the health checks under way in a [Set]; one cluster has half of
// them at most.
const checksAtOnce = 128

// verdict is what a health check has found of a host.
type verdict uint32

const (
	passed verdict = iota // or nobody asks
	unchecked
	failedCheck
	timedOutCheck
	degradedByCheck
)

// of is the health of a host of which the control plane says health.
func (v verdict) of(health mesh.Health) mesh.Health {
	switch {
	case health != mesh.Healthy && health != mesh.Degraded:
		return health
	case v == passed:
		return health
	case v == degradedByCheck:
		return mesh.Degraded
	default:
		return mesh.Unhealthy
	}
}

// bad tells whether the host is not to be used.
func (v verdict) bad() bool { return v != passed && v != degradedByCheck }

// failed and more are what Envoy says of it in /clusters, before and behind the rest.
func (v verdict) failed() string {
	if v.bad() {
		return "/failed_active_hc"
	}
	return ""
}

func (v verdict) more() string {
	if v == timedOutCheck {
		return "/active_hc_timeout"
	}
	return ""
}

// outcome is what one check comes to.
type outcome uint8

const (
	wentWell outcome = iota
	wentDegraded
	// saidNo is an answer that says that the host is unhealthy, saidLater one that is to
	// count only when it comes often.
	saidNo
	saidLater
	noAnswer
	timedOut
)

// check is the health check of one host, by one definition.
type check struct {
	cluster *Cluster
	host    *Host
	config  *mesh.ActiveCheck
	stop    context.CancelFunc

	// owned by run
	line      *line  // the connection; nil for none
	good, bad uint32 // in a row, against what is known
	again     bool   // it is not the first
}

// supervise starts and ends the checks of hosts as they are configured. What it reads
// comes in the order in which it is written the other way round, so that no host that
// waits for its check is overlooked when there are to be none any more.
func (c *Cluster) supervise(ctx context.Context, running *sync.WaitGroup) {
	before := c.checks.on.Swap(false)
	config := c.config.Load().asks
	if config == nil && !before {
		return
	}
	if config != nil {
		c.checks.on.Store(true)
	}
	for _, h := range c.hosts.Load().all {
		old := h.check.Load()
		switch {
		case old != nil && old.config == config:
			continue
		case old != nil:
			old.stop()
			h.check.Store(nil)
		}
		if config == nil {
			c.judge(h, nil, passed)
			continue
		}
		k := &check{cluster: c, host: h, config: config}
		ctx, stop := context.WithCancel(ctx)
		k.stop = stop
		h.check.Store(k)
		if h.gone.Load() { // it went meanwhile
			stop()
		}
		running.Go(func() { k.run(ctx) })
	}
}

// run checks until ctx ends.
func (k *check) run(ctx context.Context) {
	defer k.hangUp()
	defer k.stop()
	places, turns := &k.cluster.set.checking, &k.cluster.checks.turns
	wait := time.NewTimer(upTo(k.config.InitialJitter))
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if !places.enter(ctx, turns) {
			return
		}
		k.cluster.checks.attempt.Add(1)
		got := k.ask(ctx)
		places.leave(turns)
		if ctx.Err() != nil {
			return
		}
		wait.Reset(k.next(k.note(got)))
	}
}

// note counts an outcome, and tells whether it came out against what is known without
// changing that yet.
func (k *check) note(got outcome) (edge bool) {
	s, now := &k.cluster.checks, verdict(k.host.verdict.Load())
	first := !k.again
	k.again = true
	if got == wentWell || got == wentDegraded {
		s.success.Add(1)
		k.bad = 0
		next := passed
		if got == wentDegraded {
			next = degradedByCheck
		}
		if now.bad() && !first {
			if k.good++; k.good < k.config.HealthyAfter {
				return true
			}
		}
		k.good = 0
		k.cluster.judge(k.host, k, next)
		k.cluster.unejected(k.host)
		return false
	}
	s.failure.Add(1)
	if got == noAnswer || got == timedOut {
		s.network.Add(1)
	}
	k.good = 0
	next := failedCheck
	if got == timedOut {
		next = timedOutCheck
	}
	if !now.bad() && got != saidNo {
		if k.bad++; k.bad < k.config.UnhealthyAfter {
			return true
		}
	}
	k.bad = 0
	k.cluster.judge(k.host, k, next)
	return false
}

// next is how long to wait for the next check.
func (k *check) next(edge bool) time.Duration {
	d, bad := k.config, verdict(k.host.verdict.Load()).bad()
	wait := d.Interval
	switch unused := k.cluster.connects.Load() == 0; {
	case unused && bad:
		wait = d.NoTraffic
	case unused:
		wait = d.NoTrafficHealthy
	case bad && edge:
		wait = d.HealthyEdge
	case bad:
		wait = d.UnhealthyInterval
	case edge:
		wait = d.UnhealthyEdge
	}
	return wait + upTo(d.Jitter) + upTo(wait*time.Duration(d.JitterPercent)/100)
}

func upTo(most time.Duration) time.Duration {
	if most <= 0 {
		return 0
	}
	return rand.N(most)
}

// judge notes a verdict, with which a new plan is made by Run: there may be many at a
// time. One of a check that is not that of h any more comes too late; by is nil for the
// verdict of nobody.
func (c *Cluster) judge(h *Host, by *check, v verdict) {
	c.set.mu.Lock()
	old := verdict(h.verdict.Load())
	if old == v || h.check.Load() != by {
		c.set.mu.Unlock()
		return
	}
	h.verdict.Store(uint32(v))
	if old.bad() && !v.bad() {
		h.since = time.Now() // it begins slowly
	}
	c.set.mu.Unlock()
	c.stale.Store(true)
	c.set.nudge()
	if !old.bad() && v.bad() {
		c.unhealthy(h)
	}
	if old.bad() != v.bad() {
		c.set.log.Info("health check", "cluster", c.name, "endpoint", h.text, "healthy", !v.bad())
	}
}

// unejected takes a host back that was ejected, since it has passed its check.
func (c *Cluster) unejected(h *Host) {
	o, e, d := h.outlier.Load(), c.ejections.Load(), c.config.Load().Outlier
	if o == nil || e == nil || d == nil || d.KeepEjected || !o.ejected.Load() {
		return
	}
	e.back(o)
	h.succeeded()
	c.stale.Store(true)
	c.set.nudge()
}

// diagnosed tells whether the host's health is known, or nobody asks for it.
func (h *Host) diagnosed() bool { return verdict(h.verdict.Load()) != unchecked }

// diagnosed tells it of all.
func diagnosed(all []*Host) bool {
	return !slices.ContainsFunc(all, func(h *Host) bool { return !h.diagnosed() })
}

// checks is what a cluster knows of the checks of its hosts.
type checks struct {
	on    atomic.Bool // there are some, or hosts that wait for theirs
	turns turns       // guarded by Set.checking

	attempt, success, failure, network, verify atomic.Int64

	mu sync.Mutex // guards:
	// first is closed when a host may be used, or all were asked once; nil if so.
	first chan struct{}
	// opening says that not all were asked once since none had been.
	opening bool
}

// await lets wait who finds no host, if none was asked yet.
func (s *checks) await(all []*Host) {
	if len(all) == 0 || slices.ContainsFunc(all, (*Host).diagnosed) {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = true
	if s.first == nil {
		s.first = make(chan struct{})
	}
}

// settle lets go on who waits, if by the plan in force a host may be used, or all were
// asked.
func (s *checks) settle(plan *hosts) {
	all := diagnosed(plan.all)
	if !all && plan.usable == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening = s.opening && !all
	if s.first != nil {
		close(s.first)
		s.first = nil
	}
}

func (s *checks) unknown() <-chan struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.first
}

// open tells whether not all hosts were asked once since none had been.
func (s *checks) open() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.opening
}

// CheckStats are the counters of health checks.
type CheckStats struct {
	// Attempts were made, Failures of them failed, Network of those for want of an
	// answer. Verified answers said what service they are of.
	Attempts, Successes, Failures, Network, Verified int64
	// Healthy and Degraded hosts by the last checks.
	Healthy, Degraded int64
}

func (s *checks) stats(all []*Host) *CheckStats {
	out := &CheckStats{
		Attempts: s.attempt.Load(), Successes: s.success.Load(), Failures: s.failure.Load(),
		Network: s.network.Load(), Verified: s.verify.Load(),
	}
	for _, h := range all {
		switch verdict(h.verdict.Load()) {
		case passed:
			out.Healthy++
		case degradedByCheck:
			out.Healthy++
			out.Degraded++
		default:
		}
	}
	return out
}

func (s *CheckStats) all(yield func(string, int64) bool) bool {
	for _, one := range []struct {
		name  string
		value int64
	}{
		{"attempt", s.Attempts},
		{"success", s.Successes},
		{"failure", s.Failures},
		{"network_failure", s.Network},
		{"passive_failure", 0},
		{"verify_cluster", s.Verified},
		{"healthy", s.Healthy},
		{"degraded", s.Degraded},
	} {
		if !yield("health_check."+one.name, one.value) {
			return false
		}
	}
	return true
}
