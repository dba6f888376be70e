package edge_test

import (
	"fmt"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge"
)

// BenchmarkRoutes is what a request costs the edge itself when there are many
// routes, of which a thousand are used in turn. Between requests a codec and the
// kernel would use the processor's caches: so does this. The upstream has no
// endpoint, for which it makes a Fault.
func BenchmarkRoutes(b *testing.B) {
	for _, n := range []int{10, 1000, 10000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			paths := make([]string, n)
			routes := make([]string, n)
			for i := range paths {
				paths[i] = fmt.Sprintf("/service-%05d/", i)
				routes[i] = paths[i] + "*"
			}
			rand.Shuffle(n, func(i, j int) { paths[i], paths[j] = paths[j], paths[i] })
			paths = paths[:min(n, 1000)]
			service := manyRoutes(b, routes)
			others := make([]byte, 512<<10)
			peer := &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.7:4711")}
			x := &wire.Exchange{}
			var req wire.Request
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				for at := 0; at < len(others); at += 64 {
					others[at]++
				}
				req.Method, req.Scheme, req.Authority, req.Path = "GET", "http", "bench.test", paths[i%len(paths)]
				i++
				req.Header.Reset()
				req.Header.Add("user-agent", "bench")
				now := time.Now()
				x.Reset(nil, peer, now)
				if _, err := service.Serve(x, &req); err == nil || x.Cluster == "" {
					b.Fatal("no upstream was asked")
				}
				x.Done(now)
			}
		})
	}
}

// manyRoutes is an open API that forwards all routes to one service.
func manyRoutes(b *testing.B, routes []string) wire.Service {
	b.Helper()
	consul, err := consulapi.NewClient(consulapi.DefaultConfig()) // is not asked before Run
	if err != nil {
		b.Fatal(err)
	}
	a := apiOf("many", "", nil, routes...)
	for i := range a.Routes {
		a.Routes[i].Upstream = &edge.Upstream{Catalog: "nobody"}
	}
	g, err := edge.New(edge.Config{Listeners: []edge.Listener{listener()}, APIs: []edge.API{a}},
		edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: io.Discard, Consul: consul})
	if err != nil {
		b.Fatal(err)
	}
	return g.Service("public")
}
