package stack_test

import (
	"net/http"
	"net/netip"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// conducted gives a request with fields ("name: value") to a chain and returns
// what its upstream and its client see, sorted; ids are "ID".
func conducted(t *testing.T, c mesh.Conduct, fails bool, fields ...string) (x *wire.Exchange, up, down []string) {
	t.Helper()
	x = &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.2:5"), Local: netip.MustParseAddrPort("192.0.2.9:19778")}, time.Now())
	req := &wire.Request{Method: "GET", Scheme: "http", Authority: "x", Path: "/x", Proto: 1, Minor: 1}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		req.Header.Add(name, value)
	}
	sorted := func(h *wire.Header) (all []string) {
		id := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`)
		for name, value := range h.All() {
			all = append(all, name+": "+id.ReplaceAllString(value, "ID"))
		}
		slices.Sort(all)
		return all
	}
	resp, err := stack.Conduct(c)(wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		up = sorted(&req.Header)
		if fails {
			return nil, &wire.Fault{Status: http.StatusNotFound, Flag: wire.FlagNoRoute}
		}
		resp := &wire.Response{Status: 200}
		resp.Header.Add("server", "app")
		resp.Header.Add("x-request-id", "fromapp")
		return resp, nil
	})).Serve(x, req)
	if err != nil {
		t.Fatal(err)
	}
	resp.Header.Del("content-type")
	return x, up, sorted(&resp.Header)
}

// The rows are what Envoy 1.36.4 did with the same requests, save that the timeout
// and the time of the upstream are the router's.
func TestConduct(t *testing.T) {
	t.Parallel()
	usual := []string{"server: envoy", "x-request-id: fromapp"}
	for _, row := range []struct {
		name     string
		conduct  mesh.Conduct
		fails    bool
		fields   []string
		up, down []string
		client   string
	}{
		{"plain", mesh.Conduct{}, false, nil, []string{"x-forwarded-proto: http", "x-request-id: ID"}, usual, "192.0.2.2:5"},
		{
			"forwarded",
			mesh.Conduct{},
			false,
			[]string{"x-forwarded-for: 10.0.0.1, 10.0.0.2"},
			[]string{"x-forwarded-for: 10.0.0.1, 10.0.0.2", "x-forwarded-proto: http", "x-request-id: ID"},
			usual, "10.0.0.2:0",
		},
		{
			"what came is kept",
			mesh.Conduct{},
			false,
			[]string{"x-request-id: mine", "x-forwarded-proto: https", "via: foo"},
			[]string{"via: foo", "x-forwarded-proto: https", "x-request-id: mine"},
			usual, "192.0.2.2:5",
		},
		{
			"what only Envoy tells", mesh.Conduct{}, false, []string{
				"x-envoy-internal: true", "x-envoy-expected-rq-timeout-ms: 3", "x-envoy-original-path: /foo", "x-envoy-force-trace: true",
				"x-envoy-downstream-service-cluster: zz", "x-envoy-decorator-operation: op", "x-envoy-attempt-count: 9", "x-envoy-ip-tags: t", "x-envoy-original-url: u",
			}, []string{
				"x-envoy-attempt-count: 9", "x-envoy-decorator-operation: op", "x-envoy-downstream-service-cluster: zz", "x-envoy-original-path: /foo",
				"x-forwarded-proto: http", "x-request-id: ID",
			}, usual, "192.0.2.2:5",
		},
		{
			"remote address", mesh.Conduct{UseRemote: true}, false, []string{
				"x-forwarded-for: 10.0.0.1", "x-request-id: mine", "x-forwarded-proto: https", "x-envoy-original-path: /foo",
				"x-envoy-downstream-service-cluster: zz", "x-envoy-external-address: 1.1.1.1", "x-envoy-attempt-count: 9",
			}, []string{
				"x-envoy-attempt-count: 9", "x-envoy-external-address: 192.0.2.2", "x-forwarded-for: 10.0.0.1,192.0.2.2", "x-forwarded-proto: http", "x-request-id: ID",
			}, usual, "192.0.2.2:5",
		},
		{
			"much asked for", mesh.Conduct{
				Via: "v", ForwardedPort: true, ServerName: "sn", ReturnRequestID: true, UseRemote: true, PreserveRequestID: true, TrustedHops: 1,
			}, false, []string{"x-request-id: mine", "x-forwarded-proto: https", "via: foo"}, []string{
				"via: foo, v", "x-envoy-external-address: 192.0.2.2", "x-forwarded-for: 192.0.2.2", "x-forwarded-port: 19778", "x-forwarded-proto: https", "x-request-id: mine",
			}, []string{"server: sn", "via: v", "x-request-id: mine"}, "192.0.2.2:5",
		},
		{
			"little asked for",
			mesh.Conduct{Server: mesh.ServerIfAbsent, NoForwardedFor: true, UseRemote: true, NoRequestID: true},
			false, nil,
			[]string{"x-envoy-external-address: 192.0.2.2", "x-forwarded-proto: http"},
			[]string{"server: app", "x-request-id: fromapp"},
			"192.0.2.2:5",
		},
		{
			"pass through",
			mesh.Conduct{Server: mesh.ServerPassThrough},
			false, nil,
			[]string{"x-forwarded-proto: http", "x-request-id: ID"},
			[]string{"server: app", "x-request-id: fromapp"},
			"192.0.2.2:5",
		},
		{"our own answer", mesh.Conduct{}, true, nil, []string{"x-forwarded-proto: http", "x-request-id: ID"}, []string{"server: envoy"}, "192.0.2.2:5"},
		{"our own, passed through", mesh.Conduct{Server: mesh.ServerPassThrough}, true, nil, []string{"x-forwarded-proto: http", "x-request-id: ID"}, nil, "192.0.2.2:5"},
	} {
		x, up, down := conducted(t, row.conduct, row.fails, row.fields...)
		if diff := cmp.Diff([][]string{row.up, row.down}, [][]string{up, down}); diff != "" {
			t.Errorf("%s: -want +got:\n%s", row.name, diff)
		}
		if got := x.Client().String(); got != row.client {
			t.Errorf("%s: the client is %s, want %s", row.name, got, row.client)
		}
	}
}

// The fields of traces belong to the applications, as long as we make no trace.
func TestConductKeepsTraces(t *testing.T) {
	t.Parallel()
	fields := []string{
		"b3: x", "baggage: a=b", "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate: a=b", "x-b3-traceid: 1",
		"x-cloud-trace-context: q", "x-datadog-trace-id: 1", "x-ot-span-context: x",
	}
	_, up, _ := conducted(t, mesh.Conduct{UseRemote: true, NoForwardedFor: true}, false, fields...)
	for _, f := range fields {
		if !slices.Contains(up, f) {
			t.Errorf("%s is gone", f)
		}
	}
}

// What a manager says of itself takes no memory, neither in the mesh nor at the edge.
func TestConductAllocatesNothing(t *testing.T) {
	peer := &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.2:5"), Local: netip.MustParseAddrPort("192.0.2.9:443")}
	var resp wire.Response
	answers := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		resp.Header.Reset()
		return &resp, nil
	})
	for _, c := range []mesh.Conduct{{}, {UseRemote: true, ForwardedPort: true}} {
		service, x, req := stack.Conduct(c)(answers), &wire.Exchange{}, &wire.Request{}
		if n := testing.AllocsPerRun(100, func() {
			x.Reset(nil, peer, time.Time{})
			req.Header.Reset()
			if _, err := service.Serve(x, req); err != nil {
				t.Fatal(err)
			}
		}); n != 0 {
			t.Errorf("%+v: %v allocations", c, n)
		}
	}
}
