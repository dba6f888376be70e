package stack_test

import (
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// explained is the chain that the rows of TestExplain ask.
func explained() *mesh.HTTP {
	web := mesh.StringMatch{Kind: mesh.MatchExact, Exact: "spiffe://td/ns/default/dc/dc1/svc/web"}
	return &mesh.HTTP{
		NormalizePath: true,
		Filters: []mesh.HTTPFilter{
			{Intention: &mesh.Intention{Action: mesh.Deny, Policies: []mesh.IntentionPolicy{{
				Name: "no-admin", Permissions: []mesh.Permission{{Path: &mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/admin"}}},
				Principals: []mesh.Principal{{Name: &web}},
			}}}},
			{GRPCWeb: true},
		},
		Route: &mesh.Route{Name: "public", VirtualHosts: []*mesh.VirtualHost{{
			Name: "all", Domains: []string{"*"}, Rules: []*mesh.Rule{
				{Name: "moved", Match: mesh.Match{Path: "/old"}, Redirect: &mesh.Redirect{Path: "/new", Status: 301}},
				{
					Name: "split", Match: mesh.Match{Prefix: "/api", Headers: []mesh.HeaderMatch{{Name: "x-new", Present: true}}},
					Targets: []mesh.Target{{Cluster: "a", Weight: 9000}, {Cluster: "b", Weight: 999}}, Timeout: 7 * time.Second,
					HasPrefixRewrite: true, PrefixRewrite: "/v2", Retry: &mesh.Retry{On: mesh.Retry5xx | mesh.RetryReset, Retries: 3},
				},
				{Name: "refused", Match: mesh.Match{Prefix: "/odd"}, Refusal: "what is this"},
				{Name: "rest", Match: mesh.Match{Prefix: "/"}, Targets: []mesh.Target{{Cluster: "gone"}}},
			},
		}}},
	}
}

func TestExplain(t *testing.T) {
	t.Parallel()
	clusters := upstream.NewSet(slog.New(slog.DiscardHandler))
	t.Cleanup(clusters.Close)
	endpoint := func(port uint16, health mesh.Health) mesh.Endpoint {
		return mesh.Endpoint{Address: mesh.Address{AddrPort: netip.AddrPortFrom(netip.MustParseAddr("10.0.0.1"), port)}, Weight: 1, Health: health}
	}
	commit, err := clusters.Prepare(map[string]*mesh.Cluster{
		"a": {Name: "a", Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{Endpoints: []mesh.Endpoint{endpoint(1, mesh.Healthy), endpoint(2, mesh.Unhealthy)}}},
		"b": {Name: "b", Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{}},
	})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	id, err := spiffe.Parse("spiffe://td/ns/default/dc/dc1/svc/web")
	if err != nil {
		t.Fatal(err)
	}
	explain := func(path string, header ...string) *stack.Explanation {
		t.Helper()
		req := &wire.Request{Method: "GET", Scheme: "http", Authority: "web", Path: path, Proto: 1, Minor: 1}
		for _, name := range header {
			req.Header.Add(name, "1")
		}
		e, err := stack.Explain(explained(), nil, clusters, stack.Place{}, &wire.Peer{ID: id}, req)
		if err != nil {
			t.Fatal(err)
		}
		return e
	}

	denied := explain("/x/../admin")
	if denied.Path != "/admin" || denied.Answer == nil || denied.Answer.Status != 403 || denied.Answer.Why != "rbac: RBAC: access denied" ||
		denied.Filters[0].Verdict != "answers" || denied.Filters[0].Intentions[0].By != "no-admin" || len(denied.Filters) != 1 {
		t.Errorf("got %+v", denied)
	}
	split := explain("/api/x", "x-new")
	if split.Forward == nil || split.Answer != nil || split.Forward.Path != "/v2/x" || split.Forward.Timeout != "7s" ||
		split.Forward.Retry != "3 more tries on 5xx,reset" || len(split.Forward.Targets) != 2 {
		t.Fatalf("got %+v", split)
	}
	if got := split.Forward.Targets[0]; got.Percent < 90 || got.Percent > 90.1 || !got.Cluster.Endpoints[0].Candidate ||
		got.Cluster.Endpoints[1].Candidate || got.Cluster.Endpoints[1].Why != "it is unhealthy" {
		t.Errorf("got %+v", got)
	}
	if got := split.Filters; got[0].Verdict != "passes" || got[0].Intentions[0].Policies[0].Why != "what is asked for is none of its permissions" ||
		got[1].Name != "grpcweb" || got[1].Verdict != "not asked" {
		t.Errorf("got %+v", got)
	}
	var why []string
	for _, r := range explain("/api/x").Rules {
		why = append(why, r.Name+": "+r.Why)
	}
	want := []string{`moved: path "/api/x" does not match`, `split: header "x-new" does not match`, `refused: path "/api/x" does not match`, "rest: "}
	if diff := cmp.Diff(want, why); diff != "" {
		t.Error(diff)
	}
	for path, want := range map[string]stack.Answer{
		"/old": {Status: 301, Location: "http://web/new", Why: "the route"},
		"/odd": {Status: 503, Why: `the route: configuration not understood by this proxy: route "public": what is this`},
	} {
		if got := explain(path).Answer; got == nil || *got != want {
			t.Errorf("%s: got %+v", path, got)
		}
	}
	rest := explain("/rest").Forward
	if rest == nil || !strings.Contains(rest.Targets[0].Cluster.Refusal, "not known") {
		t.Errorf("got %+v", rest)
	}
}
