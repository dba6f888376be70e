package stack_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// Trap 14: who is denied takes no place of those who are allowed, unless the limit
// stands in front.
func TestTrap14LimitBehindIntentions(t *testing.T) {
	t.Parallel()
	for _, first := range []bool{false, true} {
		chain := toC(intention(mesh.Allow, "web"))
		chain.Limit = &mesh.ConnectionLimit{Max: 1, First: first, StatPrefix: "limit"}
		r := relayTo(t, echo(t), chain)
		one := dial(t, r.address)
		mustTalk(t, one)
		mustBeClosed(t, dial(t, r.address)) // the second one is over the limit
		if got := r.Stats().Limit; got.Active != 1 || got.Limited != 1 || got.StatPrefix != "limit" {
			t.Errorf("%+v", got)
		}
		r.peer.Store(&wire.Peer{}) // nobody: denied
		mustBeClosed(t, dial(t, r.address))
		want := int64(1)
		if first {
			want = 2
		}
		if got := r.Stats().Limit; got.Limited != want {
			t.Errorf("first %t: %+v", first, got)
		}
	}
}

// A connection over the limit is kept for a while, and its client's end is seen.
func TestLimitDelay(t *testing.T) {
	t.Parallel()
	chain := toC()
	chain.Limit = &mesh.ConnectionLimit{Max: 1, Delay: time.Hour}
	r := relayTo(t, echo(t), chain)
	mustTalk(t, dial(t, r.address))
	over := dial(t, r.address)
	eventually(t, "it is over the limit", func() bool { return r.Stats().Limit.Limited == 1 })
	if got := r.Stats().Active; got != 2 {
		t.Errorf("%d connections", got)
	}
	over.Close()
	eventually(t, "it has left", func() bool { return r.Stats().Active == 1 })
	chain = toC()
	chain.Limit = &mesh.ConnectionLimit{Max: 1, Delay: time.Millisecond}
	r.update(t, chain)
	mustBeClosed(t, dial(t, r.address))
}

// only admits one SNI.
type only string

func (o only) Admit(_ context.Context, peer *wire.Peer) error {
	if peer.ServerName != string(o) {
		return errors.New("not this one")
	}
	return nil
}

func TestAdmission(t *testing.T) {
	t.Parallel()
	r := listen(t, clusters(t, map[string]string{"c": echo(t)}), &wire.Peer{ServerName: "b.example"})
	commit, err := r.Prepare(toC(), &r.drain, only("a.example"))
	if err != nil {
		t.Fatal(err)
	}
	commit()
	mustBeClosed(t, dial(t, r.address))
	mustEnd(t, r)
	r.seen.want(t, "UAEX   in 0 out 0 tries 0")
	r.peer.Store(&wire.Peer{ServerName: "a.example"})
	mustTalk(t, dial(t, r.address))
}

// Trap 22: the server name names the cluster, and nothing that is not meant for all.
func TestTrap22ServerNameCluster(t *testing.T) {
	t.Parallel()
	name := "api.default.dc2.internal.td.consul"
	set := clusters(t, map[string]string{name: echo(t), "self_admin": echo(t), "fallback": echo(t)})
	sni := func(targets ...mesh.Target) *mesh.FilterChain {
		return &mesh.FilterChain{TCP: &mesh.TCPProxy{ServerName: true, Targets: targets}}
	}
	for _, tt := range []struct {
		sni     string
		chain   *mesh.FilterChain
		reaches bool
	}{
		{name, sni(), true},
		{"", sni(), false},
		{"other.default.dc2.internal.td.consul", sni(), false},
		{"self_admin", sni(), false},
		{"", sni(mesh.Target{Cluster: "fallback"}), true},
		{"other.default", sni(mesh.Target{Cluster: "fallback"}), false},
		{name, &mesh.FilterChain{TCP: &mesh.TCPProxy{}}, false},
	} {
		r := listen(t, set, &wire.Peer{ServerName: tt.sni})
		r.update(t, tt.chain)
		conn := dial(t, r.address)
		if tt.reaches {
			mustTalk(t, conn)
			continue
		}
		mustBeClosed(t, conn)
		if got := r.Stats(); got.NoRoute != 1 {
			t.Errorf("%q: %+v", tt.sni, got)
		}
	}
}

// A quiet house: a bare TCP check makes no connection upstream and is seen by nobody,
// but a client that waits for the server to begin is served.
func TestQuiet(t *testing.T) {
	t.Parallel()
	greets := tcp(t, func(conn net.Conn) {
		conn.Write([]byte("hello")) //nolint:errcheck // the test will see
		conn.Close()
	})
	set := clusters(t, map[string]string{"c": greets})
	r := &relay{}
	r.TCP = stack.NewTCP(stack.TCPConfig{Clusters: set, Observe: r.seen.observe, Quiet: 2 * time.Second, Log: slog.New(slog.DiscardHandler)})
	r.address = tcp(t, func(conn net.Conn) { r.Serve(conn, web(t), &r.drain) })
	r.update(t, toC())
	dial(t, r.address).Close()
	eventually(t, "the check has left", func() bool { return r.Stats().Accepted == 1 && r.Stats().Active == 0 })
	if got := set.Cluster("c").Stats(); got.Connects != 0 {
		t.Errorf("%d connections upstream", got.Connects)
	}
	waits := dial(t, r.address)
	hello := make([]byte, 5)
	if _, err := waits.Read(hello); err != nil || string(hello) != "hello" {
		t.Errorf("%q, %v", hello, err)
	}
}

// tcp_proxy spreads connections over clusters by weight, and with hash_policy
// source_ip sends those of one address to one endpoint.
func TestTCPWeightsAndHash(t *testing.T) {
	t.Parallel()
	answers := func(name string) string {
		return tcp(t, func(conn net.Conn) {
			conn.Write([]byte(name)) //nolint:errcheck // the test will see
		})
	}
	ask := func(r *relay) string {
		one := make([]byte, 1)
		if _, err := dial(t, r.address).Read(one); err != nil {
			t.Error(err)
		}
		return string(one)
	}
	set := clusters(t, map[string]string{"a": answers("a"), "b": answers("b"), "never": answers("n")})
	weighted := listen(t, set, web(t))
	weighted.update(t, &mesh.FilterChain{TCP: &mesh.TCPProxy{Targets: []mesh.Target{{Cluster: "a", Weight: 3}, {Cluster: "never"}, {Cluster: "b", Weight: 1}}}})
	counts := map[string]int{}
	for range 200 {
		counts[ask(weighted)]++
	}
	if counts["n"] > 0 || counts["b"] < 20 || counts["a"] < 2*counts["b"]-20 {
		t.Errorf("%v", counts)
	}

	ring := &mesh.Cluster{Name: "ring", Kind: mesh.ClusterStatic, Balance: mesh.Balance{Policy: mesh.RingHash}, Endpoints: &mesh.EndpointSet{}}
	for _, name := range []string{"0", "1", "2", "3"} {
		ring.Endpoints.Endpoints = append(ring.Endpoints.Endpoints, endpoint(answers(name)).Endpoints...)
	}
	rings := upstream.NewSet(slog.New(slog.DiscardHandler))
	t.Cleanup(rings.Close)
	commit, err := rings.Prepare(map[string]*mesh.Cluster{"ring": ring})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	hashed := listen(t, rings, &wire.Peer{})
	hashed.update(t, &mesh.FilterChain{TCP: &mesh.TCPProxy{HashSource: true, Targets: []mesh.Target{{Cluster: "ring"}}}})
	seen := map[string]bool{}
	for i := range 30 {
		hashed.peer.Store(&wire.Peer{Addr: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, 0, byte(i)}), 1)})
		first := ask(hashed)
		for range 3 {
			if again := ask(hashed); again != first {
				t.Errorf("the same peer comes to %s and %s", first, again)
			}
		}
		seen[first] = true
	}
	if len(seen) < 3 {
		t.Errorf("thirty peers come to %d endpoints", len(seen))
	}
}
