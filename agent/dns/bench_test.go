package dns_test

import (
	"net"
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/dns"
)

// work is one query through the handler, again and again.
func work(tb testing.TB, name string, qtype uint16, change ...func(c *dns.Config)) func() {
	tb.Helper()
	s := newServer(tb, newMemory(), change...)
	packet, err := query(name, qtype).Pack()
	if err != nil {
		tb.Fatal(err)
	}
	source, buffer := netip.MustParseAddr("10.0.0.1"), make([]byte, 4096)
	return func() {
		if s.Handle(tb.Context(), packet, source, "", true, buffer) == nil {
			tb.Fatal("no answer")
		}
	}
}

func BenchmarkMesh(b *testing.B) {
	for name, qtype := range map[string]uint16{"api.mesh.": mdns.TypeA, "six.mesh.": mdns.TypeSRV, "hidden.mesh.": mdns.TypeA} {
		b.Run(name+mdns.TypeToString[qtype], func(b *testing.B) {
			one := work(b, name, qtype)
			b.ReportAllocs()
			for b.Loop() {
				one()
			}
		})
	}
}

// BenchmarkUDP is one query over a socket and back, from as many clients as
// there are processors, each waiting for its answer.
func BenchmarkUDP(b *testing.B) {
	s := newServer(b, newMemory(), func(c *dns.Config) { c.Listeners[0].Workload = "web" })
	at := run(b, s)["all"]
	packet, err := query("api.mesh.", mdns.TypeA).Pack()
	if err != nil {
		b.Fatal(err)
	}
	b.SetParallelism(8)
	b.RunParallel(func(pb *testing.PB) {
		conn, err := net.Dial("udp", at.String())
		if err != nil {
			b.Error(err)
			return
		}
		defer conn.Close()
		answer := make([]byte, 512)
		for pb.Next() {
			if _, err := conn.Write(packet); err != nil {
				b.Error(err)
				return
			}
			if _, err := conn.Read(answer); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// TestAllocations keeps an answer cheap: most of what is allocated is the
// message of miekg/dns, and the copies of the catalog that this test makes.
func TestAllocations(t *testing.T) {
	const most = 35
	if got := testing.AllocsPerRun(200, work(t, "api.mesh.", mdns.TypeA)); got > most {
		t.Errorf("%v allocations for an answer, want at most %d", got, most)
	}
}
