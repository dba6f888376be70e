package trace_test

import (
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/trace"
	"github.com/serai-net/serai/connect/wire"
)

func header(fields ...string) *wire.Header {
	h := &wire.Header{}
	for _, f := range fields {
		name, value, _ := strings.Cut(f, ": ")
		h.Add(name, value)
	}
	return h
}

func ids(high, low, span, parent uint64, sampled bool) trace.Context {
	c := trace.Context{Span: span, Parent: parent, Sampled: sampled}
	for i := range 8 {
		c.Trace[7-i], c.Trace[15-i] = byte(high>>(8*i)), byte(low>>(8*i))
	}
	return c
}

func TestB3(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		fields []string
		want   trace.Context
		asked  bool
	}{
		{nil, trace.Context{}, false},
		{[]string{"b3: 80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90"}, ids(0x80f198ee56343ba8, 0x64fe8b2a57d3eff7, 0xe457b5a2e4d86bd1, 0x05e3ac9a4f6e3b90, true), true},
		{[]string{"b3: 64fe8b2a57d3eff7-e457b5a2e4d86bd1"}, ids(0, 0x64fe8b2a57d3eff7, 0xe457b5a2e4d86bd1, 0, false), false},
		{[]string{"b3: 64fe8b2a57d3eff7-e457b5a2e4d86bd1-d"}, ids(0, 0x64fe8b2a57d3eff7, 0xe457b5a2e4d86bd1, 0, true), true},
		{[]string{"b3: 0"}, trace.Context{}, true},
		{[]string{"b3: 1"}, trace.Context{Sampled: true}, true},
		{[]string{"b3: x-y", "x-b3-sampled: 1"}, trace.Context{Sampled: true}, true},
		{[]string{"b3: 0000000000000000-e457b5a2e4d86bd1-1"}, trace.Context{}, false},
		{[]string{"x-b3-traceid: 64fe8b2a57d3eff7", "x-b3-spanid: e457b5a2e4d86bd1", "x-b3-sampled: 1"}, ids(0, 0x64fe8b2a57d3eff7, 0xe457b5a2e4d86bd1, 0, true), true},
		{[]string{"x-b3-traceid: 1", "x-b3-spanid: 2", "x-b3-parentspanid: 3", "x-b3-flags: 1"}, ids(0, 1, 2, 3, true), true},
		{[]string{"x-b3-traceid: xyz", "x-b3-spanid: 2"}, trace.Context{}, false},
		{[]string{"x-b3-traceid: +1", "x-b3-spanid: 2"}, trace.Context{}, false},
	} {
		got, asked := trace.B3(header(row.fields...))
		if diff := cmp.Diff(row.want, got); diff != "" || asked != row.asked {
			t.Errorf("%v: asked %t\n%s", row.fields, asked, diff)
		}
	}
}

// A field that no trace could have is not taken apart.
func TestLongB3(t *testing.T) {
	var h wire.Header
	h.Add("b3", strings.Repeat("-", 60<<10))
	if n := testing.AllocsPerRun(10, func() { trace.B3(&h) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTraceparent(t *testing.T) {
	t.Parallel()
	const good = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
	want := ids(0x4bf92f3577b34da6, 0xa3ce929d0e0e4736, 0x00f067aa0ba902b7, 0, true)
	for value, ok := range map[string]bool{
		good: true, strings.Replace(good, "00-4", "01-4", 1) + "-more": true, good + "-more": false, strings.ToUpper(good): false, "ff" + good[2:]: false,
		"": false, good[:54]: false, strings.Replace(good, "4bf92f3577b34da6a3ce929d0e0e4736", strings.Repeat("0", 32), 1): false,
		strings.Replace(good, "00f067aa0ba902b7", strings.Repeat("0", 16), 1): false,
	} {
		got, is := trace.Traceparent(header("traceparent: " + value))
		if is != ok || ok && got != want {
			t.Errorf("%q: %+v, %t", value, got, is)
		}
	}
}

func TestDatadogFields(t *testing.T) {
	t.Parallel()
	got, asked, ok := trace.DatadogFields(header("x-datadog-trace-id: 7", "x-datadog-parent-id: 9", "x-datadog-sampling-priority: 2", "x-datadog-tags: a=b,_dd.p.tid=640cfd8d00000000"))
	if want := ids(0x640cfd8d00000000, 7, 9, 0, true); got != want || !asked || !ok {
		t.Errorf("%+v, %t, %t", got, asked, ok)
	}
	for _, bad := range []string{"", "0", "-1", "x", "99999999999999999999999"} {
		if _, _, ok := trace.DatadogFields(header("x-datadog-trace-id: " + bad)); ok {
			t.Errorf("%q is taken", bad)
		}
	}
}

// Whatever a client sends, what is read is a trace, or is none.
func FuzzFields(f *testing.F) {
	f.Add("80f198ee56343ba864fe8b2a57d3eff7-e457b5a2e4d86bd1-1-05e3ac9a4f6e3b90", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "7", "_dd.p.tid=640cfd8d00000000")
	f.Fuzz(func(t *testing.T, b3, parent, id, tags string) {
		c, _ := trace.B3(header("b3: "+b3, "x-b3-traceid: "+id, "x-b3-spanid: "+id, "x-b3-sampled: "+tags))
		if c.Root() && (c.Span != 0 || c.Parent != 0) {
			t.Errorf("a span without a trace: %+v", c)
		}
		if c, ok := trace.Traceparent(header("traceparent: " + parent)); ok && (c.Root() || c.Span == 0) {
			t.Errorf("%q: %+v", parent, c)
		}
		if c, _, ok := trace.DatadogFields(header("x-datadog-trace-id: "+id, "x-datadog-tags: "+tags)); ok && c.Root() {
			t.Errorf("%q: %+v", id, c)
		}
	})
}

// collector takes what it is sent.
type collector struct {
	mu     sync.Mutex
	bodies [][]byte
	heads  []string
}

type bodyReader struct{ wire.Body }

func (c *collector) Serve(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	body, err := io.ReadAll(bodyReader{req.Body})
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.bodies = append(c.bodies, body)
	c.heads = append(c.heads, req.Method+" "+req.Path+" "+req.Authority+" "+req.Header.Get("content-type"))
	return &wire.Response{Status: http.StatusAccepted}, nil
}

// traced gives a request to a chain and returns what the upstream sees of it, the
// exchange, and what the collector got.
func traced(t *testing.T, config mesh.Tracing, p *mesh.TraceProvider, egress bool, fields ...string) (up *wire.Header, x *wire.Exchange, c *collector) {
	t.Helper()
	c = &collector{}
	ts := trace.New(p, "web-1", "web", func(name string) wire.Service {
		if name != "collector" {
			return nil
		}
		return c
	}, slog.New(slog.DiscardHandler))
	x = &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.7:1"), Local: netip.MustParseAddrPort("192.0.2.9:80")}, time.Now())
	req := &wire.Request{Method: "GET", Scheme: "http", Authority: "web.example", Path: "/a?b", Proto: 1, Minor: 1, Header: *header(fields...)}
	x.Request, x.Method, x.Authority, x.Path = req, "GET", req.Authority, req.Path
	service := wire.Stack(wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		clone := req.Header.Clone()
		up = &clone
		x.Cluster = "app"
		a := x.NewAttempt("app", time.Now())
		a.Endpoint = "10.0.0.1:80"
		return &wire.Response{Status: 503}, nil
	}), ts.Compile(&config, egress).Layer())
	if _, err := service.Serve(x, req); err != nil {
		t.Fatal(err)
	}
	x.Status = 503
	x.Done(x.Start.Add(time.Millisecond))
	ts.Close()
	return up, x, c
}

func always() mesh.Tracing { return mesh.Tracing{Client: 1e6, Random: 1e6, Overall: 1e6} }

const uuid = "x-request-id: 0b5e0c3e-7d0a-4c5e-9f6b-1d2e3f405162"

func TestZipkin(t *testing.T) {
	t.Parallel()
	p := &mesh.TraceProvider{Kind: mesh.Zipkin, Cluster: "collector", Path: "/api/v2/spans"}
	config := always()
	config.Tags = []mesh.TraceTag{{Name: "lit", Literal: "1"}, {Name: "head", Header: "x-a", Default: "none"}, {Name: "text", Text: "%REQ(:METHOD)%"}}
	up, x, c := traced(t, config, p, true, uuid)
	if got := up.Get("x-request-id"); got[14] != '9' {
		t.Errorf("x-request-id does not say that it is sampled: %s", got)
	}
	var spans []map[string]any
	if len(c.bodies) != 1 || json.Unmarshal(c.bodies[0], &spans) != nil || len(spans) != 1 {
		t.Fatalf("%q", c.bodies)
	}
	if want := "POST /api/v2/spans collector application/json"; c.heads[0] != want {
		t.Error(c.heads[0])
	}
	s := spans[0]
	tags, _ := s["tags"].(map[string]any) // nil will fail below
	if up.Get("x-b3-traceid") != s["traceId"] || up.Get("x-b3-spanid") != s["id"] || up.Get("x-b3-sampled") != "1" || x.TraceID != s["traceId"] || s["parentId"] != nil {
		t.Errorf("handed on %v, told %v", up, s)
	}
	for name, want := range map[string]string{
		"http.url": "http://web.example/a?b", "http.method": "GET", "http.status_code": "503", "error": "true", "upstream_cluster": "app", "node_id": "web-1",
		"peer.address": "192.0.2.7", "component": "proxy", "lit": "1", "head": "none", "text": "GET", "downstream_cluster": "-", "http.protocol": "HTTP/1.1",
	} {
		if tags[name] != want {
			t.Errorf("%s is %v, want %s", name, tags[name], want)
		}
	}
	if s["kind"] != "CLIENT" || s["name"] != "web.example" || s["shared"] != nil {
		t.Errorf("%v", s)
	}
	// The other side shares the span, unless it is told not to.
	fields := []string{uuid, "x-b3-traceid: 64fe8b2a57d3eff7", "x-b3-spanid: e457b5a2e4d86bd1", "x-b3-sampled: 1"}
	up, _, c = traced(t, mesh.Tracing{}, p, false, fields...)
	if json.Unmarshal(c.bodies[0], &spans) != nil || spans[0]["id"] != "e457b5a2e4d86bd1" || spans[0]["shared"] != true || up.Get("x-b3-spanid") != "e457b5a2e4d86bd1" {
		t.Errorf("%v", spans)
	}
	alone := *p
	alone.Alone = true
	up, _, c = traced(t, mesh.Tracing{}, &alone, false, fields...)
	spans = nil
	if json.Unmarshal(c.bodies[0], &spans) != nil || spans[0]["parentId"] != "e457b5a2e4d86bd1" || spans[0]["id"] != up.Get("x-b3-spanid") || up.Get("x-b3-parentspanid") != "e457b5a2e4d86bd1" {
		t.Errorf("%v", spans)
	}
	// What the caller does not want to be traced is not, but handed on.
	up, _, c = traced(t, always(), p, true, uuid, "x-b3-traceid: 64fe8b2a57d3eff7", "x-b3-spanid: e457b5a2e4d86bd1", "x-b3-sampled: 0")
	if len(c.bodies) != 0 || up.Get("x-b3-sampled") != "0" || up.Get("x-b3-traceid") != "64fe8b2a57d3eff7" {
		t.Errorf("%v, %q", up, c.bodies)
	}
}

func TestSampling(t *testing.T) {
	t.Parallel()
	p := &mesh.TraceProvider{Kind: mesh.OpenTelemetry, Cluster: "collector", Path: "/v1/traces"}
	traceID := func(c *collector) bool { return len(c.bodies) > 0 }
	for _, row := range []struct {
		name   string
		config mesh.Tracing
		fields []string
		want   bool
		digit  byte
	}{
		{"always", always(), []string{uuid}, true, '9'},
		{"never", mesh.Tracing{Client: 1e6, Overall: 1e6}, []string{uuid}, false, '4'},
		{"the client asks", mesh.Tracing{Client: 1e6, Overall: 1e6}, []string{uuid, "x-client-trace-id: 1"}, true, 'b'},
		{"the client asks in vain", mesh.Tracing{Overall: 1e6}, []string{uuid, "x-client-trace-id: 1"}, false, '4'},
		{"others have decided", mesh.Tracing{Overall: 1e6}, []string{strings.Replace(uuid, "-4c5e", "-9c5e", 1)}, true, '9'},
		{"overall none", mesh.Tracing{Client: 1e6, Random: 1e6}, []string{uuid}, false, '4'},
		{"no uuid", always(), []string{"x-request-id: mine"}, false, 0},
	} {
		up, _, c := traced(t, row.config, p, true, row.fields...)
		id := up.Get("x-request-id")
		if traceID(c) != row.want || row.digit != 0 && id[14] != row.digit {
			t.Errorf("%s: %t, %s", row.name, traceID(c), id)
		}
	}
}

func TestOpenTelemetry(t *testing.T) {
	t.Parallel()
	p := &mesh.TraceProvider{Kind: mesh.OpenTelemetry, Cluster: "collector", Path: "/v1/traces", Service: "shop"}
	config := always()
	config.Spawn = true
	up, x, c := traced(t, config, p, false, uuid, "traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "tracestate: a=b")
	data := &tracev1.TracesData{}
	if len(c.bodies) != 1 || proto.Unmarshal(c.bodies[0], data) != nil {
		t.Fatalf("%q", c.bodies)
	}
	r := data.GetResourceSpans()[0]
	spans := r.GetScopeSpans()[0].GetSpans()
	if len(spans) != 2 || r.GetResource().GetAttributes()[0].GetValue().GetStringValue() != "shop" {
		t.Fatal(data)
	}
	got, ok := trace.Traceparent(up)
	if !ok || string(got.Trace[:]) != string(spans[0].GetTraceId()) || up.Get("tracestate") != "a=b" || x.TraceID != "4bf92f3577b34da6a3ce929d0e0e4736" {
		t.Errorf("%v", up)
	}
	if string(spans[1].GetParentSpanId()) != string(spans[0].GetSpanId()) || spans[0].GetKind() != tracev1.Span_SPAN_KIND_SERVER ||
		spans[1].GetKind() != tracev1.Span_SPAN_KIND_CLIENT || spans[0].GetStatus().GetCode() != tracev1.Status_STATUS_CODE_ERROR {
		t.Error(spans)
	}
}

func TestDatadog(t *testing.T) {
	t.Parallel()
	up, _, c := traced(t, always(), &mesh.TraceProvider{Kind: mesh.Datadog, Cluster: "collector"}, true, uuid)
	if len(c.bodies) != 1 || c.heads[0] != "POST /v0.4/traces collector application/msgpack" {
		t.Fatalf("%q", c.heads)
	}
	got, asked, ok := trace.DatadogFields(up)
	if _, also := trace.Traceparent(up); !ok || !asked || !got.Sampled || !also {
		t.Errorf("%v", up)
	}
	for _, text := range []string{"web.example", "envoy.proxy", "http.url", "_dd.p.tid", "span.kind"} {
		if !strings.Contains(string(c.bodies[0]), text) {
			t.Errorf("no %s in %q", text, c.bodies[0])
		}
	}
}

// What is lost is counted, and a health check is no loss: it is not traced.
func TestCounts(t *testing.T) {
	t.Parallel()
	read := func(healthCheck bool, clusters ...string) map[string]int64 {
		ts := trace.New(nil, "", "", func(name string) wire.Service {
			if name == "there" {
				return &collector{}
			}
			return nil
		}, slog.New(slog.DiscardHandler))
		for _, cluster := range clusters {
			config := always()
			config.Provider = &mesh.TraceProvider{Kind: mesh.Zipkin, Cluster: cluster, Path: "/"}
			service := wire.Stack(wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
				x.HealthCheck = healthCheck
				return &wire.Response{Status: 200}, nil
			}), ts.Compile(&config, true).Layer())
			x := &wire.Exchange{}
			x.Reset(nil, &wire.Peer{}, time.Now())
			if _, err := service.Serve(x, &wire.Request{Method: "GET", Path: "/", Header: *header(uuid)}); err != nil {
				t.Fatal(err)
			}
			x.Done(time.Now())
		}
		ts.Close()
		got := map[string]int64{}
		ts.Each(func(s stats.Stat) bool {
			if s.Value != 0 {
				got[s.Name] = s.Value
			}
			return true
		})
		return got
	}
	want := map[string]int64{
		"tracing.zipkin.spans_sent": 1, "tracing.zipkin.reports_sent": 1, "tracing.zipkin.reports_skipped_no_cluster": 1, "tracing.zipkin.spans_failed": 1,
	}
	if diff := cmp.Diff(want, read(false, "there", "missing")); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(map[string]int64{}, read(true, "there")); diff != "" {
		t.Error(diff)
	}
}

// Without a provider there is no layer, and a refused one traces nothing.
func TestNothing(t *testing.T) {
	t.Parallel()
	config := always()
	ts := trace.New(nil, "", "", nil, slog.New(slog.DiscardHandler))
	if ts.Compile(&config, true).Layer() != nil || ts.Compile(nil, true).Layer() != nil {
		t.Error("a layer without a provider")
	}
	config.Provider = &mesh.TraceProvider{Refusal: "odd"}
	if ts.Compile(&config, true) != nil {
		t.Error("a refused provider traces")
	}
	if _, _, c := traced(t, always(), &mesh.TraceProvider{Kind: mesh.Zipkin, Cluster: "missing", Path: "/"}, true, uuid); len(c.bodies) != 0 {
		t.Error("told somebody else")
	}
}
