package accesslog_test

import (
	"bytes"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/logfile"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

func exchange() *wire.Exchange {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.7:4711")}, time.Now())
	x.Request = &wire.Request{Method: "GET", Path: "/a", Proto: 1, Minor: 1}
	x.Method, x.Status, x.Finish = "GET", 200, x.Start.Add(12*time.Millisecond)
	return x
}

func text(path, text string) *mesh.AccessLog { return &mesh.AccessLog{Path: path, Text: text} }

func read(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// Logs of one path share a file, which is closed when no configuration names it any
// more; what is refused is told once and leaves the others alone.
func TestSinks(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	var out, told bytes.Buffer
	s := accesslog.New(accesslog.Node{ID: "n", Cluster: "c", Zone: "z"}, &out, io.Discard, nil, slog.New(slog.NewTextHandler(&told, nil)))
	one, other := filepath.Join(folder, "one"), filepath.Join(folder, "other")
	all := []*mesh.AccessLog{
		text(one, "a %RESPONSE_CODE%\n"),
		{Refusal: "odd"},
		{Refusal: "odd"},
		text(one, "b %REQ(:PATH)% %REQ(X)%\n"), text("/dev/null", "c\n"),
		{Path: "/dev/stdout", JSON: map[string]any{"code": "%RESPONSE_CODE%", "type": "%ACCESS_LOG_TYPE%", "chain": "%FILTER_CHAIN_NAME%"}},
		text(filepath.Join(folder, "no", "such"), "d\n"),
		{Path: other, Text: "%REQ(X)%|\n", OmitEmpty: true},
	}
	logs := s.Compile(all)
	logs.At(accesslog.Exchanges, "fc").End(exchange())
	if s.Compile([]*mesh.AccessLog{text("/dev/null", "c\n")}) != nil || s.Compile(nil) != nil {
		t.Error("logs of nothing")
	}
	s.Begin()
	s.Compile(all[:1])
	s.Sweep()
	s.Close()
	for path, want := range map[string]string{one: "a 200\nb /a -\n", other: "|\n"} {
		if got := read(t, path); got != want {
			t.Errorf("%s: %q, want %q", path, got, want)
		}
	}
	if want := `{"chain":"fc","code":200,"type":"DownstreamEnd"}` + "\n"; out.String() != want {
		t.Errorf("stdout: %q", out.String())
	}
	if n := strings.Count(told.String(), "odd"); n != 1 || !strings.Contains(told.String(), "no such file") {
		t.Errorf("told:\n%s", told.String())
	}
	if got := s.Compile([]*mesh.AccessLog{text(filepath.Join(folder, "late"), "x\n")}); got != nil {
		t.Error("a file is opened after the end")
	}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	status := func(op mesh.Comparison, n uint32) *mesh.LogFilter {
		return &mesh.LogFilter{Status: &mesh.LogComparison{Op: op, Value: n}}
	}
	flags := func(all ...string) *mesh.LogFilter { return &mesh.LogFilter{HasFlags: true, Flags: all} }
	meta := func(key string, value mesh.ValueMatch, invert, missing bool) *mesh.LogFilter {
		return &mesh.LogFilter{Metadata: &mesh.LogMetadata{
			MetadataMatch: mesh.MetadataMatch{Filter: "n", Path: []string{key}, Value: value, Invert: invert}, Missing: missing,
		}}
	}
	text := func(exact string) mesh.ValueMatch { return mesh.ValueMatch{String: mesh.StringMatch{Exact: exact}} }
	there := mesh.ValueMatch{Kind: mesh.ValuePresent, Bool: true}
	for _, row := range []struct {
		name   string
		filter *mesh.LogFilter
		want   bool
	}{
		{"status", status(mesh.Equal, 503), true},
		{"not that", status(mesh.Equal, 200), false},
		{"at least", status(mesh.AtLeast, 500), true},
		{"at most", status(mesh.AtMost, 500), false},
		{"unequal", status(mesh.Unequal, 503), false},
		{"duration", &mesh.LogFilter{Duration: &mesh.LogComparison{Op: mesh.AtLeast, Value: 12}}, true},
		{"longer", &mesh.LogFilter{Duration: &mesh.LogComparison{Op: mesh.AtLeast, Value: 13}}, false},
		{"all", &mesh.LogFilter{All: []*mesh.LogFilter{status(mesh.Equal, 503), flags("UF")}}, true},
		{"not all", &mesh.LogFilter{All: []*mesh.LogFilter{status(mesh.Equal, 503), flags("NR")}}, false},
		{"any", &mesh.LogFilter{Any: []*mesh.LogFilter{status(mesh.Equal, 1), flags("UF")}}, true},
		{"not any", &mesh.LogFilter{Any: []*mesh.LogFilter{status(mesh.Equal, 1), flags("NR")}}, false},
		{"flag", flags("NR", "UF"), true},
		{"second flag", flags("URX"), true},
		{"some flag", flags(), true},
		{"header", &mesh.LogFilter{Header: &mesh.HeaderMatch{Name: "x", Present: true}}, true},
		{"no header", &mesh.LogFilter{Header: &mesh.HeaderMatch{Name: "y", Present: true}}, false},
		{"everything", &mesh.LogFilter{HasPercent: true, Percent: 1_000_000}, true},
		{"nothing", &mesh.LogFilter{HasPercent: true}, false},
		{"no health check", &mesh.LogFilter{NoHealthCheck: true}, true},
		{"a health check", &mesh.LogFilter{NoHealthCheck: true}, false},
		{"traced by chance", &mesh.LogFilter{Traced: true}, false},
		{"traced by force", &mesh.LogFilter{Traced: true}, true},
		{"grpc", &mesh.LogFilter{GRPC: []int{14}}, true},
		{"not grpc", &mesh.LogFilter{GRPC: []int{14}, Exclude: true}, false},
		{"type", &mesh.LogFilter{Types: []string{"DownstreamEnd"}}, true},
		{"other type", &mesh.LogFilter{Types: []string{"DownstreamEnd"}, Exclude: true}, false},
		{"metadata", meta("k", text("v"), false, false), true},
		{"other metadata", meta("k", text("w"), false, false), false},
		{"inverted metadata", meta("k", text("w"), true, false), false},
		{"boolean metadata", meta("b", mesh.ValueMatch{Kind: mesh.ValueBool, Bool: true}, false, false), true},
		{"metadata is there", meta("b", there, false, false), true},
		{"no metadata", meta("x", there, false, false), false},
		{"no metadata needed", meta("x", there, false, true), true},
	} {
		path := filepath.Join(t.TempDir(), "log")
		s := accesslog.New(accesslog.Node{ID: "n", Cluster: "c", Zone: "z"}, io.Discard, io.Discard, nil, slog.New(slog.DiscardHandler))
		x := exchange()
		x.Status, x.Flag, x.Exhausted = 503, wire.FlagUpstreamConnect, true
		x.Request.Header.Add("x", "1")
		x.Request.Header.Add("content-type", "application/grpc")
		x.Metadata.Set("n", "k", "v")
		x.Metadata.Set("n", "b", true)
		x.TraceID, x.TraceForced = "0123456789abcdef", row.name == "traced by force"
		x.HealthCheck = row.name == "a health check"
		s.Compile([]*mesh.AccessLog{{Path: path, Text: "x\n", Filter: row.filter}}).At(accesslog.Exchanges, "").End(x)
		s.Close()
		if got := read(t, path) != ""; got != row.want {
			t.Errorf("%s: %t", row.name, got)
		}
	}
}

// A file that is moved away is opened anew, and nothing is lost.
func TestRotation(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "log")
		s := accesslog.New(accesslog.Node{ID: "n", Cluster: "c", Zone: "z"}, io.Discard, io.Discard, nil, slog.New(slog.DiscardHandler))
		place := s.Compile([]*mesh.AccessLog{text(path, "x\n")}).At(accesslog.Exchanges, "")
		place.End(exchange())
		time.Sleep(5 * time.Second) //nolint:forbidigo // of a bubble
		if err := os.Rename(path, path+".1"); err != nil {
			t.Error(err)
		}
		place.End(exchange())
		place.End(exchange())
		s.Close()
		if old, now := read(t, path+".1"), read(t, path); old != "x\n" || now != "x\nx\n" {
			t.Errorf("%q, then %q", old, now)
		}
	})
}

// collector is a collector of OTLP as a cluster.
type collector struct {
	mu   sync.Mutex
	got  []*logsv1.LogsData
	seen []string // paths
	fail bool
}

func (c *collector) Serve(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	body, err := io.ReadAll(bodyReader{req.Body})
	if err != nil {
		return nil, err
	}
	if req.Path != "/v1/logs" {
		body = body[5:] // what frames a message of gRPC
	}
	data := &logsv1.LogsData{}
	if err := proto.Unmarshal(body, data); err != nil {
		return nil, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.got, c.seen = append(c.got, data), append(c.seen, req.Path+" "+req.Authority+" "+req.Header.Get("x-key"))
	if c.fail {
		return nil, &wire.Fault{Status: http.StatusServiceUnavailable}
	}
	if req.Path == "/v1/logs" {
		return &wire.Response{Status: 200}, nil
	}
	resp := &wire.Response{Status: 200, Body: wire.NewBytes(make([]byte, 5)), ContentLength: 5}
	resp.Header.Add("content-type", "application/grpc")
	resp.Header.Add("grpc-status", "0")
	return resp, nil
}

type bodyReader struct{ wire.Body }

func TestOTLP(t *testing.T) {
	t.Parallel()
	for _, path := range []string{"", "/v1/logs"} {
		c := &collector{}
		s := accesslog.New(accesslog.Node{ID: "n", Cluster: "c", Zone: "z"}, io.Discard, io.Discard, func(name string) wire.Service {
			if name != "otel" {
				return nil
			}
			return c
		}, slog.New(slog.DiscardHandler))
		config := &mesh.LogOTLP{
			Cluster: "otel", HTTP: path, Name: "l", Metadata: []mesh.Pair{{Name: "x-key", Value: "k"}}, Body: map[string]any{"b": []any{"%REQ(:PATH)%", int64(1)}, "a": true},
			Attributes: []mesh.Attribute{{Name: "code", Value: "%RESPONSE_CODE%"}}, Resource: []mesh.Attribute{{Name: "type", Value: "compute"}},
		}
		place := s.Compile([]*mesh.AccessLog{{OTLP: config}}).At(accesslog.Exchanges, "")
		x := exchange()
		x.TraceID, x.Request.Path = "0123456789abcdef0123456789abcdef", "/\xff"
		place.End(x)
		place.End(exchange())
		s.Close()
		method := path
		if path == "" {
			method = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
		}
		if diff := cmp.Diff([]string{method + " otel k"}, c.seen); diff != "" {
			t.Fatalf("-want +got:\n%s", diff)
		}
		got := c.got[0].GetResourceLogs()[0]
		resource, err := json.Marshal(got.GetResource().GetAttributes())
		if err != nil {
			t.Fatal(err)
		}
		const wantResource = `[{"key":"log_name","value":{"Value":{"StringValue":"l"}}},{"key":"zone_name","value":{"Value":{"StringValue":"z"}}},` +
			`{"key":"cluster_name","value":{"Value":{"StringValue":"c"}}},{"key":"node_name","value":{"Value":{"StringValue":"n"}}},{"key":"type","value":{"Value":{"StringValue":"compute"}}}]`
		if string(resource) != wantResource {
			t.Errorf("%s", resource)
		}
		records := got.GetScopeLogs()[0].GetLogRecords()
		if len(records) != 2 || len(records[0].GetTraceId()) != 16 || records[0].GetTimeUnixNano() != uint64(x.Start.UnixNano()) {
			t.Errorf("%v", records)
		}
		body := records[0].GetBody().GetKvlistValue().GetValues()
		if body[0].GetKey() != "a" || body[1].GetValue().GetArrayValue().GetValues()[0].GetStringValue() != "/\ufffd" {
			t.Errorf("%v", body)
		}
		if a := records[0].GetAttributes(); len(a) != 1 || a[0].GetKey() != "code" || a[0].GetValue().GetStringValue() != "200" {
			t.Errorf("%v", a)
		}
	}
}

// A collector that fails, is not there, or is too slow costs records, and is counted.
func TestOTLPLost(t *testing.T) {
	t.Parallel()
	c := &collector{fail: true}
	s := accesslog.New(accesslog.Node{ID: "n", Cluster: "c", Zone: "z"}, io.Discard, io.Discard, func(name string) wire.Service {
		if name == "failing" {
			return c
		}
		return nil
	}, slog.New(slog.DiscardHandler))
	for _, cluster := range []string{"failing", "missing"} {
		place := s.Compile([]*mesh.AccessLog{{OTLP: &mesh.LogOTLP{Cluster: cluster, Flush: time.Hour, Size: 1 << 30, Body: strings.Repeat("x", 64<<10)}}}).At(accesslog.Exchanges, "")
		for range 100 { // more than may wait
			place.End(exchange())
		}
	}
	s.Close()
	if _, got := s.Stats(); got.Written != 0 || got.Failed+got.Dropped != 200 || got.Dropped == 0 || got.Failed == 0 {
		t.Errorf("%+v", got)
	}
}

func TestLogAllocatesNothing(t *testing.T) {
	s := accesslog.New(accesslog.Node{ID: "n", Cluster: "c", Zone: "z"}, io.Discard, io.Discard, nil, slog.New(slog.DiscardHandler))
	defer s.Close()
	place := s.Compile([]*mesh.AccessLog{
		text("/dev/stdout", "%START_TIME% %REQ(:PATH)% %RESPONSE_CODE% %DURATION%\n"),
		{Path: "/dev/stdout", JSON: map[string]any{"code": "%RESPONSE_CODE%", "path": "%REQ(:PATH)%", "flags": "%RESPONSE_FLAGS%"}},
	}).At(accesslog.Exchanges, "")
	x := exchange()
	for range 100_000 { // grow the buffers to what they need
		place.End(x)
	}
	if n := testing.AllocsPerRun(100, func() { place.End(x) }); n >= 1 {
		t.Errorf("%v allocations an exchange", n)
	}
	var zero logfile.Stats
	if files, _ := s.Stats(); files == zero {
		t.Error("nothing is counted")
	}
}
