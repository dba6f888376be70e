package stack_test

import (
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// several is a cluster "c" of named backends.
func several(t *testing.T, n int, change func(c *mesh.Cluster)) *upstream.Set {
	t.Helper()
	c := &mesh.Cluster{Name: "c", Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{}}
	for i := range n {
		address := backend(t, func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, i) })
		c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, mesh.Endpoint{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: 1})
	}
	if change != nil {
		change(c)
	}
	s := upstream.NewSet(nil)
	t.Cleanup(s.Close)
	commit, err := s.Prepare(map[string]*mesh.Cluster{"c": c})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	return s
}

func TestHashPolicies(t *testing.T) {
	t.Parallel()
	hashing := func(c *mesh.Cluster) { c.Balance.Policy = mesh.RingHash }
	client := func(address string) *wire.Peer { return &wire.Peer{Addr: netip.MustParseAddrPort(address)} }
	header := func(name string) mesh.HashPolicy { return mesh.HashPolicy{Header: name} }
	tests := []struct {
		name     string
		policies []mesh.HashPolicy
		same     func(i int) (*wire.Peer, *wire.Request) // all to one host
	}{
		{"header", []mesh.HashPolicy{header("x-user")}, func(i int) (*wire.Peer, *wire.Request) {
			return &wire.Peer{}, request("GET", fmt.Sprintf("/%d", i), "x-user", "u")
		}},
		{"values in any order", []mesh.HashPolicy{header("x-user")}, func(i int) (*wire.Peer, *wire.Request) {
			return &wire.Peer{}, request("GET", "/", "x-user", fmt.Sprint(i%2), "x-user", fmt.Sprint((i+1)%2))
		}},
		{"query", []mesh.HashPolicy{{Query: "q"}}, func(i int) (*wire.Peer, *wire.Request) {
			return &wire.Peer{}, request("GET", fmt.Sprintf("/?x=%d&q=a%%20b", i))
		}},
		{"source", []mesh.HashPolicy{{SourceIP: true}}, func(i int) (*wire.Peer, *wire.Request) {
			return client(fmt.Sprintf("10.1.2.3:%d", i+1)), request("GET", "/")
		}},
		{"cookie", []mesh.HashPolicy{{Cookie: &mesh.HashCookie{Name: "k"}}}, func(i int) (*wire.Peer, *wire.Request) {
			return &wire.Peer{}, request("GET", "/", "cookie", fmt.Sprintf(`a=%d; k="v"`, i))
		}},
		{"two", []mesh.HashPolicy{header("x-user"), header("x-other")}, func(i int) (*wire.Peer, *wire.Request) {
			return &wire.Peer{}, request("GET", fmt.Sprintf("/%d", i), "x-user", "u", "x-other", "o")
		}},
		{"terminal", []mesh.HashPolicy{{Header: "x-user", Terminal: true}, header("x-other")}, func(i int) (*wire.Peer, *wire.Request) {
			return &wire.Peer{}, request("GET", "/", "x-user", "u", "x-other", fmt.Sprint(i))
		}},
		{"terminal without a value", []mesh.HashPolicy{{Header: "x-user", Terminal: true}, header("x-other")}, func(int) (*wire.Peer, *wire.Request) {
			return &wire.Peer{}, request("GET", "/", "x-other", "o")
		}},
	}
	for _, tt := range tests {
		service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Hash = tt.policies })}, several(t, 5, hashing))
		seen := map[string]bool{}
		for i := range 20 {
			peer, req := tt.same(i)
			seen[do(t, service, peer, req).Body] = true
		}
		if len(seen) != 1 {
			t.Errorf("%s: to %d hosts", tt.name, len(seen))
		}
	}
	service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Hash = tests[5].policies })}, several(t, 5, hashing))
	seen := map[string]bool{}
	for i := range 60 {
		seen[do(t, service, &wire.Peer{}, request("GET", "/", "x-user", "u", "x-other", fmt.Sprint(i))).Body] = true
	}
	if len(seen) < 4 {
		t.Errorf("the second policy does not count: %d hosts of 5", len(seen))
	}
}

// A cookie is made where there is none, and leads to the same host from then on.
func TestHashCookie(t *testing.T) {
	t.Parallel()
	set := several(t, 8, func(c *mesh.Cluster) { c.Balance.Policy = mesh.Maglev })
	for _, tt := range []struct {
		cookie mesh.HashCookie
		want   string
	}{
		{mesh.HashCookie{Name: "k", TTL: time.Hour, HasTTL: true, Path: "/a"}, "; Max-Age=3600; Path=/a; HttpOnly"},
		{mesh.HashCookie{Name: "k", HasTTL: true}, "; HttpOnly"},
		{mesh.HashCookie{Name: "k"}, ""},
	} {
		service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Hash = []mesh.HashPolicy{{Cookie: &tt.cookie}} })}, set)
		x := exchange(&wire.Peer{Addr: netip.MustParseAddrPort("10.0.0.1:5")})
		resp, err := service.Serve(x, request("GET", "/"))
		if err != nil {
			t.Fatal(err)
		}
		made := resp.Header.Get("set-cookie")
		first := x.Attempts[0].Endpoint
		resp.Body.Close()
		x.Done(time.Now())
		pair, attributes, _ := strings.Cut(made, ";")
		if tt.want == "" {
			if made != "" {
				t.Errorf("made %q", made)
			}
			continue
		}
		if !strings.HasPrefix(pair, `k="`) || ";"+attributes != tt.want {
			t.Errorf("%+v: %q", tt.cookie, made)
		}
		for range 10 {
			x := exchange(&wire.Peer{})
			resp, err := service.Serve(x, request("GET", "/", "cookie", pair))
			if err != nil || x.Attempts[0].Endpoint != first || resp.Header.Has("set-cookie") {
				t.Fatalf("%v, %v", err, x.Attempts)
			}
			resp.Body.Close()
			x.Done(time.Now())
		}
	}
}

// failingWith answers n times with status and a header, then with 200.
func failingWith(t *testing.T, n int, status int, name, value string) string {
	t.Helper()
	var count atomic.Int64
	return backend(t, func(w http.ResponseWriter, _ *http.Request) {
		if count.Add(1) <= int64(n) {
			w.Header().Set(name, value)
			w.WriteHeader(status)
		}
	})
}

func TestRetryHeaders(t *testing.T) {
	t.Parallel()
	tests := []struct {
		policy      mesh.Retry
		status      int
		name, value string
		grpc        bool
		tries       int
	}{
		{mesh.Retry{On: mesh.RetryHeaders, Headers: []mesh.HeaderMatch{{Name: "x-a", Present: true}}}, 200, "x-a", "1", false, 2},
		{mesh.Retry{On: mesh.RetryHeaders, Headers: []mesh.HeaderMatch{{Name: "x-b", Present: true}}}, 200, "x-a", "1", false, 1},
		{mesh.Retry{On: mesh.Retry5xx, Headers: []mesh.HeaderMatch{{Name: "x-a", Present: true}}}, 200, "x-a", "1", false, 1},
		{mesh.Retry{On: mesh.RetryRateLimited}, 429, "x-envoy-ratelimited", "true", false, 2},
		{mesh.Retry{On: mesh.Retry5xx}, 503, "x-envoy-ratelimited", "true", false, 1},
		{mesh.Retry{On: mesh.Retry5xx}, 503, "x-envoy-overloaded", "true", false, 1},
		{mesh.Retry{On: mesh.RetryStatusCodes, Codes: []int{200}}, 200, "x-a", "1", false, 6},
		{mesh.Retry{On: mesh.RetryUnavailable}, 200, "grpc-status", "14", true, 2},
		{mesh.Retry{On: mesh.RetryUnavailable}, 200, "grpc-status", "14", false, 1},
		{mesh.Retry{On: mesh.RetryUnavailable}, 200, "grpc-status", "13", true, 1},
		{mesh.Retry{On: mesh.RetryInternal}, 200, "grpc-status", "13", true, 2},
		{mesh.Retry{On: mesh.RetryCancelled}, 200, "grpc-status", "1", true, 2},
		{mesh.Retry{On: mesh.RetryDeadlineExceeded}, 200, "grpc-status", "4", true, 2},
		{mesh.Retry{On: mesh.RetryResourceExhausted}, 200, "grpc-status", "8", true, 2},
		{mesh.Retry{On: mesh.Retry5xx, RequestHeaders: []mesh.HeaderMatch{{Name: ":method", Value: mesh.StringMatch{Exact: "GET"}}}}, 503, "x-a", "1", false, 2},
		{mesh.Retry{On: mesh.Retry5xx, RequestHeaders: []mesh.HeaderMatch{{Name: ":method", Value: mesh.StringMatch{Exact: "PUT"}}}}, 503, "x-a", "1", false, 1},
	}
	for i, tt := range tests {
		tt.policy.Retries = 5
		service := retrying(t, tt.policy, failingWith(t, 1, tt.status, tt.name, tt.value))
		x := exchange(&wire.Peer{})
		x.GRPC = tt.grpc
		if got := finish(t, service, x, request("GET", "/")); got.Tries != tt.tries {
			t.Errorf("%d: %d tries, want %d", i, got.Tries, tt.tries)
		}
		x.Done(time.Now())
	}
}

// Retries go to hosts that were not tried, and no more than the cluster allows.
func TestRetryElsewhere(t *testing.T) {
	t.Parallel()
	var set *upstream.Set
	policy := mesh.Retry{On: mesh.Retry5xx, Retries: 3, PreviousHosts: true, HostAttempts: 20, BackOff: time.Millisecond}
	set = several(t, 1, func(c *mesh.Cluster) {
		for range 3 {
			address := failing(t, make503(1000)...)
			c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, mesh.Endpoint{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: 1})
		}
		c.Balance.Policy = mesh.Random
	})
	service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Retry = &policy })}, set)
	for range 20 {
		if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != 200 {
			t.Fatalf("%+v", got)
		}
	}
	if s := set.Cluster("c").Stats(); s.Retries == 0 || s.RetrySuccess != s.Retries && s.RetrySuccess > 20 || s.OpenRetries {
		t.Errorf("%+v", s)
	}
	none := several(t, 0, func(c *mesh.Cluster) {
		c.Endpoints = endpoint(failing(t, 503, 503))
		c.Limits = mesh.Limits{HasRetries: true}
	})
	service = compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Retry = &policy })}, none)
	if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != 503 || got.Tries != 1 || none.Cluster("c").Stats().RetryOverflow != 1 {
		t.Errorf("%+v", got)
	}
}

// What clients ask of a proxy itself does not count, as with Envoy: neither what an
// application asks of its own sidecar. Upstreams do not see it.
func TestAsked(t *testing.T) {
	t.Parallel()
	for name, peer := range map[string]*wire.Peer{
		"the same machine": {Addr: netip.MustParseAddrPort("127.0.0.1:1")}, "elsewhere": {Addr: netip.MustParseAddrPort("10.0.0.1:1")}, "TLS": {TLS: true},
	} {
		var leaked atomic.Bool
		address := backend(t, func(w http.ResponseWriter, r *http.Request) {
			for name := range r.Header {
				if strings.HasPrefix(name, "X-Envoy-") {
					leaked.Store(true)
				}
			}
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		service := compile(t, &mesh.HTTP{Route: toward(func(*mesh.Rule) {})}, clusters(t, map[string]string{"c": address}))
		got := do(t, service, peer, request("GET", "/", "x-envoy-retry-on", "5xx", "x-envoy-max-retries", "2", "x-envoy-retriable-status-codes", "503",
			"x-envoy-upstream-rq-timeout-ms", "1", "x-envoy-internal", "true", "x-envoy-expected-rq-timeout-ms", "1"))
		if got.Tries != 1 || got.Status != http.StatusServiceUnavailable || leaked.Load() {
			t.Errorf("%s: %+v; the upstream saw it: %t", name, got, leaked.Load())
		}
	}
}

func TestForward(t *testing.T) {
	t.Parallel()
	policy := &mesh.Retry{On: mesh.Retry5xx, Retries: 2}
	service := stack.Forward(clusters(t, map[string]string{"c": failing(t, 503, 503)}), "c", []mesh.HashPolicy{{Cookie: &mesh.HashCookie{Name: "k", HasTTL: true}}}, policy)
	x := exchange(&wire.Peer{})
	resp, err := service.Serve(x, request("GET", "/"))
	if err != nil || resp.Status != 200 || len(x.Attempts) != 3 || !resp.Header.Has("set-cookie") {
		t.Errorf("%v %v %d", resp, err, len(x.Attempts))
	}
	if resp != nil && resp.Body != nil {
		resp.Body.Close()
	}
	x.Done(time.Now())
	if got := do(t, stack.Forward(clusters(t, nil), "c", nil, nil), &wire.Peer{}, request("GET", "/")); got.Flag != wire.FlagNoCluster {
		t.Errorf("%+v", got)
	}
}
