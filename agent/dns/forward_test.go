package dns_test

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/dns"
)

func TestForward(t *testing.T) {
	const found = "NOERROR ra\nanswer www.example.com. 60 IN A 192.0.2.1\n"
	good := func(q *mdns.Msg, _ string) *mdns.Msg { return says(q, "192.0.2.1") }
	for _, row := range []struct {
		about     string
		resolvers []func(q *mdns.Msg, network string) *mdns.Msg
		want      string
		udp, tcp  []int64 // queries at each resolver
	}{
		{"an answer", []func(*mdns.Msg, string) *mdns.Msg{good}, found, []int64{1}, []int64{0}},
		{"no such name", []func(*mdns.Msg, string) *mdns.Msg{
			func(q *mdns.Msg, _ string) *mdns.Msg { return rcode(q, mdns.RcodeNameError) }, good,
		}, "NXDOMAIN ra\n", []int64{1, 0}, []int64{0, 0}},
		{"the first is dead", []func(*mdns.Msg, string) *mdns.Msg{func(*mdns.Msg, string) *mdns.Msg { return nil }, good}, found, []int64{1, 1}, []int64{0, 0}},
		{"the first fails", []func(*mdns.Msg, string) *mdns.Msg{
			func(q *mdns.Msg, _ string) *mdns.Msg { return rcode(q, mdns.RcodeServerFailure) }, good,
		}, found, []int64{1, 1}, []int64{0, 0}},
		{"the first refuses and the second is dead", []func(*mdns.Msg, string) *mdns.Msg{
			func(q *mdns.Msg, _ string) *mdns.Msg { return rcode(q, mdns.RcodeRefused) }, func(*mdns.Msg, string) *mdns.Msg { return nil },
		}, "REFUSED ra\n", []int64{1, 1}, []int64{0, 0}},
		{"too long for UDP", []func(*mdns.Msg, string) *mdns.Msg{func(q *mdns.Msg, network string) *mdns.Msg {
			if network == "tcp" {
				return says(q, "192.0.2.1")
			}
			m := rcode(q, mdns.RcodeSuccess)
			m.Truncated = true
			return m
		}}, found, []int64{1}, []int64{1}},
		{"knows no EDNS", []func(*mdns.Msg, string) *mdns.Msg{func(q *mdns.Msg, _ string) *mdns.Msg {
			if q.IsEdns0() != nil {
				return rcode(q, mdns.RcodeFormatError)
			}
			return says(q, "192.0.2.1")
		}}, found, []int64{2}, []int64{0}},
		{"another ID", []func(*mdns.Msg, string) *mdns.Msg{func(q *mdns.Msg, _ string) *mdns.Msg {
			m := says(q, "192.0.2.6")
			m.Id++
			return m
		}, good}, found, []int64{1, 1}, []int64{0, 0}},
		{"another question", []func(*mdns.Msg, string) *mdns.Msg{func(q *mdns.Msg, _ string) *mdns.Msg {
			m := says(q, "192.0.2.6")
			m.Question[0].Name = "evil.example.com."
			return m
		}, good}, found, []int64{1, 1}, []int64{0, 0}},
		{"a reason is passed on", []func(*mdns.Msg, string) *mdns.Msg{func(q *mdns.Msg, _ string) *mdns.Msg {
			m := rcode(q, mdns.RcodeNameError)
			m.SetEdns0(1232, false)
			m.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_EDE{InfoCode: 15, ExtraText: "blocked"}}
			return m
		}}, "NXDOMAIN ra\nwhy 15 blocked\n", []int64{1}, []int64{0}},
	} {
		t.Run(row.about, func(t *testing.T) {
			t.Parallel()
			var resolvers []*upstream
			for _, f := range row.resolvers {
				resolvers = append(resolvers, serve(t, f))
			}
			s := forwarding(t, resolvers...)
			got := lines(ask(t, s, query("www.example.com.", mdns.TypeA), "10.0.0.1", "", true))
			if diff := cmp.Diff(row.want, got); diff != "" {
				t.Error(diff)
			}
			for i, one := range resolvers {
				if udp, tcp := one.udp.Load(), one.tcp.Load(); udp != row.udp[i] || tcp != row.tcp[i] {
					t.Errorf("resolver %d was asked %d times by UDP and %d by TCP, want %d and %d", i, udp, tcp, row.udp[i], row.tcp[i])
				}
			}
		})
	}
}

// A resolver that has failed is asked last for a while.
func TestForwardRemembersTheDead(t *testing.T) {
	first, second := dead(t), serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { return says(q, "192.0.2.1") })
	s := forwarding(t, first, second)
	for range 5 {
		ask(t, s, query("www.example.com.", mdns.TypeA), "10.0.0.1", "", true)
	}
	if first.udp.Load() != 1 || second.udp.Load() != 5 {
		t.Errorf("asked %d and %d times", first.udp.Load(), second.udp.Load())
	}
}

func TestForwardUnreached(t *testing.T) {
	for _, row := range []struct {
		about string
		at    *upstream
		code  uint16
		text  string
	}{
		{"silence", dead(t), mdns.ExtendedErrorCodeNoReachableAuthority, "no resolver answers: ask 127.0.0.1:"},
		{"nobody there", closed(t), mdns.ExtendedErrorCodeNetworkError, "connection refused"},
	} {
		s := forwarding(t, row.at)
		got := ask(t, s, query("www.example.com.", mdns.TypeA), "10.0.0.1", "", true)
		ede, ok := got.IsEdns0().Option[0].(*mdns.EDNS0_EDE)
		if got.Rcode != mdns.RcodeServerFailure || !ok || ede.InfoCode != row.code || !strings.Contains(ede.ExtraText, row.text) {
			t.Errorf("%s: %v", row.about, got)
		}
		if s.Stats().ForwardFailures != 1 {
			t.Errorf("%s: not counted", row.about)
		}
	}
}

// Names of the mesh never leave, whoever asks and whatever is configured;
// others go to the resolver of the longest zone.
func TestForwardZones(t *testing.T) {
	world := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { return says(q, "192.0.2.1") })
	corp := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { return says(q, "192.0.2.2") })
	deep := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { return says(q, "192.0.2.3") })
	consul := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { return says(q, "192.0.2.4") })
	s := newServer(t, newMemory(), func(c *dns.Config) {
		c.Recursion = nil
		c.Resolvers = []netip.AddrPort{world.address}
		c.Forwards = []dns.Forward{
			{Zone: "corp.example", Resolvers: []netip.AddrPort{corp.address}},
			{Zone: "Deep.Corp.Example.", Resolvers: []netip.AddrPort{deep.address}},
			{Zone: "consul", Resolvers: []netip.AddrPort{consul.address}},
		}
	})
	for name, want := range map[string]string{
		"www.example.com.":       "192.0.2.1",
		"corp.example.":          "192.0.2.2",
		"x.corp.example.":        "192.0.2.2",
		"xcorp.example.":         "192.0.2.1",
		"A.DEEP.corp.example.":   "192.0.2.3",
		"nearest.query.consul.":  "192.0.2.4",
		"nothing.service.consul": "",
		"api.mesh.":              "127.0.0.1",
		"hidden.mesh.":           "",
		"mesh.":                  "",
		"x.y.z.mesh.":            "",
	} {
		got := ask(t, s, query(mdns.Fqdn(name), mdns.TypeA), "10.0.0.1", "", true)
		text := ""
		if len(got.Answer) == 1 {
			a, _ := got.Answer[0].(*mdns.A)
			text = a.A.String()
		}
		if text != want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// Equal questions that are under way are one query.
func TestForwardShares(t *testing.T) {
	const askers = 50
	release := make(chan struct{})
	one := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { <-release; return says(q, "192.0.2.1") })
	s := newServer(t, newMemory(), func(c *dns.Config) { c.Recursion, c.Resolvers = nil, []netip.AddrPort{one.address} })
	var asking sync.WaitGroup
	for range askers {
		asking.Go(func() {
			if got := ask(t, s, query("www.example.com.", mdns.TypeA), "10.0.0.1", "", true); len(got.Answer) != 1 {
				t.Errorf("got %v", got)
			}
		})
	}
	waitFor(t, "all to wait for one", func() bool { return s.Stats().ForwardShared == askers-1 })
	close(release)
	asking.Wait()
	if one.udp.Load() != 1 {
		t.Errorf("asked %d times", one.udp.Load())
	}
}

func TestForwardBounded(t *testing.T) {
	release := make(chan struct{})
	one := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { <-release; return says(q, "192.0.2.1") })
	s := newServer(t, newMemory(), func(c *dns.Config) {
		c.Recursion, c.Resolvers, c.MaxForwards = nil, []netip.AddrPort{one.address}, 1
	})
	var asking sync.WaitGroup
	asking.Go(func() { ask(t, s, query("a.example.com.", mdns.TypeA), "10.0.0.1", "", true) })
	waitFor(t, "the first to be under way", func() bool { return one.udp.Load() == 1 })
	const want = "SERVFAIL ra\nwhy 0 too many queries wait for resolvers: dns { max_forwards } bounds them\n"
	if diff := cmp.Diff(want, lines(ask(t, s, query("b.example.com.", mdns.TypeA), "10.0.0.1", "", true))); diff != "" {
		t.Error(diff)
	}
	close(release)
	asking.Wait()
}

// A resolver that forwards to us makes no storm: one query, and an end.
func TestForwardLoop(t *testing.T) {
	var ours atomic.Pointer[dns.Server]
	back := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg {
		return ask(t, ours.Load(), q, "127.0.0.1", "", true)
	})
	s := forwarding(t, back)
	ours.Store(s)
	got := ask(t, s, query("www.example.com.", mdns.TypeA), "10.0.0.1", "", true)
	if got.Rcode != mdns.RcodeServerFailure || s.Stats().Forwarded > 2 {
		t.Errorf("%v, after %d queries", got, s.Stats().Forwarded)
	}
}

// A question for everything is a small one with a large answer.
func TestForwardAny(t *testing.T) {
	one := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { return says(q, "192.0.2.1") })
	s := forwarding(t, one)
	if diff := cmp.Diff("NOERROR tc ra\n", lines(ask(t, s, query("example.com.", mdns.TypeANY), "10.0.0.1", "", true))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff("NOERROR ra\nanswer example.com. 60 IN A 192.0.2.1\n",
		lines(ask(t, s, query("example.com.", mdns.TypeANY), "10.0.0.1", "", false))); diff != "" {
		t.Error(diff)
	}
}

// What is for the resolver reaches it, what is for us does not.
func TestForwardPassesFlags(t *testing.T) {
	asked := make(chan *mdns.Msg, 1)
	one := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg {
		asked <- q.Copy()
		m := says(q, "192.0.2.1")
		m.AuthenticatedData = true
		return m
	})
	s := forwarding(t, one)
	q := new(mdns.Msg).SetQuestion("WwW.example.com.", mdns.TypeA)
	q.SetEdns0(4096, true)
	q.CheckingDisabled = true
	q.IsEdns0().Option = []mdns.EDNS0{&mdns.EDNS0_COOKIE{Code: mdns.EDNS0COOKIE, Cookie: "0102030405060708"}}
	got := ask(t, s, q, "10.0.0.1", "", true)
	sent := <-asked
	if !sent.CheckingDisabled || !sent.RecursionDesired || !sent.IsEdns0().Do() || len(sent.IsEdns0().Option) != 0 ||
		sent.IsEdns0().UDPSize() != 1232 || sent.Question[0].Name != "WwW.example.com." {
		t.Errorf("sent %v", sent)
	}
	if !got.AuthenticatedData || !got.CheckingDisabled || got.Question[0].Name != "WwW.example.com." {
		t.Errorf("got %v", got)
	}
}

// A client that is gone, or a server that stops, does not wait.
func TestForwardStops(t *testing.T) {
	one := dead(t)
	s := newServer(t, newMemory(), func(c *dns.Config) { c.Recursion, c.Resolvers = nil, []netip.AddrPort{one.address} })
	packet, err := query("www.example.com.", mdns.TypeA).Pack()
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan []byte)
	go func() { done <- s.Handle(ctx, packet, netip.MustParseAddr("10.0.0.1"), "", true, nil) }()
	waitFor(t, "the query", func() bool { return one.udp.Load() == 1 })
	stop()
	if answer := <-done; !bytes.Contains(answer, []byte("context canceled")) {
		t.Errorf("got %q", answer)
	}
}

func TestSystemResolvers(t *testing.T) {
	file := filepath.Join(t.TempDir(), "resolv.conf")
	const text = "search example.com\nnameserver 127.0.0.1\nnameserver 127.0.0.53\nnameserver 192.0.2.1\n" +
		"nameserver fe80::1%lo\nnameserver 192.0.2.1\noptions ndots:2\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	at := func(text string) []dns.Listener {
		return []dns.Listener{{Name: "x", Address: netip.MustParseAddrPort(text)}}
	}
	for _, row := range []struct {
		listeners []dns.Listener
		want      string
	}{
		{nil, "127.0.0.1:53 127.0.0.53:53 192.0.2.1:53 [fe80::1%lo]:53"},
		{at("127.0.0.1:53"), "127.0.0.53:53 192.0.2.1:53 [fe80::1%lo]:53"},
		{at("127.0.0.1:8653"), "127.0.0.1:53 127.0.0.53:53 192.0.2.1:53 [fe80::1%lo]:53"},
		{at("0.0.0.0:53"), "192.0.2.1:53 [fe80::1%lo]:53"},
	} {
		got, err := dns.SystemResolvers(file, row.listeners)
		var texts []string
		for _, one := range got {
			texts = append(texts, one.String())
		}
		if err != nil || strings.Join(texts, " ") != row.want {
			t.Errorf("beside %v: %v, %v", row.listeners, texts, err)
		}
	}
	if _, err := dns.SystemResolvers(file+".gone", nil); err == nil {
		t.Error("no error without the file")
	}
}
