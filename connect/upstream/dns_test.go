package upstream_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

func dns(kind mesh.ClusterKind, names ...string) *mesh.Cluster {
	c := &mesh.Cluster{Name: "c", Kind: kind}
	for _, text := range names {
		name, err := mesh.ParseDNSName(text)
		if err != nil {
			panic(err)
		}
		c.Names = append(c.Names, name)
	}
	return c
}

func TestDNS(t *testing.T) {
	t.Parallel()
	address := named(t, "one")
	_, portText, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []mesh.ClusterKind{mesh.ClusterStrictDNS, mesh.ClusterLogicalDNS} {
		s := newSet(t, dns(kind, "localhost:"+portText))
		c := s.Cluster("c")
		if c.Healthy() != 0 {
			t.Error("found without a look")
		}
		s.Sweep(t.Context(), time.Now())
		if got := do(t, c, request(http.MethodGet, "")); got.Body != "one " {
			t.Errorf("%+v", got)
		}
		if kind == mesh.ClusterLogicalDNS && c.Healthy() != 1 {
			t.Errorf("%d addresses at one time", c.Healthy())
		}
		if name := c.Hosts()[0].Name(); name != "localhost" {
			t.Errorf("host name %q", name)
		}

		// A new definition, such as one with a new leaf, keeps what was found.
		living := c.Hosts()[0]
		again := dns(kind, "localhost:"+portText)
		again.StatName = "new"
		commit(t, s, again)
		if c.Healthy() == 0 || c.Hosts()[0] != living {
			t.Error("the addresses are gone with the old definition")
		}
		// Other names do not.
		commit(t, s, dns(kind, "127.0.0.1:1"))
		if c.Healthy() != 0 {
			t.Error("the addresses of other names")
		}
		s.Sweep(t.Context(), time.Now())
		if diff := cmp.Diff([]string{"127.0.0.1:1"}, c.Schedule()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
}

// A name that is not found any more keeps its addresses, others are looked up.
func TestDNSFails(t *testing.T) {
	t.Parallel()
	names := []string{"127.0.0.1:1", "[::1]:2", "host.invalid:3"}
	s := newSet(t, dns(mesh.ClusterStrictDNS, names...))
	want := []string{"127.0.0.1:1", "[::1]:2"}
	for range 2 {
		s.Sweep(t.Context(), time.Now())
		if diff := cmp.Diff(want, s.Cluster("c").Schedule()); diff != "" {
			t.Errorf("-want +got:\n%s", diff)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	commit(t, s, dns(mesh.ClusterStrictDNS, "localhost:1"))
	s.Sweep(t.Context(), time.Now())
	found := s.Cluster("c").Schedule()
	s.Sweep(ctx, time.Now().Add(time.Minute))
	if diff := cmp.Diff(found, s.Cluster("c").Schedule()); diff != "" || len(found) == 0 {
		t.Errorf("after a lookup that failed: -want +got:\n%s", diff)
	}
}

// zone is a DNS in the test's hand: addresses by host; none is an error.
type zone struct {
	mu    sync.Mutex // guards:
	hosts map[string][]string
	asked int
	gate  chan struct{} // if not nil, answers wait until it is closed
}

var errNoHost = errors.New("no such host")

func (z *zone) lookup(ctx context.Context, network, host string) ([]netip.Addr, error) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.asked++
	if z.gate != nil {
		select {
		case <-z.gate:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
	var found []netip.Addr
	for _, text := range z.hosts[host] {
		addr := netip.MustParseAddr(text)
		if network == "ip" || network == "ip4" && addr.Is4() || network == "ip6" && addr.Is6() {
			found = append(found, addr)
		}
	}
	if len(found) == 0 {
		return nil, errNoHost
	}
	return found, nil
}

func (z *zone) set(host string, addrs ...string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.hosts[host] = addrs
}

// TestDNSFamilies_Trap27: dual-stack agents ask for ALL addresses, JWKS clusters for
// V4_PREFERRED or ALL, others for V4_ONLY.
func TestDNSFamilies_Trap27(t *testing.T) {
	t.Parallel()
	z := &zone{hosts: map[string][]string{"both": {"10.0.0.2", "fd00::2", "10.0.0.1"}, "four": {"10.0.0.1"}, "six": {"fd00::1"}}}
	for _, tt := range []struct {
		family mesh.DNSFamily
		host   string
		want   []string
	}{
		{mesh.DNSAuto, "both", []string{"[fd00::2]:1"}},
		{mesh.DNSAuto, "four", []string{"10.0.0.1:1"}},
		{mesh.DNSv4Only, "both", []string{"10.0.0.2:1", "10.0.0.1:1"}},
		{mesh.DNSv4Only, "six", nil},
		{mesh.DNSv6Only, "both", []string{"[fd00::2]:1"}},
		{mesh.DNSv6Only, "four", nil},
		{mesh.DNSv4Preferred, "both", []string{"10.0.0.2:1", "10.0.0.1:1"}},
		{mesh.DNSv4Preferred, "six", []string{"[fd00::1]:1"}},
		{mesh.DNSAll, "both", []string{"10.0.0.2:1", "[fd00::2]:1", "10.0.0.1:1"}},
	} {
		definition := dns(mesh.ClusterStrictDNS, tt.host+":1")
		definition.DNS.Family = tt.family
		s := newSet(t)
		s.Resolve(z.lookup)
		commit(t, s, definition)
		s.Sweep(t.Context(), time.Now())
		if diff := cmp.Diff(tt.want, s.Cluster("c").Schedule()); diff != "" {
			t.Errorf("family %d of %s: -want +got:\n%s", tt.family, tt.host, diff)
		}
	}
}

// What stands at a name is what its addresses become.
func TestDNSKeepsWhatTheNameSays(t *testing.T) {
	t.Parallel()
	z := &zone{hosts: map[string][]string{"a": {"10.0.0.1", "10.0.0.2"}, "b": {"10.0.0.3"}}}
	definition := dns(mesh.ClusterStrictDNS, "a:1", "b:2", "10.0.0.4:3")
	definition.Names[0].Endpoint = mesh.Endpoint{Weight: 2, Hostname: "given"}
	definition.Names[1].Endpoint.Priority = 1
	s := newSet(t)
	s.Resolve(z.lookup)
	commit(t, s, definition)
	s.Sweep(t.Context(), time.Now())
	c := s.Cluster("c")
	if diff := cmp.Diff([]string{"10.0.0.1:1", "10.0.0.2:1", "10.0.0.4:3", "10.0.0.1:1", "10.0.0.2:1"}, c.Schedule()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	var names []string
	for _, h := range c.Hosts() {
		names = append(names, h.Address()+" "+h.Name())
	}
	if diff := cmp.Diff([]string{"10.0.0.1:1 given", "10.0.0.2:1 given", "10.0.0.3:2 b", "10.0.0.4:3 10.0.0.4"}, names); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// The one endpoint of a LOGICAL_DNS cluster stays at its address as long as that is
// in the answer, and has the others to turn to.
func TestLogicalDNS(t *testing.T) {
	t.Parallel()
	alive := named(t, "alive")
	_, port, err := net.SplitHostPort(alive)
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{hosts: map[string][]string{"a": {"127.0.0.2", "127.0.0.1"}}} // nobody is at the first
	s := newSet(t)
	s.Resolve(z.lookup)
	commit(t, s, dns(mesh.ClusterLogicalDNS, "a:"+port))
	now := time.Now()
	s.Sweep(t.Context(), now)
	c := s.Cluster("c")
	if got := do(t, c, request(http.MethodGet, "")); got.Body != "alive " || len(got.Attempts) != 1 {
		t.Errorf("%+v", got)
	}
	living := c.Hosts()[0]
	z.set("a", "127.0.0.3", "127.0.0.1", "127.0.0.2")
	now = now.Add(time.Minute)
	s.Sweep(t.Context(), now)
	if len(c.Hosts()) != 1 || c.Hosts()[0] != living {
		t.Error("another endpoint, though its address is still there")
	}
	z.set("a", "127.0.0.3")
	s.Sweep(t.Context(), now.Add(time.Minute))
	if diff := cmp.Diff([]string{"127.0.0.3:" + port}, c.Schedule()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// A failed lookup is repeated sooner and then less and less often.
func TestDNSRetries(t *testing.T) {
	t.Parallel()
	z := &zone{hosts: map[string][]string{}}
	definition := dns(mesh.ClusterStrictDNS, "a:1")
	definition.DNS = mesh.DNS{Refresh: 30 * time.Second, Retry: time.Second, MaxRetry: 3 * time.Second}
	s := newSet(t)
	s.Resolve(z.lookup)
	commit(t, s, definition)
	now := time.Now()
	var at []int
	for second := range 40 {
		before := z.asked
		s.Sweep(t.Context(), now.Add(time.Duration(second)*time.Second))
		if z.asked > before {
			at = append(at, second)
		}
		if second == 8 {
			z.set("a", "10.0.0.1")
		}
	}
	if diff := cmp.Diff([]int{0, 1, 3, 6, 9, 39}, at); diff != "" {
		t.Errorf("looked up at: -want +got:\n%s", diff)
	}
}

// What comes before the first answer of DNS waits for it, and not for ever; how long a
// connection may take says nothing of it.
func TestDNSIsAwaited(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"a": {"127.0.0.1"}}, gate: make(chan struct{})}
		s := newSet(t)
		s.Resolve(func(ctx context.Context, network, host string) ([]netip.Addr, error) {
			return z.lookup(context.WithoutCancel(ctx), network, host)
		})
		definition := dns(mesh.ClusterStrictDNS, "a:1")
		definition.ConnectTimeout = time.Second
		commit(t, s, definition)
		run(t, s)
		began := time.Now()
		if _, _, err := s.Cluster("c").Dial(t.Context(), wire.Choice{}); wire.AsFault(err).Flag != wire.FlagNoHealthyUpstream || time.Since(began) != 5*time.Second {
			t.Errorf("after %v: %v", time.Since(began), err)
		}
		if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Status != 503 || got.Flag != wire.FlagNoHealthyUpstream || time.Since(began) != 10*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), got)
		}
		late := newExchange()
		late.Deadline = time.Now().Add(time.Second)
		if got := finish(t, late, s.Cluster("c"), request(http.MethodGet, "")); got.Status != 504 || got.Flag != wire.FlagUpstreamTimeout || time.Since(began) != 11*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), got)
		}
		late.Done(time.Now())
		gone := newExchange()
		time.AfterFunc(time.Second, func() { gone.Abort(wire.ErrClientGone) })
		if got := finish(t, gone, s.Cluster("c"), request(http.MethodGet, "")); got.Flag != wire.FlagDownstreamReset {
			t.Errorf("without its client: %+v", got)
		}
		gone.Done(time.Now())
		time.AfterFunc(3*time.Second, func() { close(z.gate) })
		began = time.Now()
		// Nobody is there, which is what was to be found out.
		if got := do(t, s.Cluster("c"), request(http.MethodGet, "")); got.Flag != wire.FlagUpstreamConnect || time.Since(began) != 3*time.Second {
			t.Errorf("after %v: %+v", time.Since(began), got)
		}
	})
}

// A name that comes, or takes the place of another, is looked up at once, whatever Run
// is at.
func TestDNSAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		z := &zone{hosts: map[string][]string{"a": {"10.0.0.1"}, "b": {"10.0.0.2"}}}
		s := newSet(t)
		s.Resolve(z.lookup)
		run(t, s)
		began := time.Now()
		for n := range 40 {
			var all []*mesh.Cluster
			for i := range 100 { // as likely before it as behind
				all = append(all, static(fmt.Sprintf("%d/%d", n, i), at("10.0.0.3:1")))
			}
			host, want := "a", "10.0.0.1:1"
			if n%2 == 1 {
				host, want = "b", "10.0.0.2:1"
			}
			named := dns(mesh.ClusterStrictDNS, host+":1")
			if named.Name = "named"; n%4 < 2 {
				named.Name = "other"
			}
			commit(t, s, append(all, named)...)
			synctest.Wait()
			if got := s.Cluster(named.Name).Schedule(); len(got) != 1 || got[0] != want {
				t.Fatalf("%d: %v, want %s", n, got, want)
			}
		}
		if time.Since(began) != 0 {
			t.Error("time has gone by")
		}
	})
}

// A lookup that takes long is waited for before there is another one.
func TestDNSOneLookup(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int64
		s := newSet(t)
		s.Resolve(func(ctx context.Context, _, _ string) ([]netip.Addr, error) {
			asked.Add(1)
			<-ctx.Done()
			return nil, ctx.Err()
		})
		definition := dns(mesh.ClusterStrictDNS, "a:1")
		definition.DNS.Refresh = time.Second
		commit(t, s, definition)
		run(t, s)
		<-time.After(4500 * time.Millisecond)
		if n := asked.Load(); n != 1 {
			t.Errorf("%d lookups while the first is under way", n)
		}
		<-time.After(3 * time.Second)
		if n := asked.Load(); n != 2 {
			t.Errorf("%d lookups, the first of which is over", n)
		}
	})
}

// AutoHost makes the authority the name of who is chosen.
func TestAutoHost(t *testing.T) {
	t.Parallel()
	address := serve(t, func(w http.ResponseWriter, r *http.Request) { _, _ = w.Write([]byte(r.Host)) })
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	z := &zone{hosts: map[string][]string{"api.example": {"127.0.0.1"}}}
	s := newSet(t)
	s.Resolve(z.lookup)
	for _, tt := range []struct {
		cluster *mesh.Cluster
		auto    bool
		want    string
	}{
		{dns(mesh.ClusterStrictDNS, "api.example:"+port), true, "api.example"},
		{dns(mesh.ClusterStrictDNS, "api.example:"+port), false, "test"},
		{static("c", at(address)), true, "test"}, // it has no name
	} {
		commit(t, s, tt.cluster)
		s.Sweep(t.Context(), time.Now())
		x := newExchange()
		x.Choice.AutoHost = tt.auto
		if got := finish(t, x, s.Cluster("c"), request(http.MethodGet, "")); got.Body != tt.want {
			t.Errorf("auto %t: %+v, want %q", tt.auto, got, tt.want)
		}
		x.Done(time.Now())
	}
}
