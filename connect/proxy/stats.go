package proxy

import (
	"iter"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/stats"
)

// Stats implements [admin.Source].
func (p *Proxy) Stats() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for stat := range p.registry.All() {
			if stat.Kind != stats.KindText && stat.Kind != stats.KindHistogram && !yield(stat.Name, stat.Value) {
				return
			}
		}
	}
}

// samples are all that the parts of the proxy count, for metrics.
func (p *Proxy) samples() iter.Seq[telemetry.Sample] {
	return func(yield func(telemetry.Sample) bool) {
		parts := []iter.Seq[telemetry.Sample]{
			telemetry.Ready(p.Ready), p.xds(),
			telemetry.Listeners(p.listeners.Stats()), telemetry.Clusters(p.clusters.Stats()), p.observe.AccessLog().Lines(),
		}
		if codecs := p.chains.codecs.Load(); codecs != nil {
			parts = append(parts, telemetry.Codecs(*codecs))
		}
		if now := p.store.Load(); now != nil {
			served, told := telemetry.Leaves(now.Clusters, now.Listeners), telemetry.Leaves(p.watcher.Received())
			parts = append(parts, telemetry.Expiry(served), telemetry.ExpiryLag(served, told))
		}
		for _, part := range parts {
			for sample := range part {
				if !yield(sample) {
					return
				}
			}
		}
	}
}

// xds tells how the configuration comes from Consul.
func (p *Proxy) xds() iter.Seq[telemetry.Sample] {
	status := p.watcher.Status()
	return telemetry.ControlPlane(status.All())
}
