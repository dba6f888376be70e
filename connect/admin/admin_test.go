package admin_test

import (
	"context"
	"errors"
	"io"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/admin"
)

// source is one that may be made ready.
type source struct{ err error }

func (s *source) Ready() error { return s.err }

func (*source) Stats() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		_ = yield("listener.a.downstream_cx_total", 3) && yield("cluster.b.upstream_rq_total", 4)
	}
}

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

func metrics() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "serai_ready 1\n") //nolint:errcheck // the client is the test
	})
}

// serve runs an interface until the test ends and returns its URLs.
func serve(t *testing.T, o admin.Options) []string {
	t.Helper()
	s, err := admin.Listen(o, discard())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	var urls []string
	for _, address := range s.Addresses() {
		urls = append(urls, "http://"+address)
	}
	return urls
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestPaths(t *testing.T) {
	t.Parallel()
	s := &source{}
	url := serve(t, admin.Options{Address: "127.0.0.1:0", Source: s, Metrics: metrics()})[0]
	check := func(path string, status int, body string) {
		t.Helper()
		if gotStatus, got := get(t, url+path); gotStatus != status || !strings.Contains(got, body) {
			t.Errorf("%s: %d %s, want %d with %q", path, gotStatus, got, status, body)
		}
	}
	check("/ready", 200, "LIVE\n")
	check("/server_info", 200, `"state": "LIVE"`)
	check("/stats", 200, "listener.a.downstream_cx_total: 3\ncluster.b.upstream_rq_total: 4\n")
	check("/stats?filter=%5Ecluster", 200, "cluster.b.upstream_rq_total: 4\n")
	check("/stats?filter=(", 400, "filter: ")
	check("/metrics", 200, "serai_ready 1\n")
	check("/stats/prometheus", 200, "serai_ready 1\n")
	check("/stats?format=prometheus", 200, "serai_ready 1\n")
	check("/nothing", 404, "")
	if _, got := get(t, url+"/stats?filter=%5Ecluster"); strings.Contains(got, "listener") {
		t.Errorf("the filter lets through: %s", got)
	}
	s.err = errors.New("draining")
	check("/ready", 503, "draining\n")
	check("/server_info", 200, `"state": "DRAINING"`)
	s.err = errors.New("not yet")
	check("/server_info", 200, "\"reason\": \"not yet\",\n \"state\": \"PRE_INITIALIZING\"")
}

func TestAddressInUse(t *testing.T) {
	t.Parallel()
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	if _, err := admin.Listen(admin.Options{Address: taken.Addr().String(), Source: &source{}}, discard()); err == nil ||
		!strings.HasPrefix(err.Error(), "admin interface: listen tcp ") {
		t.Errorf("%v", err)
	}
}

func TestNone(t *testing.T) {
	t.Parallel()
	s, err := admin.Listen(admin.Options{Source: &source{}}, discard())
	if s != nil || err != nil || s.Run(t.Context()) != nil || s.Addresses() != nil {
		t.Errorf("%v, %v", s, err)
	}
}

func TestConfig(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]string{
		"127.0.0.1:9901": "", ":9901": "", "localhost:0": "", "[::1]:9901": "",
		"":              `a.hcl:1: admin: address is ""; write for example "127.0.0.1:9901"`,
		"127.0.0.1":     `a.hcl:1: admin: address is "127.0.0.1"; write for example "127.0.0.1:9901"`,
		"127.0.0.1:x":   `a.hcl:1: admin: address is "127.0.0.1:x"; its port must be a number from 0 to 65535, such as 9901`,
		"1.2.3.4:99999": `a.hcl:1: admin: address is "1.2.3.4:99999"; its port must be a number from 0 to 65535, such as 9901`,
	} {
		got := ""
		if err := (&admin.Config{Address: address, Pos: "a.hcl:1"}).Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %q, want %q", address, got, want)
		}
	}
}
