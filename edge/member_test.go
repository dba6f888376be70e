package edge_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/edge"
)

// An agent that first denies and then takes the registration: the edge says what
// permission it needs, tries again, and takes all back at its end.
// (What a real agent makes of it is tested in integration.)
func TestMemberHeals(t *testing.T) {
	calls := make(chan string, 100)
	answers := map[string]int{}
	consul := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		call := r.Method + " " + r.URL.Path
		answers[call]++
		if r.URL.Path == "/v1/agent/service/register" {
			var s struct{ ID string }
			if err := json.NewDecoder(r.Body).Decode(&s); err != nil {
				t.Error(err)
			}
			call += " " + s.ID
		}
		if strings.HasSuffix(r.URL.Path, "/register") && answers[r.Method+" "+r.URL.Path] == 1 {
			http.Error(w, "Permission denied", http.StatusForbidden)
		}
		calls <- call
	}))
	defer consul.Close()
	client, err := catalog.NewClient(catalog.Config{Address: consul.URL})
	if err != nil {
		t.Fatal(err)
	}
	log := &buffer{}
	watched := make(chan string, 1)
	g, err := edge.New(edge.Config{
		ID:        "edge-1",
		Listeners: []edge.Listener{{Name: "public", Address: freeAddress(t)}},
		APIs: []edge.API{{Name: "a", Routes: []edge.Route{
			{Name: "r", Upstream: &edge.Upstream{Service: "web"}},
		}}},
	}, edge.Deps{
		Log: slog.New(slog.NewTextHandler(log, nil)), Stdout: io.Discard, Consul: client,
		Mesh: func(ctx context.Context, id string, _ *upstream.Set, _ edge.Stage) error {
			watched <- id
			<-ctx.Done()
			return nil
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- g.Run(ctx) }()
	const register = "PUT /v1/agent/service/register "
	for _, want := range []string{register + "edge-1", register + "edge-1", register + "edge-1-sidecar-proxy"} {
		expectCall(t, calls, want)
	}
	if id := <-watched; id != "edge-1-sidecar-proxy" {
		t.Errorf("xDS is followed as %q", id)
	}
	const need = `the token needs service:write on \"edge\" and \"edge-sidecar-proxy\"`
	if !strings.Contains(strings.ReplaceAll(log.String(), `\\`, ``), need) {
		t.Errorf("the log does not say %s:\n%s", need, log.String())
	}
	if err := g.Ready(); err == nil || !strings.Contains(err.Error(), "waiting for Consul") {
		t.Errorf("ready: %v", err)
	}
	stop()
	expectCall(t, calls, "PUT /v1/agent/service/deregister/edge-1-sidecar-proxy")
	expectCall(t, calls, "PUT /v1/agent/service/deregister/edge-1")
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func expectCall(t *testing.T, calls <-chan string, want string) {
	t.Helper()
	select {
	case got := <-calls:
		if got != want {
			t.Errorf("%q, want %q", got, want)
		}
	case <-time.After(time.Minute):
		t.Fatalf("not called: %s", want)
	}
}
