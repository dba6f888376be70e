package proxy

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/xds"
)

// Check compiles a snapshot as a [Proxy] would and returns what of it would be
// refused: what its nouns say of themselves, and filter chains and clusters that
// were decoded but cannot be served. Nothing is bound, dialed or started.
func Check(next *mesh.Snapshot, log *slog.Logger) []xds.Refusal {
	clusters := upstream.NewSet(log)
	defer clusters.Close()
	refused := xds.Refusals(next)
	commit, err := clusters.Prepare(next.Clusters)
	if err != nil {
		return append(refused, xds.Refusal{Kind: "cluster", Reason: err.Error()})
	}
	commit()
	for _, c := range sorted(next.Clusters) {
		if reason := clusters.Cluster(c.Name).Refusal(); reason != "" {
			refused = append(refused, xds.Refusal{Kind: "cluster", Name: c.Name, Reason: reason})
		}
	}
	cs := &chains{clusters: clusters, loader: &mtls.Loader{}, log: log}
	for _, l := range sorted(next.Listeners) {
		for i, d := range definitions(l) {
			if reason := cs.refusal(l, i, d, next.Routes); reason != "" {
				refused = append(refused, xds.Refusal{Kind: "filter chain", Name: l.Name, Reason: reason})
			}
		}
	}
	slices.SortFunc(refused, func(a, b xds.Refusal) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(refused)
}

// refusal is why a chain would close every connection, "" if it would serve.
func (cs *chains) refusal(l *mesh.Listener, i int, d *mesh.FilterChain, routes map[string]*mesh.Route) string {
	if d.Refusal != "" {
		return d.Refusal
	}
	if reason := unsupported(d); reason != "" {
		return reason
	}
	if _, _, err := cs.compile(l, i, d, routes); err != nil {
		return err.Error()
	}
	return ""
}
