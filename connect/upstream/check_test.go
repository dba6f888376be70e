package upstream_test

import (
	"context"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

func checked(c *mesh.Cluster) *mesh.Cluster {
	const often = 5 * time.Millisecond
	c.Check = &mesh.ActiveCheck{
		Timeout: 10 * time.Second, Interval: often, NoTraffic: often, NoTrafficHealthy: often, UnhealthyInterval: often, UnhealthyEdge: often, HealthyEdge: often,
		UnhealthyAfter: 1, HealthyAfter: 1,
		HTTP: &mesh.HTTPCheck{Host: "c", Path: "/health", Expected: []mesh.StatusRange{{From: 200, To: 201}}},
	}
	return c
}

// A host that was not asked yet is waited for; one that fails is left out, until it
// passes or until nobody asks any more. Hosts come and go meanwhile.
func TestChecks(t *testing.T) {
	t.Parallel()
	var status atomic.Int32
	status.Store(http.StatusOK)
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
	s := newSet(t, checked(static("c", at(address))))
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Status != http.StatusOK {
		t.Errorf("the first request: %+v", got)
	}
	healthy := func(n int) func() bool {
		return func() bool { return s.Cluster("c").Stats().Healthy == n }
	}
	status.Store(http.StatusInternalServerError)
	eventually(t, "a host that fails to be left out", healthy(0))
	if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Status != http.StatusServiceUnavailable {
		t.Errorf("of an unhealthy host: %+v", got)
	}
	commit(t, s, checked(static("c", at(address), at(named(t, "other")))))
	status.Store(http.StatusOK)
	eventually(t, "both to pass", healthy(2))
	commit(t, s, checked(static("c", at(address))))
	status.Store(http.StatusInternalServerError)
	eventually(t, "the one that stays to fail", healthy(0))
	if stats := s.Cluster("c").Stats().Checks; stats.Failures == 0 || stats.Successes == 0 || stats.Attempts < stats.Failures+stats.Successes {
		t.Errorf("%+v", stats)
	}
	commit(t, s, static("c", at(address)))
	eventually(t, "nobody to ask", healthy(1))
}

// A host that does not answer its first check holds nobody up while another one has passed.
func TestFirstChecks(t *testing.T) {
	t.Parallel()
	definition := checked(static("c", at(silent(t)), at(named(t, "other"))))
	definition.Check.Timeout = time.Hour
	definition.ConnectTimeout = time.Hour
	definition.PanicPercent = 50
	s := newSet(t, definition)
	run(t, s)
	for range 10 {
		x := newExchange()
		x.Deadline = time.Now().Add(time.Minute)
		if got := finish(t, x, s.Cluster("c"), request(http.MethodGet, "")); got.Body != "other " {
			t.Errorf("%+v", got)
		}
		x.Done(time.Now())
	}
	conn, host, err := s.Cluster("c").Dial(t.Context(), wire.Choice{})
	if err != nil || host.Address() != s.Cluster("c").Hosts()[1].Address() {
		t.Fatalf("dial: %v, %v", host, err)
	}
	conn.Close()
}

// TestRaceInTurn has families take turns.
func TestRaceInTurn(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		order     mesh.Race
		all, want []string
	}{
		{mesh.Race{}, []string{"10.0.0.1:1", "10.0.0.2:1", "[::1]:1"}, []string{"10.0.0.1:1", "[::1]:1", "10.0.0.2:1"}},
		{mesh.Race{First: 6}, []string{"10.0.0.1:1", "10.0.0.2:1", "[::1]:1"}, []string{"[::1]:1", "10.0.0.1:1", "10.0.0.2:1"}},
		{mesh.Race{First: 6}, []string{"10.0.0.1:1", "10.0.0.2:1"}, []string{"10.0.0.1:1", "10.0.0.2:1"}},
		{mesh.Race{Count: 2}, []string{"[::1]:1", "[::2]:1", "[::3]:1", "10.0.0.1:1", "10.0.0.2:1"}, []string{"[::1]:1", "[::2]:1", "10.0.0.1:1", "[::3]:1", "10.0.0.2:1"}},
	} {
		var all []netip.AddrPort
		for _, text := range tt.all {
			all = append(all, netip.MustParseAddrPort(text))
		}
		var got []string
		for _, a := range upstream.InTurn(all, tt.order) {
			got = append(got, a.String())
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%+v: -want +got:\n%s", tt.order, diff)
		}
	}
}
