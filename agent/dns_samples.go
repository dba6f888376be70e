package agent

import (
	"iter"
	"strings"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/dns"
	"github.com/serai-net/serai/agent/telemetry"
)

// Stats yields what the DNS interface counts.
func (r *resolver) Stats() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for name, value := range r.Server.Stats().All() {
			if !yield("dns."+name, value) {
				return
			}
		}
		for name, value := range r.index.Stats().All() {
			if !yield("catalog."+name, value) {
				return
			}
		}
	}
}

// samples are the same for metrics.
func (r *resolver) samples() iter.Seq[telemetry.Sample] {
	return func(yield func(telemetry.Sample) bool) {
		for _, part := range [][]telemetry.Sample{
			querySamples(r.Server.Stats()), forwardSamples(r.Server.Stats()), indexSamples(r.index.Stats()),
		} {
			for _, sample := range part {
				if !yield(sample) {
					return
				}
			}
		}
	}
}

func labelled(name, value string) []telemetry.Label {
	return []telemetry.Label{{Name: name, Value: value}}
}

func querySamples(s dns.Stats) []telemetry.Sample {
	const (
		queries, whatQueries = "serai_dns_queries_total", "Queries that were read."
		dropped, whatDropped = "serai_dns_dropped_total", "Packets and connections without an answer: too short for a header, no query, or over a bound."
	)
	all := []telemetry.Sample{
		{Name: queries, Help: whatQueries, Labels: labelled("protocol", "udp"), Value: float64(s.UDP)},
		{Name: queries, Help: whatQueries, Labels: labelled("protocol", "tcp"), Value: float64(s.TCP)},
		{Name: "serai_dns_connections_active", Help: "TCP connections that live.", Kind: telemetry.Gauge, Value: float64(s.Connections)},
		{Name: dropped, Help: whatDropped, Labels: labelled("reason", "short"), Value: float64(s.Short)},
		{Name: dropped, Help: whatDropped, Labels: labelled("reason", "response"), Value: float64(s.Responses)},
		{Name: dropped, Help: whatDropped, Labels: labelled("reason", "overflow"), Value: float64(s.Overflow)},
		{Name: dropped, Help: whatDropped, Labels: labelled("reason", "connection_overflow"), Value: float64(s.ConnectionOverflow)},
	}
	for name, value := range s.Rcodes {
		cut := strings.LastIndexByte(name, '.')
		all = append(all, telemetry.Sample{
			Name: "serai_dns_responses_total", Help: "Responses by zone and rcode; the zone . is all that was forwarded.",
			Labels: []telemetry.Label{{Name: "zone", Value: name[:cut]}, {Name: "rcode", Value: name[cut+1:]}},
			Value:  float64(value),
		})
	}
	return all
}

func forwardSamples(s dns.Stats) []telemetry.Sample {
	return []telemetry.Sample{
		{Name: "serai_dns_forwarded_total", Help: "Queries that were sent to resolvers.", Value: float64(s.Forwarded)},
		{Name: "serai_dns_forward_retries_total", Help: "Queries that were repeated to another resolver or by TCP.", Value: float64(s.ForwardRetries)},
		{Name: "serai_dns_forward_failures_total", Help: "Queries that no resolver has answered.", Value: float64(s.ForwardFailures)},
		{Name: "serai_dns_forward_shared_total", Help: "Queries that took the answer to an equal one under way.", Value: float64(s.ForwardShared)},
		{Name: "serai_dns_forward_overflow_total", Help: "Queries refused since too many waited for resolvers.", Value: float64(s.ForwardOverflow)},
	}
}

func indexSamples(s catalog.IndexStats) []telemetry.Sample {
	return []telemetry.Sample{
		{Name: "serai_catalog_services", Help: "Services known in the own datacenter.", Kind: telemetry.Gauge, Value: float64(s.Services)},
		{Name: "serai_catalog_services_left_out", Help: "Services above the bound, which are not known.", Kind: telemetry.Gauge, Value: float64(s.Left)},
		{Name: "serai_catalog_services_followed", Help: "Services with a blocking query of their own.", Kind: telemetry.Gauge, Value: float64(s.Followed)},
		{Name: "serai_catalog_remote_services", Help: "Services of other datacenters that are followed.", Kind: telemetry.Gauge, Value: float64(s.Remote)},
		{Name: "serai_catalog_intention_sources", Help: "Services whose intentions are followed.", Kind: telemetry.Gauge, Value: float64(s.Sources)},
		{Name: "serai_catalog_displaced_total", Help: "What was dropped for something that was asked for later.", Value: float64(s.Displaced)},
		{Name: "serai_catalog_queries_total", Help: "Queries to Consul.", Value: float64(s.Queries)},
		{Name: "serai_catalog_query_errors_total", Help: "Queries to Consul that failed.", Value: float64(s.Errors)},
		{Name: "serai_catalog_held_total", Help: "Answers of Consul that were held back, since they would have emptied a healthy service.", Value: float64(s.Held)},
	}
}
