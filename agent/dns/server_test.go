package dns_test

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/dns"
)

// exchange asks over a socket, by UDP again if it is not heard, as any resolver.
func exchange(t *testing.T, network string, at netip.AddrPort, name string) *mdns.Msg {
	t.Helper()
	c := &mdns.Client{Net: network, Timeout: 2 * time.Second}
	var err error
	for range 10 {
		var got *mdns.Msg
		if got, _, err = c.ExchangeContext(t.Context(), query(name, mdns.TypeSRV), at.String()); err == nil {
			return got
		}
	}
	t.Fatalf("%s by %s at %s: %v", name, network, at, err)
	return nil
}

// port is that of the only SRV record, 0 if there is none.
func port(m *mdns.Msg) uint16 {
	if len(m.Answer) == 1 {
		if srv, ok := m.Answer[0].(*mdns.SRV); ok {
			return srv.Port
		}
	}
	return 0
}

func TestServe(t *testing.T) {
	m := newMemory()
	m.workloads = append(m.workloads, workload("local", "here", "127.0.0.1", up("api", "127.0.0.1", 9501)))
	m.allowed["local -> api"] = true
	for _, address := range []string{"127.0.0.1:0", "0.0.0.0:0", "[::1]:0", "[::]:0"} {
		t.Run(address, func(t *testing.T) {
			s := newServer(t, m, func(c *dns.Config) {
				c.Listeners = []dns.Listener{
					{Name: "all", Address: netip.MustParseAddrPort(address)},
					{Name: "web", Address: netip.MustParseAddrPort(address), Workload: "web"},
				}
			})
			if s.Ready() == nil {
				t.Error("ready before it runs")
			}
			at := run(t, s)
			if err := s.Ready(); err != nil {
				t.Error(err)
			}
			for _, network := range []string{"udp", "tcp"} {
				for name, want := range map[string]uint16{"all": 9501, "web": 9001} {
					to := at[name]
					if to.Addr().IsUnspecified() { // an address that is not the first choice for the answer's source
						to = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), to.Port())
					}
					if to.Addr() == netip.IPv6Loopback() && name == "all" {
						continue // nothing is registered there
					}
					if got := exchange(t, network, to, "api.mesh."); port(got) != want {
						t.Errorf("%s by %s: %v", name, network, got)
					}
				}
			}
		})
	}
}

func TestRunFailsIfTaken(t *testing.T) {
	taken, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	s := newServer(t, newMemory(), func(c *dns.Config) {
		c.Listeners = append(c.Listeners, dns.Listener{Name: "taken", Address: netip.MustParseAddrPort(taken.LocalAddr().String())})
	})
	if err := s.Run(t.Context()); err == nil || !strings.Contains(err.Error(), `dns: listener "taken": bind `+taken.LocalAddr().String()+" by ") {
		t.Errorf("got %v", err)
	}
}

// Answers of one connection come as they are there, and a slow one holds up
// none.
func TestPipelining(t *testing.T) {
	release := make(chan struct{})
	slow := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { <-release; return says(q, "192.0.2.1") })
	s := newServer(t, newMemory(), func(c *dns.Config) {
		c.Recursion, c.Resolvers = nil, []netip.AddrPort{slow.address}
		c.Listeners[0].Workload = "web"
	})
	at := run(t, s)["all"]
	conn, err := mdns.DialTimeout("tcp", at.String(), time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for _, name := range []string{"slow.example.com.", "api.mesh."} {
		if err := conn.WriteMsg(query(name, mdns.TypeA)); err != nil {
			t.Fatal(err)
		}
	}
	for _, want := range []string{"api.mesh.", "slow.example.com."} {
		got, err := conn.ReadMsg()
		if err != nil || got.Question[0].Name != want {
			t.Fatalf("%v, %v, want %s", got, err, want)
		}
		if want == "api.mesh." {
			close(release)
		}
	}
}

// What no query can be gets an answer, and the connection ends.
func TestStreamHostile(t *testing.T) {
	s := newServer(t, newMemory())
	at := run(t, s)["all"]
	good := string(header(0, 1)) + apiMesh + typeA
	for _, row := range []struct {
		about, bytes string
		answers      int // before the end
	}{
		{"nothing", "", 0},
		{"half a length", "\x00", 0},
		{"half a query", "\x00\x40" + good, 0},
		{"an empty message", "\x00\x00", 0},
		{"a response", "\x00\x0c" + string(header(0x8000)), 0},
		{"a query and a half", "\x00\x1a" + good + "\x00\x1a" + good[:9], 1},
		{"a length that no query has", "\xff\xff" + good, 1},
	} {
		conn, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(conn, row.bytes); err != nil {
			t.Fatal(err)
		}
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite() // the server may have closed it already
		}
		got, err := io.ReadAll(conn)
		if err != nil && !errors.Is(err, io.EOF) && row.answers == 0 {
			t.Errorf("%s: %v", row.about, err)
		}
		answers := 0
		for len(got) >= 2 {
			n := int(binary.BigEndian.Uint16(got)) + 2
			got = got[min(n, len(got)):]
			answers++
		}
		if answers != row.answers {
			t.Errorf("%s: %d answers, want %d", row.about, answers, row.answers)
		}
		conn.Close()
	}
	waitFor(t, "the connections to end", func() bool { return s.Stats().Connections == 0 })
}

func TestConnectionsBounded(t *testing.T) {
	s := newServer(t, newMemory(), func(c *dns.Config) { c.MaxConnections = 2 })
	at := run(t, s)["all"]
	var kept []net.Conn
	for range 2 {
		conn, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		kept = append(kept, conn)
	}
	waitFor(t, "two connections", func() bool { return s.Stats().Connections == 2 })
	third, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer third.Close()
	if n, err := third.Read(make([]byte, 1)); err == nil {
		t.Errorf("read %d bytes", n)
	}
	if s.Stats().ConnectionOverflow != 1 {
		t.Errorf("%+v", s.Stats())
	}
	// More than half are taken: the idle ones have to go soon.
	for _, conn := range kept {
		if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
		conn.Close()
	}
	waitFor(t, "the connections to end", func() bool { return s.Stats().Connections == 0 })
	exchange(t, "tcp", at, "api.mesh.")
}

func TestQueriesBounded(t *testing.T) {
	release := make(chan struct{})
	slow := serve(t, func(q *mdns.Msg, _ string) *mdns.Msg { <-release; return says(q, "192.0.2.1") })
	s := newServer(t, newMemory(), func(c *dns.Config) {
		c.Recursion, c.Resolvers, c.MaxQueries = nil, []netip.AddrPort{slow.address}, 1
	})
	at := run(t, s)["all"]
	conn, err := mdns.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if err := conn.WriteMsg(query("a.example.com.", mdns.TypeA)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the first to be under way", func() bool { return slow.udp.Load() == 1 })
	if err := conn.WriteMsg(query("b.example.com.", mdns.TypeA)); err != nil {
		t.Fatal(err)
	}
	waitFor(t, "the second to be dropped", func() bool { return s.Stats().Overflow == 1 })
	close(release)
	if got, err := conn.ReadMsg(); err != nil || got.Question[0].Name != "a.example.com." {
		t.Errorf("%v, %v", got, err)
	}
	exchange(t, "udp", at, "c.example.com.")
}

// Hostile packets over sockets: the server goes on.
func TestServeHostile(t *testing.T) {
	s := newServer(t, newMemory(), func(c *dns.Config) { c.Listeners[0].Workload = "web" })
	at := run(t, s)["all"]
	conn, err := net.Dial("udp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 2000 {
		junk := make([]byte, i%600)
		for j := range junk {
			junk[j] = byte(i * (j + 7) / 3)
		}
		if _, err := conn.Write(junk); err != nil && !strings.Contains(err.Error(), "refused") {
			t.Fatal(err)
		}
	}
	if got := exchange(t, "udp", at, "api.mesh."); port(got) != 9001 {
		t.Errorf("got %v", got)
	}
	if got := exchange(t, "tcp", at, "api.mesh."); port(got) != 9001 {
		t.Errorf("got %v", got)
	}
}
