package upstream_test

import (
	"encoding/pem"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// secure starts a TLS server and returns its address and how to reach it.
func secure(t *testing.T) (string, *mesh.UpstreamTLS) {
	t.Helper()
	server := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "secure") }))
	t.Cleanup(server.Close)
	root := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	return server.Listener.Addr().String(), &mesh.UpstreamTLS{
		Roots: mesh.Roots{PEM: string(root)}, ServerName: "example.com", DNSNames: []string{"example.com"},
	}
}

func roots(t *testing.T) mesh.Roots {
	t.Helper()
	_, secured := secure(t)
	return secured.Roots
}

func TestEndpointsBeforeCluster(t *testing.T) {
	t.Parallel()
	s := newSet(t)
	one := named(t, "one")
	s.SetEndpoints(set("endpoints", at(one)))
	commit(t, s, &mesh.Cluster{Name: "c", EndpointName: "endpoints"}, eds("d"))
	if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Body != "one " {
		t.Errorf("%+v", got)
	}
	if n := s.Cluster("d").Healthy(); n != 0 {
		t.Errorf("the other cluster has %d endpoints", n)
	}
	// The set of a static cluster is its own.
	commit(t, s, static("c", at(one)))
	s.SetEndpoints(set("c"))
	if n := s.Cluster("c").Healthy(); n != 1 {
		t.Errorf("the static cluster has %d endpoints", n)
	}
}

// Two clusters may share one set of endpoints, and one of them may go.
func TestSharedEndpoints(t *testing.T) {
	t.Parallel()
	share := func(name string) *mesh.Cluster { return &mesh.Cluster{Name: name, EndpointName: "shared"} }
	s := newSet(t, share("a"), share("b"))
	s.SetEndpoints(set("shared", at(port(1))))
	commit(t, s, share("b"))
	if n := s.Cluster("b").Healthy(); n != 1 {
		t.Errorf("%d endpoints are left for the other", n)
	}
	commit(t, s)
	commit(t, s, share("b"))
	if n := s.Cluster("b").Healthy(); n != 0 {
		t.Errorf("%d endpoints of a cluster that was gone", n)
	}
}

// Hosts that stay keep their connections; what is under way on others ends well.
func TestEndpointSwap(t *testing.T) {
	t.Parallel()
	s := newSet(t, eds("c"))
	c := s.Cluster("c")
	one, two := named(t, "one"), named(t, "two")
	s.SetEndpoints(set("c", at(one)))
	do(t, c, request(http.MethodGet, ""))
	host := c.Hosts()[0]
	s.SetEndpoints(set("c", at(two), weighted(one, 2)))
	if c.Hosts()[1] != host {
		t.Error("a host that stayed is another")
	}
	for range 6 {
		got := do(t, c, request(http.MethodGet, ""))
		if got.Body == "one " && !got.Attempts[0].Reused {
			t.Error("the pool of a host that stayed is gone")
		}
	}

	x := newExchange()
	resp, err := c.Serve(x, request(http.MethodGet, ""))
	if err != nil {
		t.Fatal(err)
	}
	s.SetEndpoints(set("c"))
	if body, err := io.ReadAll(resp.Body); err != nil || len(body) == 0 {
		t.Errorf("an exchange with a host that goes: %q, %v", body, err)
	}
	x.Done(time.Now())
	if got := do(t, c, request(http.MethodGet, "")); got.Flag != wire.FlagNoHealthyUpstream {
		t.Errorf("%+v", got)
	}
	s.SetEndpoints(set("c", at(one)))
	if got := do(t, c, request(http.MethodGet, "")); got.Status != 200 || got.Attempts[0].Reused {
		t.Errorf("a host that came back is a new one: %+v", got)
	}
}

// connections notes how many connections a server has and had.
type connections struct {
	mu       sync.Mutex
	open     map[net.Conn]bool
	accepted int
}

func (c *connections) state(conn net.Conn, state http.ConnState) {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch state {
	case http.StateNew:
		c.open[conn] = true
		c.accepted++
	case http.StateClosed, http.StateHijacked:
		delete(c.open, conn)
	case http.StateActive, http.StateIdle:
	}
}

func (c *connections) count() (open, accepted int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open), c.accepted
}

func counted(t *testing.T) (string, *connections) {
	t.Helper()
	c := &connections{open: map[net.Conn]bool{}}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, "x") }))
	server.Config.ConnState = c.state
	server.Start()
	t.Cleanup(server.Close)
	return server.Listener.Addr().String(), c
}

func TestConnectionsClose(t *testing.T) {
	t.Parallel()
	address, seen := counted(t)
	s := newSet(t, eds("c"))
	fill := func() {
		t.Helper()
		s.SetEndpoints(set("c", at(address)))
		if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Status != 200 {
			t.Fatalf("%+v", got)
		}
		eventually(t, "a connection is open", func() bool { open, _ := seen.count(); return open == 1 })
	}
	gone := func(what string) {
		t.Helper()
		eventually(t, what, func() bool { open, _ := seen.count(); return open == 0 })
	}
	fill()
	s.Sweep(t.Context(), time.Now().Add(50*time.Second))
	fill()
	if _, accepted := seen.count(); accepted != 1 {
		t.Errorf("%d connections: one that is not idle for long was closed", accepted)
	}
	s.Sweep(t.Context(), time.Now().Add(60*time.Second))
	gone("idle for too long")
	fill()
	s.SetEndpoints(set("c"))
	gone("the endpoint is gone")
	fill()
	commit(t, s)
	gone("the cluster is gone")
	commit(t, s, eds("c"))
	fill()
	s.Close()
	gone("the set is closed")
}

// A new certificate of ours touches no connection, but who the peer has to be
// is decided when a connection is made.
func TestDefinitionChanges(t *testing.T) {
	t.Parallel()
	address, secured := secure(t)
	define := func(change func(u *mesh.UpstreamTLS)) *mesh.Cluster {
		u := *secured
		change(&u)
		c := static("c", at(address))
		c.TLS = &u
		return c
	}
	tests := []struct {
		name   string
		change func(u *mesh.UpstreamTLS)
		reused bool
		status int
	}{
		{"roots", func(u *mesh.UpstreamTLS) { u.Roots.PEM += "\n" }, true, 200},
		{"more names", func(u *mesh.UpstreamTLS) { u.DNSNames = append(u.DNSNames, "other.example") }, false, 200},
		{"another name", func(u *mesh.UpstreamTLS) { u.DNSNames = []string{"other.example"} }, false, 503},
		{"a URI", func(u *mesh.UpstreamTLS) { u.DNSNames, u.URIs = nil, []string{"spiffe://td/x"} }, false, 503},
		{"revocations", func(u *mesh.UpstreamTLS) { u.Chains.MaxDepth, u.Chains.HasMaxDepth = 9, true }, false, 200},
		{"server name", func(u *mesh.UpstreamTLS) { u.ServerName = "www.example.com" }, false, 200},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := newSet(t, define(func(*mesh.UpstreamTLS) {}))
			if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Status != 200 {
				t.Fatalf("%+v", got)
			}
			commit(t, s, define(tt.change))
			got := do(t, s.Cluster("c"), request(http.MethodGet, ""))
			if got.Status != tt.status || got.Attempts[0].Reused != tt.reused {
				t.Errorf("%d %s, reused %v", got.Status, got.Body, got.Attempts[0].Reused)
			}
		})
	}
	t.Run("from plain to TLS", func(t *testing.T) {
		t.Parallel()
		plain := named(t, "plain")
		s := newSet(t, static("c", at(plain)))
		do(t, s.Cluster("c"), request(http.MethodGet, ""))
		c := static("c", at(plain))
		c.TLS = secured
		commit(t, s, c)
		if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Flag != wire.FlagUpstreamConnect {
			t.Errorf("%+v", got)
		}
	})
	t.Run("the same", func(t *testing.T) {
		t.Parallel()
		c := define(func(*mesh.UpstreamTLS) {})
		s := newSet(t, c)
		living := s.Cluster("c")
		do(t, living, request(http.MethodGet, ""))
		commit(t, s, c, static("d"))
		if s.Cluster("c") != living || !do(t, living, request(http.MethodGet, "")).Attempts[0].Reused {
			t.Error("a cluster that did not change was touched")
		}
	})
}

// A prepared configuration that is not committed changes nothing.
func TestPrepareOnly(t *testing.T) {
	t.Parallel()
	c := static("c", at(named(t, "one")))
	s := newSet(t, c)
	if _, err := s.Prepare(map[string]*mesh.Cluster{"d": eds("d")}); err != nil {
		t.Fatal(err)
	}
	if s.Cluster("d") != nil || do(t, s.Cluster("c"), request(http.MethodGet, "")).Status != 200 {
		t.Error("something has changed")
	}
}

func TestStats(t *testing.T) {
	t.Parallel()
	s := newSet(t, eds("b"), eds("a"), eds("c"))
	var names []string
	for _, stats := range s.Stats() {
		names = append(names, stats.Name)
	}
	if diff := cmp.Diff([]string{"a", "b", "c"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A lookup that ends after its cluster was removed does not open it again.
func TestDNSRemoved(t *testing.T) {
	t.Parallel()
	s := newSet(t, dns(mesh.ClusterStrictDNS, "127.0.0.1:1"))
	c := s.Cluster("c")
	commit(t, s)
	s.Refresh(t.Context(), c, time.Now())
	if n := len(c.Hosts()); n != 0 {
		t.Errorf("%d hosts", n)
	}
}

func TestHostAddress(t *testing.T) {
	t.Parallel()
	socket := mesh.Endpoint{Address: mesh.Address{Socket: t.TempDir() + "/s"}, Weight: 1}
	l, err := net.Listen("unix", socket.Address.Socket)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c := newSet(t, static("c", socket)).Cluster("c")
	conn, host, err := c.Dial(t.Context(), wire.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if !strings.HasSuffix(host.Address(), "/s") || host.Name() != "" {
		t.Errorf("%q, %q", host.Address(), host.Name())
	}
}

// A cluster that takes other endpoints leaves those that it had, which are forgotten
// when nobody uses them, and gets what came before it asked.
func TestEndpointsOfAnotherName(t *testing.T) {
	t.Parallel()
	uses := func(cluster, endpoints string) *mesh.Cluster {
		return &mesh.Cluster{Name: cluster, EndpointName: endpoints}
	}
	one, two := at(port(1)), at(port(2))
	s := newSet(t, uses("a", "first"), uses("b", "first"))
	s.SetEndpoints(set("first", one))
	s.SetEndpoints(set("second", one, two))
	counts := func() [2]int { return [2]int{s.Cluster("a").Healthy(), s.Cluster("b").Healthy()} }
	for _, step := range []struct {
		what string
		do   func()
		want [2]int
	}{
		{"both use the first", func() {}, [2]int{1, 1}},
		{"one moves", func() { commit(t, s, uses("a", "second"), uses("b", "first")) }, [2]int{2, 1}},
		{"the first is another", func() { s.SetEndpoints(set("first", one, two)) }, [2]int{2, 2}},
		{"the second is another", func() { s.SetEndpoints(set("second", one)) }, [2]int{1, 2}},
		{"they change places", func() { commit(t, s, uses("a", "first"), uses("b", "second")) }, [2]int{2, 1}},
		{"nobody uses the second", func() { commit(t, s, uses("a", "first"), uses("b", "first")) }, [2]int{2, 2}},
		{"it is forgotten", func() { commit(t, s, uses("a", "first"), uses("b", "second")) }, [2]int{2, 0}},
		{"one has its own", func() { commit(t, s, static("a", one), uses("b", "second")) }, [2]int{1, 0}},
		{"which the stream does not change", func() { s.SetEndpoints(set("first")) }, [2]int{1, 0}},
	} {
		step.do()
		if got := counts(); got != step.want {
			t.Errorf("%s: %v healthy endpoints, not %v", step.what, got, step.want)
		}
	}
}

// thousand are a thousand clusters with ten endpoints each.
func thousand(b *testing.B) (map[string]*mesh.Cluster, []*mesh.EndpointSet) {
	b.Helper()
	all := map[string]*mesh.Cluster{}
	var sets []*mesh.EndpointSet
	for i := range 1000 {
		name := fmt.Sprintf("service-%d.default.dc1.internal.consul", i)
		all[name] = eds(name)
		var endpoints []mesh.Endpoint
		for j := range 10 {
			endpoints = append(endpoints, at(fmt.Sprintf("10.0.%d.%d:80", i%250, j)))
		}
		sets = append(sets, set(name, endpoints...))
	}
	return all, sets
}

// BenchmarkSetEndpoints is a change of one set of endpoints among 1,000 clusters.
func BenchmarkSetEndpoints(b *testing.B) {
	all, sets := thousand(b)
	s := newSet(b)
	put, err := s.Prepare(all)
	if err != nil {
		b.Fatal(err)
	}
	put()
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		s.SetEndpoints(sets[i%len(sets)])
	}
}

// BenchmarkPrepareOne is a change of one cluster among 1,000.
func BenchmarkPrepareOne(b *testing.B) {
	all, sets := thousand(b)
	s := newSet(b)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		all[sets[i%len(sets)].Name] = eds(sets[i%len(sets)].Name)
		put, err := s.Prepare(all)
		if err != nil {
			b.Fatal(err)
		}
		put()
	}
}
