package catalog_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/mesh"
)

func TestConfigValidate(t *testing.T) {
	for _, row := range []struct {
		config catalog.Config
		want   string
	}{
		{catalog.Config{}, ""},
		{catalog.Config{Address: "127.0.0.1:8500", GRPCAddress: "unix:///run/grpc.sock"}, ""},
		{catalog.Config{Address: "https://consul.example.com:8501/prefix"}, ""},
		{catalog.Config{Address: "unix://"}, "which names no socket"},
		{catalog.Config{Address: "ftp://a:1"}, `and scheme "ftp" is not known`},
		{catalog.Config{Address: "localhost"}, "which has no port"},
		{catalog.Config{Token: "a", TokenFile: "b"}, "both token and token_file"},
		{catalog.Config{KeyFile: "b"}, "cert_file and key_file go together"},
	} {
		err := row.config.Validate()
		if (err == nil) != (row.want == "") || (err != nil && !strings.Contains(err.Error(), row.want)) {
			t.Errorf("%+v: %v, want %q", row.config, err, row.want)
		}
	}
}

func TestNewClientErrors(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "none")
	_, err := catalog.NewClient(catalog.Config{CAFile: missing, Pos: "a.hcl:1"})
	if err == nil || !strings.HasPrefix(err.Error(), "a.hcl:1: consul: ") || !strings.Contains(err.Error(), missing) {
		t.Errorf("%v", err)
	}
}

func TestUnixSocket(t *testing.T) {
	path := filepath.Join(t.TempDir(), "consul.sock")
	socket, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, `{"ID": %q}`, r.Header.Get("X-Consul-Token"))
	}))
	server.Listener = socket
	server.Start()
	defer server.Close()
	token := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(token, []byte("from-file\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	client, err := catalog.NewClient(catalog.Config{Address: "unix://" + path, TokenFile: token})
	if err != nil {
		t.Fatal(err)
	}
	s, _, err := client.Agent().Service("x", nil)
	if err != nil || s.ID != "from-file" {
		t.Errorf("%+v, %v", s, err)
	}
}

func TestExplain(t *testing.T) {
	refused, err := catalog.NewClient(catalog.Config{Address: "127.0.0.1:1"})
	if err != nil {
		t.Fatal(err)
	}
	_, unreachable := refused.Agent().Self()
	for _, row := range []struct {
		err  error
		want string
	}{
		{nil, "<nil>"},
		{unreachable, "consul cannot be reached at 127.0.0.1:1 (is the agent running, and is -http-addr, CONSUL_HTTP_ADDR or consul { address } right?): " +
			"dial tcp 127.0.0.1:1: connect: connection refused"},
		{
			fmt.Errorf("x: %w", api.StatusError{Code: 403, Body: "Permission denied: token with AccessorID '1' lacks permission"}),
			`consul denies it, the token needs service:write on "edge": x: Unexpected response code: 403 ` +
				`(Permission denied: token with AccessorID '1' lacks permission)`,
		},
		{api.StatusError{Code: 403, Body: "ACL not found"}, "consul does not know the token; give another by -token, CONSUL_HTTP_TOKEN " +
			"or consul { token }: Unexpected response code: 403 (ACL not found)"},
		{api.StatusError{Code: 500, Body: "No cluster leader"}, "consul has no leader at the moment: Unexpected response code: 500 (No cluster leader)"},
		{api.StatusError{Code: 500, Body: "boom"}, "consul: Unexpected response code: 500 (boom)"},
		{fmt.Errorf("decode: %w", io.EOF), "consul: the answer is none of Consul's: is -http-addr, CONSUL_HTTP_ADDR or consul { address } " +
			"that of an agent? (decode: EOF)"},
		{context.Canceled, "context canceled"},
	} {
		if got := fmt.Sprint(catalog.Explain(row.err, `service:write on "edge"`)); got != row.want {
			t.Errorf("got  %s\nwant %s", got, row.want)
		}
	}
}

// sink hands sets over.
type sink chan *mesh.EndpointSet

func (s sink) SetEndpoints(set *mesh.EndpointSet) { s <- set }

// An agent that has just come back names no instance, since its checks have not
// run: the instances that still accept are kept.
func TestWatcherHoldsBackEmptyAnswersAfterAnError(t *testing.T) {
	instance, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Close()
	_, port, err := net.SplitHostPort(instance.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	var step atomic.Int64
	consul := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := step.Add(1)
		w.Header().Set("X-Consul-Index", fmt.Sprint(n))
		switch {
		case n == 2:
			http.Error(w, "No cluster leader", http.StatusInternalServerError)
		case n == 3, n == 4:
			fmt.Fprint(w, `[]`)
		case n <= 5:
			weight := 1
			if n == 5 {
				weight = 3
			}
			fmt.Fprintf(w, `[{"Node": {"Address": "127.0.0.1"}, "Service": {"ID": "a", "Port": %s, "Weights": {"Passing": %d}}},
				{"Node": {"Address": "127.0.0.1"}, "Service": {"ID": "without a port"}}]`, port, weight)
		case n == 6:
			instance.Close()
			fmt.Fprint(w, `[]`)
		default:
			<-r.Context().Done()
		}
	}))
	defer consul.Close()
	client, err := catalog.NewClient(catalog.Config{Address: consul.URL})
	if err != nil {
		t.Fatal(err)
	}
	sets := make(sink, 10)
	w := catalog.NewWatcher(client, sets, slog.New(slog.DiscardHandler))
	w.Watch([]catalog.Query{{Cluster: "catalog/legacy", Service: "legacy"}})
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	for i, want := range []int{1, 1, 0} {
		select {
		case set := <-sets:
			if len(set.Endpoints) != want || set.Name != "catalog/legacy" {
				t.Errorf("set %d: %+v", i, set)
			}
			if i == 1 && set.Endpoints[0].Weight != 3 {
				t.Errorf("an empty answer was not held back: %+v", set)
			}
		case <-time.After(time.Minute):
			t.Fatalf("no set %d; asked %d times", i, step.Load())
		}
	}
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestWatcherStopsWhatIsNotWanted(t *testing.T) {
	gone := make(chan string, 10)
	consul := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		gone <- "asked " + r.URL.Path + " " + r.URL.Query().Get("tag") + r.URL.Query().Get("dc")
		<-r.Context().Done()
		gone <- "left " + r.URL.Path
	}))
	defer consul.Close()
	client, err := catalog.NewClient(catalog.Config{Address: consul.URL})
	if err != nil {
		t.Fatal(err)
	}
	w := catalog.NewWatcher(client, make(sink), slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- w.Run(ctx) }()
	w.Watch([]catalog.Query{{Service: "a", Tag: "v1", Datacenter: "dc2"}})
	expect(t, gone, "asked /v1/health/service/a v1dc2")
	w.Watch(nil)
	expect(t, gone, "left /v1/health/service/a")
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func expect(t *testing.T, events <-chan string, want string) {
	t.Helper()
	select {
	case got := <-events:
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("%q did not happen", want)
	}
}
