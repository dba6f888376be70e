package route_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

// Each row is what Envoy 1.36 made of it (integration: TestRouteActionsAsEnvoy).
func TestMatchMore(t *testing.T) {
	t.Parallel()
	yes, no := true, false
	numbers := mesh.Match{Headers: []mesh.HeaderMatch{{Name: "x-n", Range: &mesh.NumberRange{First: -1, End: 10}}}}
	for _, row := range []struct {
		name   string
		match  mesh.Match
		fields []string
		want   bool
	}{
		{"gRPC", mesh.Match{GRPC: true}, []string{"content-type", "application/grpc"}, true},
		{"gRPC of a kind", mesh.Match{GRPC: true}, []string{"content-type", "application/grpc+proto"}, true},
		{"gRPC with a parameter", mesh.Match{GRPC: true}, []string{"content-type", "application/grpc;a=b"}, false},
		{"gRPC-Web", mesh.Match{GRPC: true}, []string{"content-type", "application/grpc-web"}, false},
		{"nobody", mesh.Match{HasShare: true}, nil, false},
		{"everybody", mesh.Match{HasShare: true, Share: 1_000_000}, nil, true},
		{"a certificate", mesh.Match{Certificate: &yes}, nil, false},
		{"no certificate", mesh.Match{Certificate: &no}, nil, true},
		{"in range", numbers, []string{"x-n", " 9 "}, true},
		{"at its end", numbers, []string{"x-n", "10"}, false},
		{"negative", numbers, []string{"x-n", "-1"}, true},
		{"no number", numbers, []string{"x-n", "1x"}, false},
		{"two numbers", numbers, []string{"x-n", "1", "x-n", "2"}, false},
		{"none", numbers, nil, false},
	} {
		req := request("/")
		for i := 0; i < len(row.fields); i += 2 {
			req.Header.Add(row.fields[i], row.fields[i+1])
		}
		x := &wire.Exchange{Peer: &wire.Peer{}}
		if got := rules(t, &mesh.Rule{Match: row.match}).Match(x, req) != nil; got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// An exchange that is matched again, since a layer has changed it or wants to know the rule, draws no other lot.
func TestShareIsDrawnOnce(t *testing.T) {
	t.Parallel()
	table, found := rules(t, &mesh.Rule{Match: mesh.Match{HasShare: true, Share: 500_000}}), map[bool]int{}
	for range 200 {
		x := &wire.Exchange{Peer: &wire.Peer{}}
		first := table.Match(x, request("/")) != nil
		for range 5 {
			if again := table.Match(x, request("/")) != nil; again != first {
				t.Fatal("another lot")
			}
		}
		found[first]++
	}
	if found[true] < 50 || found[false] < 50 {
		t.Errorf("%v", found)
	}
}

func TestHosts(t *testing.T) {
	t.Parallel()
	table := compile(t, &mesh.Route{IgnorePort: true, IgnoreParameters: true, VirtualHosts: []*mesh.VirtualHost{
		{Name: "v", Domains: []string{"v", "[::1]"}, Rules: []*mesh.Rule{{Match: mesh.Match{Path: "/a"}, PrefixRewrite: "/b", HasPrefixRewrite: true}}},
		{Name: "t", Domains: []string{"t"}, TLS: mesh.TLSForAll, Rules: []*mesh.Rule{{Direct: &mesh.DirectResponse{Status: 200}}}},
	}})
	got := map[string]string{}
	for _, ask := range [][2]string{{"v:80", "/a;x?q"}, {"[::1]:80", "/a"}, {"v", "/a/;x"}, {"t:80", "/x?y"}} {
		req := request(ask[1])
		req.Authority, req.Scheme = ask[0], "http"
		rule := table.Match(&wire.Exchange{}, req)
		if rule == nil {
			got[ask[0]+ask[1]] = "none"
			continue
		}
		if resp := rule.Answer(&wire.Exchange{}, req); resp != nil {
			got[ask[0]+ask[1]] = resp.Header.Get("location")
			continue
		}
		rule.Rewrite(req)
		got[ask[0]+ask[1]] = req.Path
	}
	want := map[string]string{"v:80/a;x?q": "/b;x?q", "[::1]:80/a": "/b", "v/a/;x": "none", "t:80/x?y": "https://t:80/x?y"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestNewHostAndCluster(t *testing.T) {
	t.Parallel()
	req := request("/tenant/x")
	req.Header.Add("x-host", "new.example")
	req.Header.Add("x-cluster", "a")
	req.Header.Add("x-cluster", "b")
	for want, rule := range map[string]*mesh.Rule{
		"literal":     {HostRewrite: "literal"},
		"new.example": {HostHeader: "x-host"},
		"":            {HostHeader: "x-other"},
		"x.tenant":    {HostPath: &mesh.RegexRewrite{Pattern: "^/([a-z]+)/([a-z]+)", Substitution: `\2.\1`}},
	} {
		if got := rules(t, rule).Match(&wire.Exchange{}, req).NewHost(req); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
	for header, want := range map[string]string{"x-cluster": "a", "x-other": "", ":authority": req.Authority} {
		if got := route.ClusterOf(&mesh.Target{Header: header}, req); got != want {
			t.Errorf("%s: got %q, want %q", header, got, want)
		}
	}
}
