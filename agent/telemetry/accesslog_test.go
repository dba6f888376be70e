package telemetry_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// exchange is one that took 12 ms, 10 of them upstream.
func exchange() *wire.Exchange {
	start := time.Date(2026, 3, 1, 12, 0, 0, 5e6, time.UTC)
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("192.0.2.7:4711")}, start)
	x.Method, x.Authority, x.Path = "GET", "api.example.com", "/v1/list?api_key=secret"
	x.ID, x.Consumer, x.API, x.Route = "0123456789abcdef", "acme", "orders", "list"
	x.Cluster = "web.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul"
	x.Status, x.BytesIn, x.BytesOut = 200, 3, 512
	a := x.NewAttempt(x.Cluster, start.Add(time.Millisecond))
	a.Endpoint, a.Head = "10.0.0.1:8080", start.Add(11*time.Millisecond)
	x.HeadSent, x.Finish = start.Add(11500*time.Microsecond), start.Add(12*time.Millisecond)
	return x
}

func edge() *telemetry.Place {
	return &telemetry.Place{Direction: telemetry.Edge, Service: "edge", Listener: "public"}
}

// logged runs an access log of the given format and returns what it wrote.
func logged(t *testing.T, format string, all ...*wire.Exchange) string {
	t.Helper()
	var out bytes.Buffer
	l := telemetry.NewAccessLog(&out, discard())
	commit, err := l.Prepare(&telemetry.AccessLogConfig{Path: "-", Format: format})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	for _, x := range all {
		l.Log(edge(), x)
	}
	run(t, l)
	return out.String()
}

// run lets l write what is pending and end.
func run(t *testing.T, l *telemetry.AccessLog) {
	t.Helper()
	if err := stopped(t, l); err != nil {
		t.Fatal(err)
	}
}

// stopped runs l with a context that has ended.
func stopped(t *testing.T, l *telemetry.AccessLog) error {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return l.Run(ctx)
}

func TestAccessLogJSON(t *testing.T) {
	failed := exchange()
	failed.Status, failed.Flag, failed.Consumer = 503, wire.FlagUpstreamConnect, "o\"dd\n\xff"
	failed.Err = errors.New("dial: refused")
	lines := strings.SplitAfter(logged(t, "json", exchange(), failed), "\n")
	const want = `{"time":"2026-03-01T12:00:00.005Z","status":200,"method":"GET","host":"api.example.com","path":"/v1/list",` +
		`"listener":"public","direction":"edge","source":"edge","destination":"web","consumer":"acme","api":"orders","route":"list",` +
		`"cluster":"web.default.dc1.internal.11111111-2222-3333-4444-555555555555.consul","endpoint":"10.0.0.1:8080","tries":1,` +
		`"bytes_in":3,"bytes_out":512,"duration_ms":12.000,"proxy_ms":1.500,"upstream_ms":10.000,` +
		`"client":"192.0.2.7:4711","id":"0123456789abcdef"}` + "\n"
	if lines[0] != want {
		t.Errorf("got  %swant %s", lines[0], want)
	}
	var parsed map[string]any
	if err := json.Unmarshal([]byte(lines[1]), &parsed); err != nil {
		t.Fatalf("%v: %s", err, lines[1])
	}
	for name, want := range map[string]any{"flag": "UF", "error": "dial: refused", "consumer": "o\"dd\n\ufffd", "status": 503.0} {
		if parsed[name] != want {
			t.Errorf("%s is %q, want %q", name, parsed[name], want)
		}
	}
}

func TestAccessLogText(t *testing.T) {
	x := exchange()
	refused := exchange()
	refused.Reset(nil, refused.Peer, refused.Start)
	refused.Method, refused.Authority, refused.Path, refused.Status = "GET", "api", "/\x1b[2J", 401
	refused.Flag, refused.HeadSent, refused.Finish = wire.FlagUnauthenticated, refused.Start, refused.Start.Add(300*time.Microsecond)
	got := logged(t, "", x, refused)
	clock := x.Start.Local().Format("15:04:05.000 ")
	want := clock + "200 -    GET      12.00ms  proxy  1.50ms  upstream  10.00ms  acme       orders/list -> web 10.0.0.1:8080         512B api.example.com/v1/list 0123456789abcdef\n" +
		clock + "401 UNA  GET       0.30ms  proxy  0.00ms  upstream   0.00ms  -          -                                        0B api/\\x1b[2J \n"
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

// Whatever a client sends, a line is one line: of JSON, or without anything that
// moves a cursor.
func FuzzAccessLog(f *testing.F) {
	f.Add("GET", "example.com", "/a?b", "acme", "/ns/default/dc/dc1/svc/web")
	f.Add("", "\x00\xff", "/\"\\\n\u2028", "\x1b[2J", "/ns/default/dc/dc1/svc/%00%ff")
	f.Fuzz(func(t *testing.T, method, host, path, consumer, peer string) {
		x := exchange()
		x.Method, x.Authority, x.Path, x.Consumer, x.Err = method, host, path, consumer, errors.New(host)
		x.Peer = &wire.Peer{}
		if id, err := spiffe.Parse("spiffe://" + trust + peer); err == nil {
			x.Peer.ID = id
		}
		for _, format := range []string{"json", "text"} {
			got := logged(t, format, x)
			if strings.Count(got, "\n") != 1 || !strings.HasSuffix(got, "\n") {
				t.Errorf("%q", got)
			}
			if format == "json" && !json.Valid([]byte(got)) {
				t.Errorf("no JSON: %q", got)
			}
			for _, c := range []byte(got[:len(got)-1]) {
				if c < ' ' || format == "text" && c > '~' {
					t.Errorf("byte %q in %q", c, got)
				}
			}
		}
	})
}

func TestAccessLogBounds(t *testing.T) {
	l := telemetry.NewAccessLog(io.Discard, discard())
	commit, err := l.Prepare(&telemetry.AccessLogConfig{Format: "json"})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	const many = 20000 // more than fit while nobody writes
	x := exchange()
	for range many {
		l.Log(edge(), x)
	}
	run(t, l)
	if s := l.Stats(); s.Dropped == 0 || s.Written == 0 || s.Written+s.Dropped != many {
		t.Errorf("%+v", s)
	}
}

// A line goes where the log was going when its exchange ended.
func TestAccessLogSwap(t *testing.T) {
	folder := t.TempDir()
	var stdout bytes.Buffer
	l := telemetry.NewAccessLog(&stdout, discard())
	for _, name := range []string{"a.log", "b.log"} {
		commit, err := l.Prepare(&telemetry.AccessLogConfig{Path: filepath.Join(folder, name)})
		if err != nil {
			t.Fatal(err)
		}
		commit()
		l.Log(edge(), exchange())
	}
	commit, err := l.Prepare(nil)
	if err != nil {
		t.Fatal(err)
	}
	commit()
	l.Log(edge(), exchange()) // off
	run(t, l)
	for _, name := range []string{"a.log", "b.log"} {
		data, err := os.ReadFile(filepath.Join(folder, name))
		if err != nil || bytes.Count(data, []byte("\n")) != 1 {
			t.Errorf("%s: %v\n%s", name, err, data)
		}
	}
	if stdout.Len() > 0 {
		t.Errorf("on stdout:\n%s", stdout.String())
	}
}

func TestAccessLogPrepareErrors(t *testing.T) {
	l := telemetry.NewAccessLog(io.Discard, discard())
	folder := t.TempDir()
	for _, row := range []struct {
		config telemetry.AccessLogConfig
		want   string
	}{
		{telemetry.AccessLogConfig{Format: "yaml", Pos: "e.hcl:3"}, `e.hcl:3: access_log: format is "yaml"; it can be "text" or "json"`},
		{telemetry.AccessLogConfig{Path: folder}, "access_log: open " + folder + ": is a directory"},
	} {
		if _, err := l.Prepare(&row.config); err == nil || err.Error() != row.want {
			t.Errorf("%v, want %s", err, row.want)
		}
	}
}

func TestAccessLogAllocatesNothing(t *testing.T) {
	for _, format := range []string{"json", "text"} {
		l := telemetry.NewAccessLog(io.Discard, discard())
		commit, err := l.Prepare(&telemetry.AccessLogConfig{Format: format})
		if err != nil {
			t.Fatal(err)
		}
		commit()
		x, p := exchange(), edge()
		for range 20000 { // grow the buffer to its bound
			l.Log(p, x)
		}
		if n := testing.AllocsPerRun(100, func() { l.Log(p, x) }); n >= 1 {
			t.Errorf("%s: %v allocations a line", format, n)
		}
	}
}

func BenchmarkAccessLog(b *testing.B) {
	for _, format := range []string{"json", "text"} {
		b.Run(format, func(b *testing.B) {
			l := telemetry.NewAccessLog(io.Discard, discard())
			commit, err := l.Prepare(&telemetry.AccessLogConfig{Format: format})
			if err != nil {
				b.Fatal(err)
			}
			commit()
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error)
			go func() { done <- l.Run(ctx) }()
			x, p := exchange(), edge()
			b.ReportAllocs()
			for b.Loop() {
				l.Log(p, x)
			}
			cancel()
			if err := <-done; err != nil {
				b.Error(err)
			}
		})
	}
}
