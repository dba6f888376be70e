package stack_test

import (
	"net"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// keeps is a codec whose connections live on.
type keeps struct{ conns []net.Conn }

func (k *keeps) Serve(conn net.Conn, _ *wire.Peer, _ *wire.Drain) { k.conns = append(k.conns, conn) }

// A connection that intentions deny does not wait behind the limit and the admission
// until it is allowed to: it has passed neither.
func TestGuardedKeepsNobodyWaiting(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string]*mesh.FilterChain{
		"admission": {},
		"limit":     {Limit: &mesh.ConnectionLimit{Max: 1}},
	} {
		behind := &keeps{}
		guard := &stack.Guarded{Next: behind}
		put := func(in *mesh.Intention) {
			chain.Intentions = []*mesh.Intention{in}
			commit, err := guard.Prepare(chain, only("a.example"))
			if err != nil {
				t.Fatal(err)
			}
			commit()
		}
		put(intention(mesh.Allow, "nobody"))
		ours, theirs := net.Pipe()
		if err := theirs.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		guard.Serve(ours, web(t), &wire.Drain{})
		if _, err := theirs.Write([]byte("G")); err == nil || len(behind.conns) > 0 {
			t.Errorf("%s: the connection is kept", name)
		}
		if got := guard.Entrance(); got.Denied != 1 || got.Limit.Active != 0 {
			t.Errorf("%s: %+v", name, got)
		}
		put(intention(mesh.Allow, "web"))
		peer := web(t)
		peer.ServerName = "a.example"
		ours, _ = net.Pipe()
		if guard.Serve(ours, peer, &wire.Drain{}); len(behind.conns) != 1 {
			t.Errorf("%s: who is allowed is not served", name)
		}
	}
}

// Shadow rules count once for a connection, whether something else waits for it or not.
func TestGuardedCountsShadows(t *testing.T) {
	t.Parallel()
	for name, chain := range map[string]*mesh.FilterChain{
		"alone": {}, "beside a limit": {Limit: &mesh.ConnectionLimit{Max: 9}},
	} {
		in := intention(mesh.Allow, "web")
		in.Shadow = intention(mesh.Allow, "nobody")
		chain.Intentions = []*mesh.Intention{in}
		guard := &stack.Guarded{Next: &keeps{}}
		commit, err := guard.Prepare(chain)
		if err != nil {
			t.Fatal(err)
		}
		commit()
		ours, _ := net.Pipe()
		guard.Serve(ours, web(t), &wire.Drain{})
		if got := guard.Entrance(); got.ShadowDenied != 1 || got.ShadowAllowed != 0 {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// What intentions say of a connection is counted, also where its requests are what they
// decide on.
func TestGuardedCountsDecisions(t *testing.T) {
	t.Parallel()
	for name, want := range map[string][2]int64{"web": {1, 0}, "nobody": {0, 1}} {
		guard := &stack.Guarded{Next: &keeps{}}
		commit, err := guard.Prepare(&mesh.FilterChain{Intentions: []*mesh.Intention{intention(mesh.Allow, name)}})
		if err != nil {
			t.Fatal(err)
		}
		commit()
		ours, _ := net.Pipe()
		guard.Serve(ours, web(t), &wire.Drain{})
		if got := guard.Entrance(); got.Allowed != want[0] || got.Denied != want[1] {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

// A call of gRPC that never gets to an endpoint is counted for the cluster that was
// drawn for it, and for no other.
func TestGRPCStatsOfDrawnCluster(t *testing.T) {
	t.Parallel()
	set := clusters(t, nil)
	set.CountIn(&stats.Registry{})
	h := &mesh.HTTP{
		Filters: []mesh.HTTPFilter{{GRPCStats: &mesh.GRPCStats{}}},
		Route: &mesh.Route{VirtualHosts: []*mesh.VirtualHost{{Domains: []string{"*"}, Rules: []*mesh.Rule{{
			Match: mesh.Match{Prefix: "/"}, Targets: []mesh.Target{{Cluster: "a", Weight: 1}, {Cluster: "b", Weight: 1}},
		}}}}},
	}
	service, err := stack.HTTP(h, nil, set)
	if err != nil {
		t.Fatal(err)
	}
	drawn := map[string]int64{}
	for range 100 {
		x := exchange(web(t))
		x.GRPC = true
		req := &wire.Request{Method: "POST", Scheme: "http", Authority: "h", Path: "/s/m", Proto: 2}
		req.Header.Add("content-type", "application/grpc")
		if _, err := service.Serve(x, req); err == nil {
			t.Fatal("it is served")
		}
		x.Done(x.Start)
		drawn[x.Cluster]++
		if got := counterOf(set, "cluster."+x.Cluster+".grpc.total"); got != drawn[x.Cluster] {
			t.Fatalf("%s: %d of %d calls are counted", x.Cluster, got, drawn[x.Cluster])
		}
	}
	if len(drawn) != 2 {
		t.Errorf("%v", drawn)
	}
}

// A cluster that a client makes up is no name to count by.
func TestGRPCStatsOfNoCluster(t *testing.T) {
	t.Parallel()
	set := clusters(t, nil)
	set.CountIn(&stats.Registry{})
	service, err := stack.HTTP(&mesh.HTTP{
		Filters: []mesh.HTTPFilter{{GRPCStats: &mesh.GRPCStats{}}},
		Route: &mesh.Route{VirtualHosts: []*mesh.VirtualHost{{Domains: []string{"*"}, Rules: []*mesh.Rule{{
			Match: mesh.Match{Prefix: "/"}, Targets: []mesh.Target{{Header: "x-to"}},
		}}}}},
	}, nil, set)
	if err != nil {
		t.Fatal(err)
	}
	x := exchange(web(t))
	x.GRPC = true
	req := &wire.Request{Method: "POST", Scheme: "http", Authority: "h", Path: "/s/m", Proto: 2}
	req.Header.Add("content-type", "application/grpc")
	req.Header.Add("x-to", "made-up")
	service.Serve(x, req) //nolint:errcheck // nobody serves it
	x.Done(x.Start)
	for s := range set.Registry().All() {
		if strings.Contains(s.Name, "made-up") {
			t.Error(s.Name)
		}
	}
}

func counterOf(set *upstream.Set, name string) int64 {
	for s := range set.Registry().All() {
		if s.Name == name {
			return s.Value
		}
	}
	return 0
}
