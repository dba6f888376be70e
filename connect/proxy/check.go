package proxy

import (
	"cmp"
	"log/slog"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/listen"
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
		for _, reason := range cs.refusals(l, next.Routes) {
			refused = append(refused, xds.Refusal{Kind: "filter chain", Name: l.Name, Reason: reason})
		}
	}
	slices.SortFunc(refused, func(a, b xds.Refusal) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), strings.Compare(a.Name, b.Name), strings.Compare(a.Reason, b.Reason))
	})
	return slices.Compact(refused)
}

// refusals are why chains of l would close every connection.
func (cs *chains) refusals(l *mesh.Listener, routes map[string]*mesh.Route) []string {
	var reasons []string
	chains, fallback := definitions(l)
	if fallback != nil {
		chains = append(slices.Clone(chains), fallback)
	}
	var entries []listen.Entry
	for _, d := range chains {
		if d != fallback {
			entries = append(entries, listen.Entry{Match: d.Match, Chain: &listen.Chain{Name: d.Name}})
		}
		if d.Refusal != "" {
			reasons = append(reasons, d.Refusal)
		} else if _, _, _, err := cs.compile(l, d, routes, nil); err != nil {
			reasons = append(reasons, err.Error())
		}
	}
	if _, err := listen.NewTable(entries, nil); err != nil {
		reasons = append(reasons, err.Error())
	}
	return reasons
}
