package edge_test

import (
	"io"
	"log/slog"
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge"
	"github.com/serai-net/serai/edge/auth"
	"github.com/serai-net/serai/edge/consumer"
)

// BenchmarkServe is what the edge itself costs a request: everything but codecs
// and upstream. (The upstream here refuses at once, for which it makes a Fault.)
func BenchmarkServe(b *testing.B) {
	a := apiOf("orders", "/orders", []string{"orders.example.com"}, "/v1*", "/v2*", "~/[a-z]+/[0-9]+")
	a.Authenticate = &auth.Config{Kind: "api_key"}
	for i := range a.Routes {
		a.Routes[i].Upstream = &edge.Upstream{Addresses: []string{"192.0.2.1:1"}}
	}
	g, err := edge.New(edge.Config{
		Listeners: []edge.Listener{listener()}, APIs: []edge.API{a},
		Consumers: []consumer.Config{{Name: "acme", Plan: "gold", Keys: []consumer.KeyConfig{{Name: "k", Key: "secret"}}}},
		AccessLog: &telemetry.AccessLogConfig{Format: "json"},
	}, edge.Deps{Log: slog.New(slog.DiscardHandler), Stdout: io.Discard})
	if err != nil {
		b.Fatal(err)
	}
	for _, row := range []struct{ name, key, path string }{
		{"denied", "wrong", "/orders/v1/list"},
		{"unrouted", "secret", "/other"},
	} {
		b.Run(row.name, func(b *testing.B) {
			service := g.Service("public")
			peer := &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.7:4711")}
			x := &wire.Exchange{}
			var req wire.Request
			b.ReportAllocs()
			for b.Loop() {
				req.Method, req.Scheme, req.Authority, req.Path = "GET", "http", "orders.example.com", row.path
				req.Header.Reset()
				for _, f := range []wire.Field{
					{Name: "user-agent", Value: "bench"}, {Name: "accept", Value: "*/*"}, {Name: "x-api-key", Value: row.key},
				} {
					req.Header.Add(f.Name, f.Value)
				}
				now := time.Now()
				x.Reset(nil, peer, now)
				if _, err := service.Serve(x, &req); err == nil {
					b.Fatal("served")
				}
				x.Done(now)
			}
		})
	}
}
