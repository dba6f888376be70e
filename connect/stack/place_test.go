package stack_test

import (
	"net/netip"
	"runtime"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// A port goes off the authority before a virtual host is chosen.
func TestStripPort(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		any, local bool
		authority  string
		want       int
	}{
		{false, false, "a.test:80", 404},
		{true, false, "a.test:80", 200},
		{true, false, "a.test", 200},
		{false, true, "a.test:80", 200},
		{false, true, "a.test:81", 404},
		{true, false, "[::1]:80", 201},
		{true, false, "[::1]", 201},
	} {
		rule := func(status int) []*mesh.Rule {
			return []*mesh.Rule{{Match: mesh.Match{Prefix: "/"}, Direct: &mesh.DirectResponse{Status: status}}}
		}
		service, err := stack.HTTP(&mesh.HTTP{StripPort: tt.any, StripLocalPort: tt.local, Route: &mesh.Route{VirtualHosts: []*mesh.VirtualHost{
			{Domains: []string{"a.test"}, Rules: rule(200)}, {Domains: []string{"[::1]"}, Rules: rule(201)},
		}}}, nil, upstream.NewSet(nil))
		if err != nil {
			t.Fatal(err)
		}
		if got := status(service, tt.authority); got != tt.want {
			t.Errorf("%+v: status %d", tt, got)
		}
	}
}

func status(service wire.Service, authority string) int {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Local: netip.MustParseAddrPort("127.0.0.1:80")}, time.Now())
	resp, err := service.Serve(x, &wire.Request{Method: "GET", Scheme: "http", Authority: authority, Path: "/", Proto: 1, Minor: 1})
	if err != nil {
		resp = wire.Reply(x, err)
	}
	x.Done(time.Now())
	return resp.Status
}

// A filter that is skipped is counted; a script goes on with its globals when its
// chain is compiled anew, and is forgotten with it.
func TestExtensions(t *testing.T) {
	t.Parallel()
	registry := &stats.Registry{}
	clusters := upstream.NewSet(nil)
	clusters.CountIn(registry)
	kept := &stack.Kept{}
	compile := func(script string) wire.Service {
		service, err := stack.HTTPAt(&mesh.HTTP{
			StatPrefix: "p", Filters: []mesh.HTTPFilter{{Skipped: "w"}, {Lua: &mesh.Lua{Code: script}}},
			Route: &mesh.Route{VirtualHosts: []*mesh.VirtualHost{{Domains: []string{"*"}}}},
		}, nil, clusters, stack.Place{Kept: kept})
		if err != nil {
			t.Fatal(err)
		}
		return service
	}
	const script = `n = 0 function envoy_on_request(h) n = n + 1 h:respond({[":status"] = tostring(200 + n)}) end`
	first := compile(script)
	if got := status(first, "a"); got != 201 {
		t.Errorf("status %d", got)
	}
	second := compile(script)
	if got := status(second, "a"); got != 202 {
		t.Errorf("a script has forgotten its globals: status %d", got)
	}
	runtime.KeepAlive(first)
	counts := map[string]int64{}
	for s := range registry.All() {
		counts[s.Name] = s.Value
	}
	if counts["http.p.skipped.w"] != 2 || counts["http.p.lua.executions"] != 2 {
		t.Errorf("%v", counts)
	}
	if _, err := stack.HTTPAt(&mesh.HTTP{
		Filters: []mesh.HTTPFilter{{Lua: &mesh.Lua{Code: "function"}}}, Route: &mesh.Route{},
	}, nil, clusters, stack.Place{Kept: kept}); err == nil {
		t.Error("a script that does not compile is taken")
	}
}
