package dns_test

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// (What the real Consul answers, and that we answer the same, the integration tests tell.)

// instance is one at an address of its own, on a node with metadata.
func instance(service, address string, port int) catalog.Instance {
	return catalog.Instance{
		Node:    catalog.Node{Name: "n1", Datacenter: "dc1", Address: "192.168.7.8", Meta: map[string]string{"rack": "r1"}},
		Service: service, ID: service, Address: address, Port: port, PassingWeight: 1, WarningWeight: 1,
	}
}

func TestConsulZone(t *testing.T) {
	t.Parallel()
	m := newMemory()
	m.settings.NodeMetaTXT = true
	odd := instance("odd", "", 80)
	odd.Node.Name = "no (such\\name"
	m.instances = map[string][]catalog.Instance{
		"web":   {instance("web", "10.9.0.1", 80)},
		"odd":   {odd},
		"bad":   {instance("bad", "not a host name", 80), instance("bad", "10.9.0.2", 70000)},
		"chain": {instance("chain", "chain2.service.consul", 1)}, "chain2": {instance("chain2", "chain.service.consul", 1)},
		"away": {instance("away", "db.example.com", 1)},
	}
	s := newServer(t, m)
	for _, row := range []struct {
		name  string
		qtype uint16
		want  string
	}{
		{"web.service.consul.", mdns.TypeA, "NOERROR aa\nanswer web.service.consul. 0 IN A 10.9.0.1\n"},
		{"web.service.consul.", mdns.TypeSRV, `NOERROR aa
answer web.service.consul. 0 IN SRV 1 1 80 0a090001.addr.dc1.consul.
extra 0a090001.addr.dc1.consul. 0 IN A 10.9.0.1
extra n1.node.dc1.consul. 0 IN TXT "rack=r1"
`},
		// A node whose name cannot be one of DNS gets its address for a target.
		{"odd.service.consul.", mdns.TypeSRV, `NOERROR aa
answer odd.service.consul. 0 IN SRV 1 1 80 c0a80708.addr.dc1.consul.
extra c0a80708.addr.dc1.consul. 0 IN A 192.168.7.8
`},
		// What cannot be written is left out, and the rest is answered.
		{"bad.service.consul.", mdns.TypeA, "NOERROR aa\nanswer bad.service.consul. 0 IN A 10.9.0.2\n"},
		{"bad.service.consul.", mdns.TypeAAAA, "NOERROR aa\nauthority consul. 0 IN SOA ns.consul. hostmaster.consul. 0 0 0 0 0\n"},
		{"bad.service.consul.", mdns.TypeSRV, "NOERROR aa\nauthority consul. 0 IN SOA ns.consul. hostmaster.consul. 0 0 0 0 0\n"},
		// A ring of aliases ends.
		{"chain.service.consul.", mdns.TypeA, `NOERROR aa
answer chain.service.consul. 0 IN CNAME chain2.service.consul.
answer chain2.service.consul. 0 IN CNAME chain.service.consul.
`},
		// Without recursion the client follows by itself.
		{"away.service.consul.", mdns.TypeA, "NOERROR aa\nanswer away.service.consul. 0 IN CNAME db.example.com.\n"},
		{"xn--\\000.service.consul.", mdns.TypeA, `NXDOMAIN aa
authority consul. 0 IN SOA ns.consul. hostmaster.consul. 0 0 0 0 0
why 0 the catalog of dc1 has no service "xn--\\000"
`},
	} {
		if got := lines(ask(t, s, query(row.name, row.qtype), "10.0.0.1", "", true)); got != row.want {
			t.Errorf("%s %s: got\n%swant\n%s", row.name, mdns.TypeToString[row.qtype], got, row.want)
		}
	}
	m.change(func(m *memory) { m.stale = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC) })
	got := lines(ask(t, s, query("web.service.consul.", mdns.TypeA), "10.0.0.1", "", true))
	if !strings.Contains(got, "why 3 consul has not answered since 2026-01-02T03:04:05Z") {
		t.Error(got)
	}
}

// FuzzConsulZone fills the catalog with anything: whatever stands there, the
// answer can be read by a client.
func FuzzConsulZone(f *testing.F) {
	f.Add("n1", "10.0.0.1", "", "key", "value", 80, uint16(mdns.TypeSRV))
	f.Add("a.b", "host.example.com", "::ffff:10.0.0.1", "rfc1035-x", strings.Repeat("x", 700), 0, uint16(mdns.TypeANY))
	f.Add(`a\"b`, "", `\065`, "`=", "\x00\\", -1, uint16(mdns.TypeSRV))
	f.Add(strings.Repeat("n", 64), "fe80::1%eth0", "s.service.consul", " k ", "", 65536, uint16(mdns.TypeAAAA))
	m := newMemory()
	m.settings.NodeMetaTXT = true
	s := newServer(f, m)
	source := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, node, nodeAddress, address, key, value string, port int, qtype uint16) {
		m.change(func(m *memory) {
			m.instances = map[string][]catalog.Instance{"s": {{
				Node:    catalog.Node{Name: node, Datacenter: "dc1", Address: nodeAddress, Meta: map[string]string{key: value}},
				Service: "s", ID: "s", Address: address, Port: port, PassingWeight: port,
			}}}
		})
		q := new(mdns.Msg).SetQuestion("s.service.consul.", qtype)
		packet, err := q.Pack()
		if err != nil {
			t.Skip(err)
		}
		answer := s.Handle(t.Context(), packet, source, "", false, nil)
		got := &mdns.Msg{}
		if err := got.Unpack(answer); err != nil {
			t.Fatalf("%x: %v", answer, err)
		}
		if got.Rcode == mdns.RcodeServerFailure {
			t.Fatalf("%v", got)
		}
	})
}
