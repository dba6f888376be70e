package proxy

import (
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/trace"
)

// counter counts by Envoy's names what passes an HTTP chain.
func (cs *chains) counter(l *mesh.Listener, d *mesh.FilterChain) *stack.HTTPCounter {
	return stack.CountHTTP(cs.clusters.Registry(), d.HTTP.StatPrefix, l.Address.String())
}

// tracing counts why requests of an HTTP chain are traced.
func (cs *chains) tracing(d *mesh.FilterChain) *trace.Counts {
	return stats.Own(cs.clusters.Registry().Scope("http."+stats.Name(d.HTTP.StatPrefix)+".tracing."), (*trace.Counts).Each)
}

// counts are the counters of a living chain.
type counts struct {
	tcp      func() stack.TCPStats // nil for HTTP
	entrance func() stack.EntranceStats
}

// publishCounts lets the counters of living chains be read.
func (cs *chains) publishCounts() {
	var all []counts
	for _, b := range cs.built {
		for _, p := range b.parts {
			switch c := p.chain; {
			case c.tcp != nil:
				all = append(all, counts{c.tcp.Stats, c.tcp.Entrance})
			case c.guard != nil:
				all = append(all, counts{nil, c.guard.Entrance})
			}
		}
	}
	cs.counts.Store(&all)
}

// neverTCP are Envoy's counters of tcp_proxy for what is not told apart here.
const neverTCP = "downstream_flow_control_paused_reading_total downstream_flow_control_resumed_reading_total early_data_received_count_total" +
	" idle_timeout max_downstream_connection_duration upstream_flush_total"

// countedTCP yields what chains count together that have one stat_prefix.
func (cs *chains) countedTCP(yield func(stats.Stat) bool) bool {
	all := cs.counts.Load()
	if all == nil {
		return true
	}
	counters, gauges := map[string]int64{}, map[string]int64{}
	for _, c := range *all {
		if c.tcp != nil {
			s := c.tcp()
			prefix := "tcp." + stats.Name(s.StatPrefix) + "."
			for name, value := range s.All() {
				counters[prefix+name] += value
			}
			for name := range strings.FieldsSeq(neverTCP) {
				counters[prefix+name] += 0
			}
			gauges[prefix+"downstream_cx_active"] += s.Active
		}
		e := c.entrance()
		if e.Intentions != "" {
			prefix := stats.Name(strings.TrimSuffix(e.Intentions, ".")) + ".rbac."
			counters[prefix+"allowed"] += e.Allowed
			counters[prefix+"denied"] += e.Denied
			counters[prefix+"shadow_allowed"] += 0
			counters[prefix+"shadow_denied"] += 0
		}
		if e.Limit.StatPrefix != "" {
			prefix := "connection_limit." + stats.Name(e.Limit.StatPrefix) + "."
			counters[prefix+"limited_connections"] += e.Limit.Limited
			gauges[prefix+"active_connections"] += e.Limit.Active
		}
	}
	for name, value := range counters {
		if !yield(stats.Stat{Name: name, Value: value}) {
			return false
		}
	}
	for name, value := range gauges {
		if !yield(stats.Stat{Name: name, Kind: stats.KindGauge, Value: value}) {
			return false
		}
	}
	return true
}
