package proxy_test

import (
	"bufio"
	"context"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// serveHTTP serves connections until the benchmark ends.
func serveHTTP(b *testing.B, service wire.Service) netip.AddrPort {
	b.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { l.Close() })
	server := http1.NewServer(http1.Config{}, func() wire.Service { return service }, slog.New(slog.DiscardHandler))
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go server.Serve(conn, &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.1:1")}, nil)
		}
	}()
	return netip.MustParseAddrPort(l.Addr().String())
}

// localApp is a set with one application, as cluster local_app.
func localApp(b *testing.B) *upstream.Set {
	b.Helper()
	app := serveHTTP(b, wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return wire.Text(http.StatusOK, "hello"), nil
	}))
	clusters := upstream.NewSet(slog.New(slog.DiscardHandler))
	commit, err := clusters.Prepare(map[string]*mesh.Cluster{"local_app": {
		Name: "local_app", Kind: mesh.ClusterStatic,
		Endpoints: &mesh.EndpointSet{Endpoints: []mesh.Endpoint{{Address: mesh.Address{AddrPort: app}, Weight: 1}}},
	}})
	if err != nil {
		b.Fatal(err)
	}
	commit()
	b.Cleanup(clusters.Close)
	return clusters
}

// publicListener is a chain that leads to localApp through filters.
func publicListener(b *testing.B, filters ...mesh.HTTPFilter) wire.Service {
	b.Helper()
	service, err := stack.HTTP(&mesh.HTTP{Filters: filters, Route: &mesh.Route{Name: "public_listener", VirtualHosts: []*mesh.VirtualHost{{
		Domains: []string{"*"}, Rules: []*mesh.Rule{{Match: mesh.Match{Prefix: "/"}, Timeout: 15 * time.Second, Targets: []mesh.Target{{Cluster: "local_app", Weight: 1}}}},
	}}}}, nil, localApp(b))
	if err != nil {
		b.Fatal(err)
	}
	return service
}

// exchanges makes one exchange after the other on a connection to service.
func exchanges(b *testing.B, service wire.Service) {
	b.Helper()
	conn, err := net.Dial("tcp", serveHTTP(b, service).String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.WriteString(conn, "GET /a HTTP/1.1\r\nHost: web\r\nUser-Agent: bench\r\n\r\n"); err != nil {
			b.Fatal(err)
		}
		length := 0
		for { // the head, by hand: net/http would cost more than all else
			line, err := answers.ReadSlice('\n')
			if err != nil {
				b.Fatal(err)
			}
			if len(line) > 16 && string(line[:16]) == "content-length: " {
				length = int(line[16] - '0')
			}
			if len(line) == 2 {
				break
			}
		}
		if _, err := answers.Discard(length); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkChain is a whole exchange over loopback through what Consul sends for the public listener of a service of
// protocol http, piece by piece.
func BenchmarkChain(b *testing.B) {
	filters := []mesh.HTTPFilter{
		{Intention: &mesh.Intention{Action: mesh.Deny}},
		{Metadata: &mesh.HeaderToMetadata{Request: []mesh.MetadataRule{
			{Header: "x-forwarded-client-cert", Present: &mesh.MetadataValue{Namespace: "consul", Key: "service"}},
		}}},
	}
	b.Run("router", func(b *testing.B) { exchanges(b, publicListener(b)) })
	b.Run("filters", func(b *testing.B) { exchanges(b, publicListener(b, filters...)) })
	b.Run("filters and conduct", func(b *testing.B) {
		exchanges(b, wire.Stack(publicListener(b, filters...), stack.Conduct(mesh.Conduct{})))
	})
}

// BenchmarkObserve is a whole exchange over loopback, client to sidecar to
// application and back, by what is seen of it.
func BenchmarkObserve(b *testing.B) {
	log := slog.New(slog.DiscardHandler)
	service := publicListener(b)
	place := telemetry.Place{Direction: telemetry.Inbound, Service: "web", Listener: "public_listener"}
	for _, row := range []struct {
		name   string
		layers func(b *testing.B) []wire.Layer
	}{
		{"nothing", func(*testing.B) []wire.Layer { return nil }},
		{"metrics", func(*testing.B) []wire.Layer {
			o := telemetry.NewObserver(telemetry.NewMetrics(nil), telemetry.NewAccessLog(io.Discard, log))
			return []wire.Layer{o.HTTP(place)}
		}},
		{"metrics and access log", func(b *testing.B) []wire.Layer {
			b.Helper()
			l := telemetry.NewAccessLog(io.Discard, log)
			commit, err := l.Prepare(&telemetry.AccessLogConfig{Format: "json"})
			if err != nil {
				b.Fatal(err)
			}
			commit()
			o := telemetry.NewObserver(telemetry.NewMetrics(nil), l)
			ctx, cancel := context.WithCancel(context.Background())
			done := make(chan error)
			go func() { done <- o.Run(ctx) }()
			b.Cleanup(func() {
				cancel()
				if err := <-done; err != nil {
					b.Error(err)
				}
			})
			return []wire.Layer{o.HTTP(place)}
		}},
	} {
		b.Run(row.name, func(b *testing.B) {
			exchanges(b, wire.Stack(service, row.layers(b)...))
		})
	}
}
