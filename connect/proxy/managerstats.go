package proxy

import (
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/resource"
)

// number is one of those that are told by hand.
type number struct {
	name  string
	kind  stats.Kind
	value int64
}

func each(prefix string, all []number, yield func(stats.Stat) bool) (more bool) {
	for _, one := range all {
		if !yield(stats.Stat{Owner: prefix, Name: one.name, Kind: one.kind, Value: one.value}) {
			return false
		}
	}
	return true
}

// countedManagers tells how configuration comes, and what became of it.
func (p *Proxy) countedManagers(yield func(stats.Stat) bool) bool {
	s := p.watcher.Status()
	now := p.store.Load()
	if now == nil {
		now = &mesh.Snapshot{}
	}
	connected := int64(0)
	if s.Connected {
		connected = 1
	}
	listeners, chains := p.listeners.Draining()
	layers, entries := runtimeOf(p.config.Bootstrap)
	return each("", []number{
		{"control_plane.connected_state", stats.KindGauge, connected},
		{"control_plane.pending_requests", stats.KindGauge, 0},
		{"control_plane.rate_limit_enforced", stats.KindCounter, 0},
		{"runtime.num_keys", stats.KindGauge, int64(len(entries))},
		{"runtime.num_layers", stats.KindGauge, int64(len(layers))},
		{"runtime.admin_overrides_active", stats.KindGauge, 0},
		{"cluster_manager.active_clusters", stats.KindGauge, int64(len(now.Clusters))},
		{"cluster_manager.warming_clusters", stats.KindGauge, int64(s.WarmingClusters)},
		{"cluster_manager.cluster_added", stats.KindCounter, int64(s.Clusters.Added)},
		{"cluster_manager.cluster_modified", stats.KindCounter, int64(s.Clusters.Modified)},
		{"cluster_manager.cluster_removed", stats.KindCounter, int64(s.Clusters.Removed)},
		{"cluster_manager.cds.config_reload", stats.KindCounter, int64(now.Version)},
		{"listener_manager.total_listeners_active", stats.KindGauge, int64(len(now.Listeners))},
		{"listener_manager.total_listeners_warming", stats.KindGauge, int64(s.WarmingListeners)},
		{"listener_manager.total_listeners_draining", stats.KindGauge, int64(listeners)},
		{"listener_manager.total_filter_chains_draining", stats.KindGauge, int64(chains)},
		{"listener_manager.workers_started", stats.KindGauge, 1},
		{"listener_manager.listener_added", stats.KindCounter, int64(s.Listeners.Added)},
		{"listener_manager.listener_modified", stats.KindCounter, int64(s.Listeners.Modified)},
		{"listener_manager.listener_removed", stats.KindCounter, int64(s.Listeners.Removed)},
	}, yield) &&
		yield(stats.Stat{Name: "control_plane.identifier", Kind: stats.KindText, Text: s.ControlPlane}) &&
		subscribed("cluster_manager.cds.", s.Types[resource.ClusterType], &s, yield) &&
		subscribed("listener_manager.lds.", s.Types[resource.ListenerType], &s, yield) &&
		p.countedRoutes(&s, now, yield) && ours(&s, yield) &&
		stats.Zeros("cluster_manager.", "update_merge_cancelled update_out_of_merge_window", yield)
}

// ours are numbers of the stream that Envoy has no names for.
func ours(s *xds.Status, yield func(stats.Stat) bool) bool {
	for name, value := range s.All() {
		if !yield(stats.Stat{Owner: "control_plane.", Name: name, Kind: stats.KindGauge, Value: value}) {
			return false
		}
	}
	return true
}

// subscribed tells what came of one subscription, as Envoy counts it: each response and
// each stream that was lost is an attempt, and so was the first request.
func subscribed(prefix string, t xds.TypeStatus, s *xds.Status, yield func(stats.Stat) bool) bool {
	at := int64(0)
	if !t.Last.IsZero() {
		at = t.Last.UnixMilli()
	}
	return each(prefix, []number{
		{"update_attempt", stats.KindCounter, 1 + int64(t.Taken+t.Rejected+s.Downs)},
		{"update_success", stats.KindCounter, int64(t.Taken)},
		{"update_rejected", stats.KindCounter, int64(t.Rejected)},
		{"update_failure", stats.KindCounter, int64(s.Downs)},
		{"init_fetch_timeout", stats.KindCounter, int64(t.TimedOut)},
		{"version", stats.KindGauge, int64(s.Version)},
		{"update_time", stats.KindGauge, at},
	}, yield) && yield(stats.Stat{Owner: prefix, Name: "version_text", Kind: stats.KindText, Text: t.Version})
}

// countedRoutes tells what came of route tables, below the connection managers that
// use them.
func (p *Proxy) countedRoutes(s *xds.Status, now *mesh.Snapshot, yield func(stats.Stat) bool) bool {
	updates := p.watcher.Updates(resource.RouteType)
	seen := map[string]bool{}
	for _, l := range now.Listeners {
		for _, d := range l.Chains {
			if d.HTTP == nil || d.HTTP.RouteName == "" {
				continue
			}
			owner := "http." + stats.Name(d.HTTP.StatPrefix) + ".rds." + stats.Name(d.HTTP.RouteName) + "."
			if seen[owner] {
				continue
			}
			seen[owner] = true
			if !subscribed(owner, updates[d.HTTP.RouteName], s, yield) {
				return false
			}
		}
	}
	return true
}
