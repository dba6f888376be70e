package upstream

import (
	"iter"

	"github.com/serai-net/serai/connect/mesh"
)

// Stats are the counters of a cluster since it was first configured.
type Stats struct {
	Name string
	// Hosts, Healthy and Degraded count endpoints now.
	Hosts, Healthy, Degraded int
	// Requests and connections begun; Active are those that live, with or without
	// a connection.
	Requests, Active int64
	// Connects were tried, ConnectFails of them failed; Conns live.
	Connects, ConnectFails, Conns int64
	// Repeats are tries after the first, Overflow was refused for a limit,
	// NoHost since no endpoint was healthy.
	Repeats, Overflow, NoHost int64
	// Pending are exchanges without a connection, PendingTotal those that ever were.
	Pending, PendingTotal int64
	// Waited had to wait for a connection because of max_connections. ClosedWorn
	// connections had served as many exchanges as they may, ClosedIdle none for long.
	Waited, ClosedWorn, ClosedIdle int64
	// Retries by a policy, RetrySuccess of them answered well, RetryOverflow were
	// not made for a limit.
	Retries, RetrySuccess, RetryOverflow int64
	// Panics are how often the endpoints changed so that unhealthy ones were used.
	Panics int64
	// OpenConns, OpenPending, OpenRequests and OpenRetries tell whether a limit is
	// reached now.
	OpenConns, OpenPending, OpenRequests, OpenRetries bool
	// Remaining is what is left of each limit; nil if nobody wants to know.
	Remaining *Remaining
	// Outlier is nil without outlier detection, Checks without health checks.
	Outlier *OutlierStats
	Checks  *CheckStats
	// Originals is nil but for a cluster of original destinations.
	Originals *OriginalStats
}

// OriginalStats are what a cluster of original destinations counts besides: hosts that
// made room for others, and those for which there was none.
type OriginalStats struct{ Evicted, Overflow int64 }

// All yields the counters by Envoy's names where there is one.
func (s *Stats) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, one := range []struct {
			name  string
			value int64
		}{
			{"membership_total", int64(s.Hosts)},
			{"membership_healthy", int64(s.Healthy)},
			{"membership_degraded", int64(s.Degraded)},
			{"upstream_rq_total", s.Requests},
			{"upstream_rq_active", max(0, s.Active-s.Pending)}, // who waits is counted as pending alone
			{"upstream_cx_total", s.Connects},
			{"upstream_cx_active", s.Conns},
			{"upstream_cx_connect_fail", s.ConnectFails},
			{"upstream_cx_overflow", s.Waited},
			{"upstream_cx_max_requests", s.ClosedWorn},
			{"upstream_cx_idle_timeout", s.ClosedIdle},
			{"upstream_rq_repeated", s.Repeats},
			{"upstream_rq_pending_total", s.PendingTotal},
			{"upstream_rq_pending_active", s.Pending},
			{"upstream_rq_pending_overflow", s.Overflow},
			{"upstream_rq_retry", s.Retries},
			{"upstream_rq_retry_success", s.RetrySuccess},
			{"upstream_rq_retry_overflow", s.RetryOverflow},
			{"upstream_cx_none_healthy", s.NoHost},
			{"lb_healthy_panic", s.Panics},
			{"circuit_breakers.default.cx_open", one(s.OpenConns)},
			{"circuit_breakers.default.rq_pending_open", one(s.OpenPending)},
			{"circuit_breakers.default.rq_open", one(s.OpenRequests)},
			{"circuit_breakers.default.rq_retry_open", one(s.OpenRetries)},
		} {
			if !yield(one.name, one.value) {
				return
			}
		}
		if o := s.Originals; o != nil && (!yield("original_dst_host_evicted", o.Evicted) || !yield("original_dst_host_overflow", o.Overflow)) {
			return
		}
		if s.Checks != nil && !s.Checks.all(yield) {
			return
		}
		if s.Remaining != nil && !s.Remaining.all(yield) {
			return
		}
		if s.Outlier != nil {
			s.Outlier.all(yield)
		}
	}
}

func one(is bool) int64 {
	if is {
		return 1
	}
	return 0
}

// Remaining is what is left of the limits of a cluster. Requests that wait for a
// connection are not counted yet.
type Remaining struct{ Conns, Pending, Requests, Retries int64 }

func left(most uint32, has bool, used int64) int64 { return max(0, limit(most, has)-used) }

func (r *Remaining) all(yield func(string, int64) bool) bool {
	const prefix = "circuit_breakers.default.remaining_"
	return yield(prefix+"cx", r.Conns) && yield(prefix+"pending", r.Pending) &&
		yield(prefix+"rq", r.Requests) && yield(prefix+"retries", r.Retries)
}

// Stats returns the counters.
func (c *Cluster) Stats() Stats {
	hs, cfg := c.hosts.Load(), c.config.Load()
	s := Stats{
		Name: c.name, Hosts: len(hs.all), Healthy: hs.healthy, Degraded: hs.degraded,
		Requests: c.requests.Load(), Active: c.active.Load(),
		// In this order, so that never more seem to have ended than have.
		Connects: c.connects.Load(), Conns: c.conns.Load(), ConnectFails: c.connectFails.Load(),
		Repeats: c.repeats.Load(), Overflow: c.overflow.Load(), NoHost: c.noHost.Load(),
		Pending: c.pending.Load(), PendingTotal: c.pendingTotal.Load(), Waited: c.cxOverflow.Load(),
		ClosedWorn: c.cxMaxRequests.Load(), ClosedIdle: c.cxIdle.Load(),
		Retries: c.retries.Load(), RetrySuccess: c.retrySuccess.Load(), RetryOverflow: c.retryOverflow.Load(),
		Panics: c.panics.Load(),
	}
	l := &cfg.Limits
	if cfg.Kind == mesh.ClusterOriginalDst {
		s.Hosts = c.originals.len()
		s.Healthy = s.Hosts
		s.Originals = &OriginalStats{Evicted: c.originals.evicted.Load(), Overflow: c.originals.overflow.Load()}
	}
	if l.TrackRemaining {
		s.Remaining = &Remaining{
			Conns: left(l.MaxConnections, l.HasConnections, s.Conns), Pending: left(l.MaxPending, l.HasPending, s.Pending),
			Requests: left(l.MaxRequests, l.HasRequests, s.Active-s.Pending), Retries: max(0, c.mostRetries(l)-c.retrying.Load()),
		}
	}
	s.OpenConns = s.Conns >= limit(l.MaxConnections, l.HasConnections)
	s.OpenPending = s.Pending >= limit(l.MaxPending, l.HasPending)
	s.OpenRequests = s.Active >= limit(l.MaxRequests, l.HasRequests)
	s.OpenRetries = c.retrying.Load() >= c.mostRetries(l)
	if cfg.Check != nil {
		s.Checks = c.checks.stats(hs.all)
	}
	if e := c.ejections.Load(); e != nil {
		s.Outlier = e.stats()
	}
	return s
}

// mostRetries is how many retries there may be at one time. Exchanges that are
// pending are active, too.
func (c *Cluster) mostRetries(l *mesh.Limits) int64 {
	switch b := l.Budget; {
	case b != nil:
		return max(int64(b.MinConcurrency), int64(b.Percent*float64(c.active.Load())/100))
	case l.HasRetries:
		return int64(l.MaxRetries)
	default:
		return defaultRetries
	}
}
