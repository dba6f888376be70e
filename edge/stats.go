package edge

import (
	"crypto/x509"
	"iter"

	"github.com/serai-net/serai/agent/telemetry"
)

// Stats yields what the parts of the edge count, with Envoy's names where there
// are such.
func (g *Gateway) Stats() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		for _, l := range g.listeners.Stats() {
			for name, value := range l.All() {
				if !yield("listener."+l.Name+"."+name, value) {
					return
				}
			}
		}
		for _, c := range append(g.plain.Stats(), g.mesh.clusters.Stats()...) {
			for name, value := range c.All() {
				if !yield("cluster."+c.Name+"."+name, value) {
					return
				}
			}
		}
		for _, p := range g.PluginStats() {
			for name, value := range p.All() {
				if !yield("plugin."+p.Name+"."+name, value) {
					return
				}
			}
		}
	}
}

// samples are the same for metrics, and some more.
func (g *Gateway) samples() iter.Seq[telemetry.Sample] {
	return func(yield func(telemetry.Sample) bool) {
		codecs, leaves := g.living()
		for _, part := range []iter.Seq[telemetry.Sample]{
			telemetry.Listeners(g.listeners.Stats()), telemetry.Codecs(codecs),
			telemetry.Clusters(append(g.plain.Stats(), g.mesh.clusters.Stats()...)),
			g.accessLog.Lines(), telemetry.Expiry(leaves), pluginSamples(g.PluginStats()),
		} {
			for sample := range part {
				if !yield(sample) {
					return
				}
			}
		}
	}
}

// living are the codecs of listeners, and the certificates that are shown, to
// clients and in the mesh.
func (g *Gateway) living() ([]telemetry.Codec, iter.Seq[*x509.Certificate]) {
	g.mu.Lock()
	defer g.mu.Unlock()
	var codecs []telemetry.Codec
	var leaves []*x509.Certificate
	for i := range g.current.Listeners {
		f := g.fronts[g.current.Listeners[i].Name]
		codecs = append(codecs, f.codec)
		if f.certificate != nil {
			leaves = append(leaves, f.certificate.Leaves()...)
		}
	}
	return codecs, func(yield func(*x509.Certificate) bool) {
		for _, leaf := range leaves {
			if !yield(leaf) {
				return
			}
		}
		if clusters := g.mesh.certified.Load(); clusters != nil {
			telemetry.Leaves(*clusters, nil)(yield)
		}
	}
}
