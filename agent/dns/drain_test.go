package dns_test

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/dns"
)

// A reload changes what is said at once, keeps the sockets that stay, and loses
// nothing on those that go.
func TestReload(t *testing.T) {
	m := newMemory()
	m.workloads = append(m.workloads, workload("other", "here", "10.0.0.8", up("api", "127.0.0.1", 9601)))
	m.allowed["other -> api"] = true
	no := false
	config := func(listeners ...dns.Listener) dns.Config { return dns.Config{Listeners: listeners, Recursion: &no} }
	listener := func(name, workload string) dns.Listener {
		return dns.Listener{Name: name, Workload: workload, Address: netip.MustParseAddrPort("127.0.0.1:0")}
	}
	s := newServer(t, m, func(c *dns.Config) { c.Listeners = []dns.Listener{listener("a", "web"), listener("b", "web")} })
	at := run(t, s)
	stay, err := mdns.Dial("tcp", at["a"].String())
	if err != nil {
		t.Fatal(err)
	}
	defer stay.Close()
	asked := func(want uint16) {
		t.Helper()
		if err := stay.WriteMsg(query("api.mesh.", mdns.TypeSRV)); err != nil {
			t.Fatal(err)
		}
		if got, err := stay.ReadMsg(); err != nil || port(got) != want {
			t.Fatalf("%v, %v, want port %d", got, err, want)
		}
	}
	asked(9001)

	bad := config(listener("a", "other"), dns.Listener{Name: "taken", Address: at["b"]})
	if err := s.Reload(bad); err == nil {
		t.Fatal("no error for an address that is in use")
	}
	if err := s.Reload(dns.Config{}); err == nil {
		t.Fatal("no error for a wrong configuration")
	}
	asked(9001)

	if err := s.Reload(config(listener("a", "other"), listener("c", "web"))); err != nil {
		t.Fatal(err)
	}
	asked(9601)
	now := s.Addresses()
	if now["a"] != at["a"] || now["b"].IsValid() {
		t.Errorf("listens at %v", now)
	}
	if got := exchange(t, "udp", now["c"], "api.mesh."); port(got) != 9001 {
		t.Errorf("the new listener says %v", got)
	}
	waitFor(t, "the old listener to be gone", func() bool {
		conn, err := net.Dial("tcp", at["b"].String())
		if err == nil {
			conn.Close()
		}
		return err != nil
	})
}

// slowly asks by UDP and TCP what is answered only after release, and returns
// when both are at work. Done waits for the answers.
func slowly(t *testing.T, at netip.AddrPort, slow *upstream) (done func()) {
	t.Helper()
	var asking sync.WaitGroup
	for _, network := range []string{"udp", "tcp"} {
		conn, err := mdns.Dial(network, at.String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		asked := query(network+".example.com.", mdns.TypeA)
		if err := conn.WriteMsg(asked); err != nil {
			t.Fatal(err)
		}
		asking.Go(func() {
			if got, err := conn.ReadMsg(); err != nil || len(got.Answer) != 1 || got.Id != asked.Id {
				t.Errorf("by %s: %v, %v", network, got, err)
			}
		})
	}
	waitFor(t, "both to be at work", func() bool { return slow.udp.Load() == 2 })
	return asking.Wait
}

// When it is stopped, queries at work still get their answer.
func TestDrain(t *testing.T) {
	release := make(chan struct{})
	slow := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { <-release; return says(q, "192.0.2.1") })
	s := newServer(t, newMemory(), func(c *dns.Config) { c.Recursion, c.Resolvers = nil, []netip.AddrPort{slow.address} })
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	waitFor(t, "the server to listen", func() bool { return len(s.Addresses()) > 0 })
	at := s.Addresses()["all"]
	done := slowly(t, at, slow)
	stop()
	waitFor(t, "it to say that it stops", func() bool { return s.Ready() != nil && s.Ready().Error() == "draining" })
	close(release)
	done()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if err := s.Reload(dns.Config{Listeners: []dns.Listener{{Name: "all", Address: at}}}); err == nil {
		t.Error("reloaded while it stops")
	}
}

// Nor is a query lost on a listener that a reload takes away.
func TestReloadLosesNothing(t *testing.T) {
	release := make(chan struct{})
	slow := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { <-release; return says(q, "192.0.2.1") })
	s := newServer(t, newMemory(), func(c *dns.Config) { c.Recursion, c.Resolvers = nil, []netip.AddrPort{slow.address} })
	done := slowly(t, run(t, s)["all"], slow)
	if err := s.Reload(dns.Config{
		Listeners: []dns.Listener{{Name: "other", Address: netip.MustParseAddrPort("127.0.0.1:0")}},
		Resolvers: []netip.AddrPort{slow.address},
	}); err != nil {
		t.Fatal(err)
	}
	close(release)
	done()
}
