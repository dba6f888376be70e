package stack_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// usual are the fields of a request as browsers and libraries send it.
var usual = [...]wire.Field{
	{Name: "user-agent", Value: "Mozilla/5.0"},
	{Name: "accept", Value: "*/*"},
	{Name: "accept-encoding", Value: "gzip"},
	{Name: "accept-language", Value: "en"},
	{Name: "cookie", Value: "session=0123456789"},
	{Name: "authorization", Value: "Bearer x"},
	{Name: "content-type", Value: "application/json"},
	{Name: "x-tenant", Value: "a"},
	{Name: "traceparent", Value: "00-1-2-01"},
}

// BenchmarkConduct is what a connection manager says in header fields, on its own: in front of an upstream that answers
// at once, of a client without the fields of proxies, behind another sidecar, and at the edge.
func BenchmarkConduct(b *testing.B) {
	peer := &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.2:5"), Local: netip.MustParseAddrPort("192.0.2.9:443"), TLS: true}
	behind := []wire.Field{
		{Name: "x-forwarded-proto", Value: "https"},
		{Name: "x-request-id", Value: "0123456789"},
		{Name: "x-envoy-expected-rq-timeout-ms", Value: "15000"},
		{Name: "x-forwarded-client-cert", Value: "By=x"},
	}
	for _, row := range []struct {
		name   string
		layer  wire.Layer
		fields []wire.Field
	}{
		{"nothing", nil, nil},
		{"client", stack.Conduct(mesh.Conduct{}), nil},
		{"behind/nothing", nil, behind},
		{"behind", stack.Conduct(mesh.Conduct{}), behind},
		{"edge", stack.Conduct(mesh.Conduct{UseRemote: true, ForwardedPort: true}), nil},
	} {
		b.Run(row.name, func(b *testing.B) {
			var resp wire.Response
			service := wire.Stack(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
				resp.Status = 200
				resp.Header.Reset()
				resp.Header.Add("content-type", "application/json")
				resp.Header.Add("server", "app")
				return &resp, nil
			}), row.layer)
			x, req, now := &wire.Exchange{}, &wire.Request{Method: "GET", Authority: "web", Path: "/a", Proto: 1, Minor: 1}, time.Now()
			b.ReportAllocs()
			for b.Loop() {
				x.Reset(nil, peer, now)
				req.Scheme = "https"
				req.Header.Reset()
				for i := range usual {
					req.Header.Add(usual[i].Name, usual[i].Value)
				}
				for i := range row.fields {
					req.Header.Add(row.fields[i].Name, row.fields[i].Value)
				}
				if _, err := service.Serve(x, req); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
