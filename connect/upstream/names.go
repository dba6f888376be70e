package upstream

import (
	"cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
)

// never are Envoy's counters of a cluster for what does not happen here: there
// is no HTTP/3, no subsets, no shadowing, nothing is buffered above a mark.
const never = "assignment_stale assignment_timeout_received assignment_use_cached bind_errors" +
	" lb_local_cluster_not_ok lb_subsets_created lb_subsets_fallback lb_subsets_fallback_panic" +
	" lb_subsets_removed lb_subsets_selected lb_zone_cluster_too_small lb_zone_no_capacity_left" +
	" original_dst_host_invalid" +
	" default.total_match_count update_no_rebuild" +
	" upstream_cx_connect_with_0_rtt upstream_cx_http3_total upstream_cx_pool_overflow" +
	" upstream_flow_control_backed_up_total upstream_flow_control_drained_total upstream_flow_control_paused_reading_total" +
	" upstream_flow_control_resumed_reading_total upstream_http3_broken upstream_internal_redirect_failed_total" +
	" upstream_internal_redirect_succeeded_total upstream_rq_0rtt upstream_rq_maintenance_mode" +
	" upstream_rq_max_duration_reached"

// Observed is what operators want the cluster to be called (alt_stat_name); "" for
// its name.
func (c *Cluster) Observed() string { return c.config.Load().StatName }

// StatName is what the cluster is called in Envoy's names.
func (s *ClusterStats) StatName() string { return statName(s.Definition) }

func statName(c *mesh.Cluster) string { return stats.Name(cmp.Or(c.StatName, c.Name)) }

// Each yields what was counted by Envoy's names, below that of the cluster. It
// tells whether to go on.
func (s *ClusterStats) Each(prefix string, all func(stats.Stat) bool) (more bool) {
	yield := func(stat stats.Stat) bool {
		stat.Owner = prefix + stat.Owner
		return all(stat)
	}
	for name, value := range s.All() {
		if name == "upstream_rq_total" {
			value = s.answers.requests.Load() // ours counts those that found no host, too
		}
		if !yield(stats.Stat{Name: name, Kind: kindOf(name), Value: value}) {
			return false
		}
	}
	a := s.answers
	for _, one := range []struct {
		name  string
		value int64
	}{
		{"upstream_cx_http1_total", a.http1.Load()},
		{"upstream_cx_http2_total", a.http2.Load()},
		{"upstream_cx_destroy", a.ended.Ours.Load() + a.ended.Theirs.Load()},
		{"upstream_cx_destroy_local", a.ended.Ours.Load()},
		{"upstream_cx_destroy_remote", a.ended.Theirs.Load()},
		{"upstream_cx_destroy_with_active_rq", a.ended.OursBusy.Load() + a.ended.TheirsBusy.Load()},
		{"upstream_cx_destroy_local_with_active_rq", a.ended.OursBusy.Load()},
		{"upstream_cx_destroy_remote_with_active_rq", a.ended.TheirsBusy.Load()},
		{"upstream_cx_close_notify", a.announced.Load()},
		{"upstream_cx_max_duration_reached", a.aged.Load()},
		{"upstream_cx_connect_attempts_exceeded", a.exhausted.Load()},
		{"upstream_rq_cancelled", a.cancelled.Load()},
		{"upstream_rq_pending_failure_eject", a.ejected.Load()},
		{"upstream_rq_per_try_idle_timeout", a.tryPauses.Load()},
		{"upstream_rq_retry_backoff_exponential", a.paused.Load()},
		{"upstream_rq_retry_backoff_ratelimited", a.limited.Load()},
		{"upstream_rq_retry_limit_exceeded", a.tired.Load()},
		{"retry_or_shadow_abandoned", a.forgotten.Load()},
		{"upstream_rq_tx_reset", int64(a.frames.ResetsSent.Load())},
		{"upstream_cx_rx_bytes_total", a.received.Load()},
		{"upstream_cx_tx_bytes_total", a.sent.Load()},
		{"upstream_cx_connect_timeout", a.connectTimeouts.Load()},
		{"upstream_rq_timeout", a.timeouts.Load()},
		{"upstream_rq_per_try_timeout", a.perTry.Load()},
		{"upstream_cx_protocol_error", a.protocolErrors.Load()},
		{"membership_change", a.membership.Load()},
		{"update_attempt", s.Updates.Attempts},
		{"update_success", s.Updates.Taken},
		{"update_rejected", s.Updates.Rejected},
		{"update_failure", s.Updates.Failed},
		{"update_empty", s.Updates.Empty},
		{"init_fetch_timeout", s.Updates.TimedOut},
		{"lb_zone_routing_all_directly", a.zones[zoneAll].Load()},
		{"lb_zone_routing_sampled", a.zones[zoneSome].Load()},
		{"lb_zone_routing_cross_zone", a.zones[zoneOther].Load()},
		{"lb_recalculate_zone_structures", a.zonesMade.Load()},
		{"upstream_rq_rx_reset", a.resets.Load()},
	} {
		if !yield(stats.Stat{Name: one.name, Value: one.value}) {
			return false
		}
	}
	for _, name := range []string{"membership_excluded", "upstream_cx_rx_bytes_buffered", "upstream_cx_tx_bytes_buffered", "update_time", "max_host_weight", "version", "warming_state", "lb_subsets_active"} {
		if !yield(stats.Stat{Name: name, Kind: stats.KindGauge}) {
			return false
		}
	}
	return a.codes.Each("upstream_rq", yield) && (a.retried.Completed() == 0 || a.retried.Each("retry.upstream_rq", yield)) && a.answered(yield) && a.codecs(yield) &&
		yield(stats.Stat{Name: "upstream_cx_connect_ms", Kind: stats.KindHistogram, Histogram: a.connected.Read()}) &&
		stats.Zeros("", never, yield) && high(yield) && s.tls(yield)
}

// answered yields what there is only of a cluster that has answered.
func (a *answers) answered(yield func(stats.Stat) bool) bool {
	return a.codes.Completed() == 0 || a.codes.Each("external.upstream_rq", yield) &&
		yield(stats.Stat{Name: "upstream_rq_time", Kind: stats.KindHistogram, Histogram: a.times.Read()}) &&
		yield(stats.Stat{Name: "external.upstream_rq_time", Kind: stats.KindHistogram, Histogram: a.times.Read()})
}

// high yields the circuit breakers of high priority, which nothing has here.
func high(yield func(stats.Stat) bool) bool {
	for _, name := range []string{"cx_open", "cx_pool_open", "rq_open", "rq_pending_open", "rq_retry_open"} {
		if !yield(stats.Stat{Name: "circuit_breakers.high." + name, Kind: stats.KindGauge}) {
			return false
		}
	}
	return yield(stats.Stat{Name: "circuit_breakers.default.cx_pool_open", Kind: stats.KindGauge})
}

// neverContext are Envoy's counters of secrets that come late: a cluster is not there
// before they are.
const neverContext = "client_ssl_socket_factory.downstream_context_secrets_not_ready client_ssl_socket_factory.ssl_context_update_by_sds" +
	" client_ssl_socket_factory.upstream_context_secrets_not_ready"

func (s *ClusterStats) tls(yield func(stats.Stat) bool) bool {
	if s.Definition.TLS == nil {
		return true
	}
	return s.answers.handshakes.Each(yield) && stats.Zeros("", neverContext, yield)
}

// kindOf tells which of the names of All go up and down.
func kindOf(name string) stats.Kind {
	switch name {
	case "membership_total", "membership_healthy", "membership_degraded", "upstream_rq_active", "upstream_cx_active", "upstream_rq_pending_active",
		"circuit_breakers.default.cx_open", "circuit_breakers.default.rq_pending_open", "circuit_breakers.default.rq_open",
		"circuit_breakers.default.rq_retry_open", "circuit_breakers.default.remaining_cx",
		"health_check.healthy", "health_check.degraded", "circuit_breakers.default.remaining_pending", "circuit_breakers.default.remaining_rq", "circuit_breakers.default.remaining_retries",
		"outlier_detection.ejections_active":
		return stats.KindGauge
	default:
		return stats.KindCounter
	}
}

// HealthFlags are what Envoy says of an endpoint in /clusters.
func (h *HostStats) HealthFlags() string {
	flags := h.Check.failed()
	if h.Ejected {
		flags += "/failed_outlier_check"
	}
	if h.Endpoint.Health == mesh.Unhealthy {
		flags += "/failed_eds_health"
	}
	if h.Check == degradedByCheck {
		flags += "/degraded_active_hc"
	}
	if h.Endpoint.Health == mesh.Degraded {
		flags += "/degraded_eds_health"
	}
	if h.Endpoint.Health == mesh.Draining {
		flags += "/eds_status_draining"
	}
	if flags += h.Check.more(); flags == "" {
		return "healthy"
	}
	return flags
}
