package proxy

import (
	"cmp"
	"crypto/x509"
	"iter"
	"maps"
	"math"
	"runtime"
	"runtime/metrics"
	"strings"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/bootstrap"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/xds/resource"
)

// newView shows what is counted as the bootstrap file asks for it.
func (p *Proxy) newView() (*stats.View, error) {
	var config bootstrap.Stats
	if p.config.Bootstrap != nil {
		config = p.config.Bootstrap.Stats
	}
	rules := []stats.TagRule{}
	for _, tag := range config.Tags {
		rules = append(rules, stats.TagRule{Name: tag.Name, Regex: tag.Regex, Fixed: tag.Fixed, HasFixed: tag.HasFixed})
	}
	if p.config.Bootstrap == nil {
		rules = append(rules, stats.TagRule{Name: "local_cluster", Fixed: p.chains.service, HasFixed: true},
			stats.TagRule{Name: "consul.source.service", Fixed: p.chains.service, HasFixed: true})
	}
	tagger, err := stats.NewTagger(rules, config.NoDefaultTags)
	if err != nil {
		return nil, err
	}
	matcher, err := stats.NewMatcher(config.Reject, patterns(config.Only), patterns(config.Not))
	if err != nil {
		return nil, err
	}
	return &stats.View{Registry: &p.registry, Tagger: tagger, Matcher: matcher}, nil
}

func patterns(all []bootstrap.Pattern) []stats.Pattern {
	if all == nil {
		return nil
	}
	out := []stats.Pattern{}
	for _, p := range all {
		out = append(out, stats.Pattern(p))
	}
	return out
}

// counted is what the parts of the proxy count, by Envoy's names.
func (p *Proxy) counted(yield func(stats.Stat) bool) {
	_ = p.countedClusters(yield) && p.countedListeners(yield) && p.chains.tally.read(yield) && p.countedManagers(yield) && p.countedServer(yield) &&
		stats.Zeros("", upstream.NeverHTTP1, yield) && stats.Zeros("runtime.", "deprecated_feature_use load_error load_success override_dir_exists override_dir_not_exists", yield)
}

// countedClusters yields what clusters count; those with one alt_stat_name together,
// as Envoy does, also what one of them has counted that is gone.
func (p *Proxy) countedClusters(yield func(stats.Stat) bool) bool {
	all := p.clusters.Clusters()
	p.updates(all)
	byName := make(map[string][]int, len(all))
	for i := range all {
		name := all[i].StatName()
		byName[name] = append(byName[name], i)
	}
	var certs certificates
	for name, those := range byName {
		owner := "cluster." + name + "."
		if !certs.ofClusters(owner, all, those, yield) {
			return false
		}
		gone := p.clusters.Gone(name)
		if len(those) == 1 && gone == nil {
			if !all[those[0]].Each(owner, yield) {
				return false
			}
			continue
		}
		var sum stats.Sum
		for _, i := range those {
			all[i].Each("", func(one stats.Stat) bool {
				sum.Add(one)
				return true
			})
		}
		sum.AddAll(gone)
		if !sum.Each(func(one stats.Stat) bool {
			one.Owner = owner
			return yield(one)
		}) {
			return false
		}
	}
	return true
}

// updates notes what came of the endpoints of clusters of EDS.
func (p *Proxy) updates(all []upstream.ClusterStats) {
	sets, downs := p.watcher.Updates(resource.EndpointsType), int64(p.watcher.Status().Downs)
	for i := range all {
		d := all[i].Definition
		if d.Kind != mesh.ClusterEDS {
			continue
		}
		t := sets[cmp.Or(d.EndpointName, d.Name)]
		taken, rejected := int64(t.Taken), int64(t.Rejected)
		all[i].Updates = upstream.Updates{Attempts: 1 + taken + rejected + downs, Taken: taken, Rejected: rejected, Failed: downs, TimedOut: int64(t.TimedOut), Empty: int64(t.Empty)}
	}
}

// neverListener are Envoy's counters of a listener for what does not happen here.
const neverListener = "downstream_cx_overload_reject downstream_cx_transport_socket_connect_timeout downstream_global_cx_overflow" +
	" extension_config_missing" +
	" network_extension_config_missing"

// neverContext are those of secrets that come late: a chain is not there before they are.
const neverContext = "server_ssl_socket_factory.downstream_context_secrets_not_ready server_ssl_socket_factory.ssl_context_update_by_sds" +
	" server_ssl_socket_factory.upstream_context_secrets_not_ready"

// countedListeners yields what listeners count; those with one stat_prefix together,
// as Envoy does.
func (p *Proxy) countedListeners(yield func(stats.Stat) bool) bool {
	all := p.listeners.Counted()
	byName := make(map[string][]*listen.Stats, len(all))
	for i := range all {
		prefix := "listener." + stats.Name(all[i].StatName) + "."
		byName[prefix] = append(byName[prefix], &all[i])
	}
	var certs certificates
	now := p.store.Load()
	for prefix, those := range byName {
		if !certs.ofListeners(prefix, now, those, yield) {
			return false
		}
		scoped := func(s stats.Stat) bool {
			s.Owner = prefix
			return yield(s)
		}
		if len(those) == 1 {
			if !eachOfListener(those[0], scoped) {
				return false
			}
			continue
		}
		var sum stats.Sum
		for _, l := range those {
			eachOfListener(l, func(one stats.Stat) bool {
				sum.Add(one)
				return true
			})
		}
		if !sum.Each(scoped) {
			return false
		}
	}
	return true
}

// eachOfListener yields what one listener counts, without what stands before the
// names.
func eachOfListener(l *listen.Stats, yield func(stats.Stat) bool) bool {
	for name, value := range l.All() {
		kind := stats.KindCounter
		if strings.HasSuffix(name, "cx_active") {
			kind = stats.KindGauge
		}
		if !yield(stats.Stat{Name: name, Kind: kind, Value: value}) {
			return false
		}
	}
	return yield(stats.Stat{Name: "downstream_cx_destroy", Value: l.Destroyed}) &&
		stats.Zeros("", neverListener, yield) && (l.Secured == nil || l.Secured.Each(yield) && stats.Zeros("", neverContext, yield))
}

func (p *Proxy) countedServer(yield func(stats.Stat) bool) bool {
	held := memory()
	live, state := int64(0), int64(2)
	switch err := p.Ready(); {
	case err == nil:
		live, state = 1, 0
	case p.draining.Load(), p.unhealthy.Load():
		state = 1
	}
	connections := int64(0)
	for _, l := range p.listeners.Stats() {
		connections += l.Active
	}
	for _, one := range []struct {
		name  string
		value int64
	}{
		{"server.live", live},
		{"server.state", state},
		{"server.uptime", int64(time.Since(p.started).Seconds())},
		{"server.concurrency", int64(runtime.GOMAXPROCS(0))},
		{"server.memory_allocated", held.live},
		{"server.memory_heap_size", held.heap},
		{"server.memory_physical_size", held.held},
		{"server.total_connections", connections},
		{"server.parent_connections", 0},
		{"server.hot_restart_epoch", 0},
		{"server.version", 0},
		{"server.days_until_first_cert_expiring", p.daysLeft()},
	} {
		if !yield(stats.Stat{Name: one.name, Kind: stats.KindGauge, Value: one.value}) {
			return false
		}
	}
	return stats.Zeros("server.", "debug_assertion_failures dynamic_unknown_fields static_unknown_fields dropped_stat_flushes envoy_bug_failures wip_protos", yield)
}

// bytes of memory.
type bytes struct{ live, heap, held int64 }

// memory reads how much there is, which stops nobody.
func memory() bytes {
	const (
		objects  = "/memory/classes/heap/objects:bytes"
		unused   = "/memory/classes/heap/unused:bytes"
		free     = "/memory/classes/heap/free:bytes"
		released = "/memory/classes/heap/released:bytes"
		total    = "/memory/classes/total:bytes"
	)
	samples := []metrics.Sample{{Name: objects}, {Name: unused}, {Name: free}, {Name: released}, {Name: total}}
	metrics.Read(samples)
	values := [5]int64{}
	for i := range samples {
		if samples[i].Value.Kind() == metrics.KindUint64 {
			values[i] = int64(samples[i].Value.Uint64())
		}
	}
	return bytes{live: values[0], heap: values[0] + values[1] + values[2], held: values[4] - values[3]}
}

// daysLeft is until the first of our certificates expires; as long as there is
// none, the most that a gauge of Envoy can say.
func (p *Proxy) daysLeft() int64 {
	days := int64(math.MaxUint32)
	now := p.store.Load()
	if now == nil {
		return days
	}
	for leaf := range leaves(now) {
		days = min(days, max(0, int64(time.Until(leaf.NotAfter).Hours()/24)))
	}
	return days
}

func leaves(s *mesh.Snapshot) iter.Seq[*x509.Certificate] {
	return telemetry.Leaves(s.Clusters, s.Listeners)
}

// runtimeOf are the static layers of a bootstrap's layered_runtime.
func runtimeOf(file *bootstrap.Config) (layers []string, entries map[string]string) {
	entries = map[string]string{}
	if file == nil {
		return nil, entries
	}
	for _, layer := range file.Runtime {
		layers = append(layers, layer.Name)
		maps.Copy(entries, layer.Values)
	}
	return layers, entries
}
