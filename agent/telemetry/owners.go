package telemetry

import (
	"iter"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/http2"
)

// Listeners shows what listeners count, with Envoy's names where there are such.
func Listeners(all []listen.Stats) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		for i := range all {
			s := &all[i]
			labels := []Label{{"listener", s.Name}}
			for _, sample := range []Sample{
				{"serai_listener_bound", "Whether the listener's address is bound.", Gauge, labels, yesNo(s.Bound)},
				{"serai_listener_downstream_cx_total", "Connections accepted.", Counter, labels, number(s.Accepted)},
				{"serai_listener_downstream_cx_active", "Connections that live.", Gauge, labels, number(s.Active)},
				{"serai_listener_downstream_cx_overflow_total", "Connections closed for a limit.", Counter, labels, number(s.Overflow)},
				{"serai_listener_no_filter_chain_match_total", "Connections closed since no filter chain matched.", Counter, labels, number(s.NoChain)},
				{"serai_listener_ssl_connection_error_total", "TLS handshakes that failed.", Counter, labels, number(s.BadHandshakes)},
			} {
				if !yield(sample) {
					return
				}
			}
		}
	}
}

// Codec is what a listener's HTTP codecs have counted.
type Codec struct {
	Listener string
	Stats    func() (*http1.Stats, *http2.Stats)
}

// Codecs shows what no exchange tells of: a request that was refused for its
// form is none. Several codecs of one listener are added up.
func Codecs(all []Codec) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		type sums struct{ rejected, timeouts, aborted, panics, refused, broken, floods uint64 }
		byName := map[string]*sums{}
		var order []string
		for _, c := range all {
			s := byName[c.Listener]
			if s == nil {
				s = &sums{}
				byName[c.Listener], order = s, append(order, c.Listener)
			}
			h1, h2 := c.Stats()
			s.rejected += h1.Rejected.Load() + h2.Rejected.Load()
			s.timeouts += h1.HeaderTimeouts.Load()
			s.aborted += h1.Aborted.Load() + h2.Aborted.Load()
			s.panics += h1.Panics.Load() + h2.Panics.Load()
			s.refused += h2.Refused.Load()
			s.broken += h2.Broken.Load()
			s.floods += h2.Floods.Load()
		}
		for _, name := range order {
			s, labels := byName[name], []Label{{"listener", name}}
			for _, sample := range []Sample{
				{"serai_listener_http_rejected_total", "Requests answered with 4xx or 5xx because of their form.", Counter, labels, number(s.rejected)},
				{"serai_listener_http_header_timeout_total", "Requests answered with 408, their head took too long.", Counter, labels, number(s.timeouts)},
				{"serai_listener_http_aborted_total", "Responses that were cut off.", Counter, labels, number(s.aborted)},
				{"serai_listener_http2_refused_total", "Streams beyond the most that a connection may have.", Counter, labels, number(s.refused)},
				{"serai_listener_http2_broken_total", "HTTP/2 connections that ended by an error of the client's.", Counter, labels, number(s.broken)},
				{"serai_listener_http2_flood_total", "Those of them that went beyond a bound.", Counter, labels, number(s.floods)},
				{"serai_listener_http_panic_total", "Panics while serving a request.", Counter, labels, number(s.panics)},
			} {
				if !yield(sample) {
					return
				}
			}
		}
	}
}

// Clusters shows what clusters count, with Envoy's names where there are such.
func Clusters(all []upstream.Stats) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		for i := range all {
			s := &all[i]
			labels := []Label{{"cluster", s.Name}}
			for _, sample := range []Sample{
				{"serai_cluster_membership", "Endpoints.", Gauge, labels, number(s.Hosts)},
				{"serai_cluster_membership_healthy", "Endpoints that Consul calls healthy and that are not ejected.", Gauge, labels, number(s.Healthy)},
				{"serai_cluster_upstream_rq_total", "Requests and connections begun.", Counter, labels, number(s.Requests)},
				{"serai_cluster_upstream_rq_active", "Requests and connections under way.", Gauge, labels, number(s.Active)},
				{"serai_cluster_upstream_cx_total", "Connections tried.", Counter, labels, number(s.Connects)},
				{"serai_cluster_upstream_cx_connect_fail_total", "Connections that could not be made.", Counter, labels, number(s.ConnectFails)},
				{"serai_cluster_upstream_rq_repeated_total", "Tries after the first, for connections that were lost.", Counter, labels, number(s.Repeats)},
				{"serai_cluster_upstream_rq_pending_overflow_total", "Requests and connections refused for a limit.", Counter, labels, number(s.Overflow)},
				{"serai_cluster_upstream_cx_active", "Connections that live or are being made.", Gauge, labels, number(s.Conns)},
				{"serai_cluster_upstream_cx_overflow_total", "Exchanges that had to wait, and connections refused, for the limit of connections.", Counter, labels, number(s.Waited)},
				{"serai_cluster_upstream_rq_pending_active", "Requests that wait for a connection.", Gauge, labels, number(s.Pending)},
				{"serai_cluster_upstream_rq_retry_total", "Retries by a policy.", Counter, labels, number(s.Retries)},
				{"serai_cluster_upstream_rq_retry_success_total", "Those of them that were answered well.", Counter, labels, number(s.RetrySuccess)},
				{"serai_cluster_upstream_rq_retry_overflow_total", "Retries not made for the limit of retries.", Counter, labels, number(s.RetryOverflow)},
				{"serai_cluster_upstream_cx_none_healthy_total", "Requests and connections for which no endpoint was healthy.", Counter, labels, number(s.NoHost)},
			} {
				if !yield(sample) {
					return
				}
			}
			if o := s.Outlier; o != nil && !(yield(Sample{
				"serai_cluster_outlier_detection_ejections_active", "Endpoints that are ejected now.", Gauge, labels, number(o.Active),
			}) && yield(Sample{
				"serai_cluster_outlier_detection_ejections_enforced_total", "Ejections.", Counter, labels, number(o.EnforcedTotal()),
			}) && yield(Sample{
				"serai_cluster_outlier_detection_ejections_overflow_total", "Ejections not made, since too many endpoints are out.", Counter, labels, number(o.Overflow),
			})) {
				return
			}
		}
	}
}

// Ready shows whether traffic should be sent here; ready says why not.
func Ready(ready func() error) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		yield(Sample{Name: "serai_ready", Help: "Whether traffic should be sent here.", Kind: Gauge, Value: yesNo(ready() == nil)})
	}
}

// Lines shows what became of the access log's lines.
func (l *AccessLog) Lines() iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		s := l.Stats()
		_ = yield(Sample{Name: "serai_access_log_written_total", Help: "Lines written.", Value: number(s.Written)}) &&
			yield(Sample{Name: "serai_access_log_dropped_total", Help: "Lines dropped, since the destination was too slow.", Value: number(s.Dropped)}) &&
			yield(Sample{Name: "serai_access_log_failed_total", Help: "Lines that could not be written.", Value: number(s.Failed)})
	}
}

// ControlPlane shows how the configuration comes from Consul; all are the
// numbers of an xds.Status.
func ControlPlane(all iter.Seq2[string, int64]) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		for name, value := range all {
			sample := Sample{Name: "serai_xds_" + name, Value: number(value)}
			switch name {
			case "connected":
				sample.Help, sample.Kind = "Whether a stream from Consul is open.", Gauge
			case "snapshot_version":
				sample.Help, sample.Kind = "Which configuration is in force, counted from 1; 0 before the first.", Gauge
			case "refusals":
				sample.Help, sample.Kind = "Parts of the configuration in force that are not understood and refuse their traffic.", Gauge
			case "restored":
				sample.Help, sample.Kind = "Whether what is in force was kept on disk, and Consul has said nothing yet.", Gauge
			case "unsaved":
				sample.Help, sample.Kind = "Whether more has changed than is kept on disk.", Gauge
			case "saves":
				sample.Help = "How often the configuration was to be written to disk."
			case "save_failures":
				sample.Help = "How often that failed."
			case "unread":
				sample.Help, sample.Kind = "Resources whose bytes cannot be read now; the last good one of the name stays.", Gauge
			case "updates":
				sample.Help = "Responses of Consul."
			case "rejected":
				sample.Help = "Responses of Consul that could not be read."
			case "failed":
				sample.Help = "Configurations that were not taken; the last good one stayed."
			case "held":
				sample.Help = "Updates that were held back, since they would have emptied a healthy upstream."
			case "reconnects":
				sample.Help = "Streams after the first."
			case "secrets_changed":
				sample.Help = "Certificates and other secrets that were taken in the place of others, without a restart."
			case "secrets_rejected":
				sample.Help = "Secrets and files that were not good; the last good one stayed."
			case "secrets_broken":
				sample.Help, sample.Kind = "Secrets and files that are not good now, or not there.", Gauge
			case "secrets_waiting":
				sample.Help, sample.Kind = "Secrets that have not come yet.", Gauge
			}
			if sample.Kind == Counter {
				sample.Name += "_total"
			}
			if !yield(sample) {
				return
			}
		}
	}
}
