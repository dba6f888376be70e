package edge_test

import (
	"context"
	"io"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge"
)

// meshGateway has routes to web, and to web in dc2, at a Consul that is away.
func meshGateway(t *testing.T) *edge.Gateway {
	t.Helper()
	consul, err := catalog.NewClient(catalog.Config{Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	a := edge.API{Name: "a", Routes: []edge.Route{
		{Name: "web", PathPrefix: "/web", Upstream: &edge.Upstream{Service: "web"}},
		{Name: "far", PathPrefix: "/far", Upstream: &edge.Upstream{Service: "web", Datacenter: "dc2"}},
	}}
	g, err := edge.New(edge.Config{Listeners: []edge.Listener{listener()}, APIs: []edge.API{a}},
		edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: io.Discard, Consul: consul, Mesh: func(context.Context, string, *upstream.Set, edge.Stage) error { return nil }})
	if err != nil {
		t.Fatal(err)
	}
	return g
}

// commit puts a snapshot of outbound listeners in force.
func commit(t *testing.T, g *edge.Gateway, listeners ...*mesh.Listener) {
	t.Helper()
	next := &mesh.Snapshot{Listeners: map[string]*mesh.Listener{
		// the edge's own, which must not be taken for one of its upstreams
		"public_listener": {Name: "public_listener", Address: mesh.Address{AddrPort: netip.MustParseAddrPort("127.0.0.1:1")}},
	}}
	for _, l := range listeners {
		next.Listeners[l.Name] = l
	}
	put, err := g.MeshStage().Prepare(next)
	if err != nil {
		t.Fatal(err)
	}
	put()
}

func outbound(socket string, chain *mesh.FilterChain) *mesh.Listener {
	return &mesh.Listener{
		Name: "web:" + socket, Direction: mesh.Outbound, Address: mesh.Address{Socket: socket}, Chains: []*mesh.FilterChain{chain},
	}
}

// direct answers without an upstream.
func direct(status int) *mesh.FilterChain {
	rule := &mesh.Rule{Match: mesh.Match{Prefix: "/"}, Direct: &mesh.DirectResponse{Status: status, Body: "direct"}}
	return &mesh.FilterChain{HTTP: &mesh.HTTP{Route: &mesh.Route{
		Name: "web", VirtualHosts: []*mesh.VirtualHost{{Name: "web", Domains: []string{"*"}, Rules: []*mesh.Rule{rule}}},
	}}}
}

// answer is the status, and the cause of a fault.
func answer(g *edge.Gateway, req *wire.Request) (int, string) {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	defer func() { x.Done(time.Now()) }()
	resp, err := g.Service("public").Serve(x, req)
	if err != nil {
		return wire.AsFault(err).Status, err.Error()
	}
	return resp.Status, ""
}

func TestMeshServices(t *testing.T) {
	const web, far = "serai-edge/web.sock", "serai-edge/dc2/web.sock"
	tcp := &mesh.FilterChain{TCP: &mesh.TCPProxy{Targets: []mesh.Target{{Cluster: "web.default.dc1"}}}}
	for _, row := range []struct {
		name      string
		listeners []*mesh.Listener
		path      string
		status    int
		cause     string
	}{
		{"nothing", nil, "/web", 503, `service "web" is not in the mesh yet`},
		{"http", []*mesh.Listener{outbound(web, direct(207))}, "/web", 207, ""},
		{"the other datacenter", []*mesh.Listener{outbound(web, direct(207)), outbound(far, direct(208))}, "/far", 208, ""},
		{"only the other", []*mesh.Listener{outbound(web, direct(207))}, "/far", 503, `service "web" in datacenter "dc2" is not in the mesh yet`},
		{"tcp", []*mesh.Listener{outbound(web, tcp)}, "/web", 503, `cluster "web.default.dc1" is not known`},
		{"not understood", []*mesh.Listener{outbound(web, &mesh.FilterChain{Refusal: "filter x"})}, "/web", 503, "filter x"},
		{"listener not understood", []*mesh.Listener{{Name: "web", Address: mesh.Address{Socket: web}, Refusal: "no"}}, "/web", 503, "no"},
		{"no chain", []*mesh.Listener{{Name: "web", Address: mesh.Address{Socket: web}}}, "/web", 503, "has no filter chain"},
		{"no end", []*mesh.Listener{outbound(web, &mesh.FilterChain{})}, "/web", 503, "has no end"},
		{"bad regex", []*mesh.Listener{outbound(web, &mesh.FilterChain{HTTP: &mesh.HTTP{Route: &mesh.Route{
			VirtualHosts: []*mesh.VirtualHost{{Domains: []string{"*"}, Rules: []*mesh.Rule{{Match: mesh.Match{Regex: "("}}}}},
		}}})}, "/web", 503, "http chain"},
	} {
		t.Run(row.name, func(t *testing.T) {
			g := meshGateway(t)
			commit(t, g, row.listeners...)
			status, cause := answer(g, request("GET "+row.path))
			if status != row.status || !strings.Contains(cause, row.cause) {
				t.Errorf("%d %q, want %d %q", status, cause, row.status, row.cause)
			}
		})
	}
}

// A snapshot takes effect with no reload of the edge, and one without the
// service any more too.
func TestMeshServicesFollowSnapshots(t *testing.T) {
	g := meshGateway(t)
	for _, want := range []int{207, 208, 503} {
		if want == 503 {
			commit(t, g)
		} else {
			commit(t, g, outbound("serai-edge/web.sock", direct(want)))
		}
		if got, cause := answer(g, request("GET /web")); got != want {
			t.Errorf("%d %s, want %d", got, cause, want)
		}
	}
}
