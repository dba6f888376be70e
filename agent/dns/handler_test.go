package dns_test

import (
	"bytes"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
	"github.com/serai-net/serai/agent/dns"
)

// header is a message's first 12 bytes: ID 0x1234, flags and counts.
func header(flags uint16, counts ...byte) []byte {
	h := []byte{0x12, 0x34, byte(flags >> 8), byte(flags), 0, 0, 0, 0, 0, 0, 0, 0}
	for i, n := range counts {
		h[5+2*i] = n
	}
	return h
}

const (
	apiMesh = "\x03api\x04mesh\x00"
	typeA   = "\x00\x01\x00\x01"
	opt     = "\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"
)

// TestHostile sends what no client should.
func TestHostile(t *testing.T) {
	for _, row := range []struct {
		about  string
		packet string
		want   string // rcode, "" for no answer
	}{
		{"nothing", "", ""},
		{"half a header", "\x12\x34\x00\x00\x00\x01", ""},
		{"a response", string(header(0x8000, 1)) + apiMesh + typeA, ""},
		{"a header alone", string(header(0)), "FORMERR"},
		{"a header that promises a question", string(header(0, 1)), "FORMERR"},
		{"a good query", string(header(0, 1)) + apiMesh + typeA, "NOERROR"},
		{"bytes after the end", string(header(0, 1)) + apiMesh + typeA + "rest", "NOERROR"},
		{"two questions", string(header(0, 2)) + apiMesh + typeA + apiMesh + typeA, "FORMERR"},
		{"an answer in the query", string(header(0, 1, 1)) + apiMesh + typeA + apiMesh + typeA + "\x00\x00\x00\x00\x00\x00", "FORMERR"},
		{"an authority in the query", string(header(0, 1, 0, 1)) + apiMesh + typeA + apiMesh + typeA + "\x00\x00\x00\x00\x00\x00", "FORMERR"},
		{"three additional records", string(header(0, 1, 0, 0, 3)) + apiMesh + typeA + opt + opt + opt, "FORMERR"},
		{"two OPT records", string(header(0, 1, 0, 0, 2)) + apiMesh + typeA + opt + opt, "FORMERR"},
		{"an OPT record with an owner", string(header(0, 1, 0, 0, 1)) + apiMesh + typeA + "\x01a" + opt, "FORMERR"},
		{"an OPT record cut off", string(header(0, 1, 0, 0, 1)) + apiMesh + typeA + opt[:8], "FORMERR"},
		{"an OPT record with an option that it has no room for", string(header(0, 1, 0, 0, 1)) + apiMesh + typeA + opt[:9] + "\x00\x04\x00\x08\x00\xff", "FORMERR"},
		{"an option that nobody knows", string(header(0, 1, 0, 0, 1)) + apiMesh + typeA + opt[:9] + "\x00\x05\xfd\xe9\x00\x01x", "NOERROR"},
		{"EDNS version 1", string(header(0, 1, 0, 0, 1)) + apiMesh + typeA + "\x00\x00\x29\x10\x00\x00\x01\x00\x00\x00\x00", "BADVERS"},
		{"a label without an end", string(header(0, 1)) + "\x3fa", "FORMERR"},
		{"a pointer to itself", string(header(0, 1)) + "\xc0\x0c" + typeA, "FORMERR"},
		{"a pointer into the void", string(header(0, 1)) + "\xff\xff" + typeA, "FORMERR"},
		{"a label of the type 01", string(header(0, 1)) + "\x41a\x00" + typeA, "FORMERR"},
		{"a name of more than 255 bytes", string(header(0, 1)) + strings.Repeat("\x3f"+strings.Repeat("x", 63), 4) + "\x00" + typeA, "FORMERR"},
		{"a question without a type", string(header(0, 1)) + apiMesh, "FORMERR"},
		{"an inverse query", string(header(0x0800, 1)) + apiMesh + typeA, "NOTIMP"},
		{"a notification", string(header(0x2000, 1)) + apiMesh + "\x00\x06\x00\x01", "NOTIMP"},
		{"an update", string(header(0x2800, 1)) + apiMesh + "\x00\x06\x00\x01", "NOTIMP"},
		{"an opcode that is none", string(header(0x7800, 1)) + apiMesh + typeA, "NOTIMP"},
		{"a zone transfer", string(header(0, 1)) + apiMesh + "\x00\xfc\x00\x01", "REFUSED"},
		{"the class CH", string(header(0, 1)) + "\x07version\x04bind\x00" + "\x00\x10\x00\x03", "REFUSED"},
		{"the type OPT", string(header(0, 1)) + apiMesh + "\x00\x29\x00\x01", "FORMERR"},
		{"the type 0", string(header(0, 1)) + apiMesh + "\x00\x00\x00\x01", "FORMERR"},
		{"the type MAILB", string(header(0, 1)) + apiMesh + "\x00\xfd\x00\x01", "NOTIMP"},
		{"a type that nobody knows", string(header(0, 1)) + apiMesh + "\xff\x01\x00\x01", "NOERROR"},
		{"a zero byte in a label", string(header(0, 1)) + "\x03a\x00i\x04mesh\x00" + typeA, "NXDOMAIN"},
		{"more than a query can be", string(header(0, 1)) + apiMesh + typeA + strings.Repeat("x", 5000), "FORMERR"},
	} {
		for _, udp := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s, udp %v", row.about, udp), func(t *testing.T) {
				s := newServer(t, newMemory())
				got := s.Handle(t.Context(), []byte(row.packet), netip.MustParseAddr("10.0.0.1"), "", udp, nil)
				if row.want == "" {
					if got != nil {
						t.Fatalf("got an answer: %x", got)
					}
					return
				}
				m := &mdns.Msg{}
				if err := m.Unpack(got); err != nil {
					t.Fatalf("%x: %v", got, err)
				}
				rcode := mdns.RcodeToString[m.Rcode]
				if m.Rcode == mdns.RcodeBadVers {
					rcode = "BADVERS" // and not BADSIG, which has the same number
				}
				if m.Id != 0x1234 || !m.Response || rcode != row.want {
					t.Errorf("got %v, want %s", m, row.want)
				}
			})
		}
	}
}

func TestAllow(t *testing.T) {
	networks := []netip.Prefix{netip.MustParsePrefix("203.0.113.0/24")}
	for _, row := range []struct {
		source string
		allow  []netip.Prefix
		want   string
	}{
		{"10.1.2.3", nil, "NXDOMAIN"},
		{"::ffff:10.1.2.3", nil, "NXDOMAIN"},
		{"fd00::1", nil, "NXDOMAIN"},
		{"100.127.0.1", nil, "NXDOMAIN"},
		{"203.0.113.9", nil, "REFUSED"},
		{"2001:db8::1", nil, "REFUSED"},
		{"203.0.113.9", networks, "NXDOMAIN"},
		{"127.0.0.1", networks, "REFUSED"},
		{"127.0.0.1", []netip.Prefix{}, "REFUSED"},
	} {
		s := newServer(t, newMemory(), func(c *dns.Config) { c.Allow = row.allow })
		got := ask(t, s, query("api.mesh.", mdns.TypeA), row.source, "", true)
		if mdns.RcodeToString[got.Rcode] != row.want {
			t.Errorf("from %s, with allow %v: %v", row.source, row.allow, got)
		}
	}
}

// TestSize holds what fits into a response: by UDP what the client takes and we
// give, by TCP everything.
func TestSize(t *testing.T) {
	m := newMemory()
	for i := range 60 {
		many := catalog.Instance{Service: "many", Node: catalog.Node{Name: "here", Datacenter: "dc1", Address: fmt.Sprintf("10.2.0.%d", i)}, PassingWeight: 1, Port: 80}
		if m.instances == nil {
			m.instances = map[string][]catalog.Instance{}
		}
		m.instances["many"] = append(m.instances["many"], many)
	}
	for _, row := range []struct {
		about    string
		edns     uint16 // 0 for none
		udp      bool
		udpSize  int
		most     int
		complete bool
	}{
		{"no EDNS", 0, true, 0, 512, false},
		{"EDNS smaller than is allowed", 100, true, 0, 512, false},
		{"EDNS larger than we give", 4096, true, 0, 1232, true},
		{"EDNS smaller than we give", 600, true, 0, 600, false},
		{"more, as configured", 4096, true, 4096, 4096, true},
		{"TCP", 0, false, 0, 65535, true},
	} {
		s := newServer(t, m, func(c *dns.Config) { c.UDPSize = row.udpSize })
		q := new(mdns.Msg).SetQuestion("many.service.consul.", mdns.TypeA)
		if row.edns > 0 {
			q.SetEdns0(row.edns, false)
		}
		packet, err := q.Pack()
		if err != nil {
			t.Fatal(err)
		}
		answer := s.Handle(t.Context(), packet, netip.MustParseAddr("10.0.0.1"), "", row.udp, nil)
		got := &mdns.Msg{}
		if err := got.Unpack(answer); err != nil {
			t.Fatal(err)
		}
		if len(answer) > row.most || len(got.Answer) == 0 || (len(got.Answer) == 60) != row.complete || got.Truncated == row.complete {
			t.Errorf("%s: %d bytes, %d records, tc %v", row.about, len(answer), len(got.Answer), got.Truncated)
		}
	}
}

// A long reason gives way to the rest of the message.
func TestLongReason(t *testing.T) {
	m := newMemory()
	long := strings.Repeat("é", 2000)
	m.change(func(m *memory) { m.ready = fmt.Errorf("%s", long) })
	s := newServer(t, m)
	name := strings.Repeat("a", 60) + ".mesh."
	for _, size := range []uint16{512, 1232} {
		q := new(mdns.Msg).SetQuestion(name, mdns.TypeA)
		q.SetEdns0(size, true)
		got := ask(t, s, q, "10.9.9.9", "", true)
		ede, ok := got.IsEdns0().Option[0].(*mdns.EDNS0_EDE)
		if got.Rcode != mdns.RcodeServerFailure || got.Truncated || !ok || !strings.HasSuffix(ede.ExtraText, "é...") || got.Len() > int(size) || !got.IsEdns0().Do() {
			t.Errorf("at %d: %v", size, got)
		}
	}
}

// Two queries with one buffer do not see each other.
func TestBufferIsReused(t *testing.T) {
	s := newServer(t, newMemory())
	buffer := make([]byte, 4096)
	var first []byte
	for i, name := range []string{"api.mesh.", "hidden.mesh.", "api.mesh."} {
		packet, err := new(mdns.Msg).SetQuestion(name, mdns.TypeA).SetEdns0(1232, false).Pack()
		if err != nil {
			t.Fatal(err)
		}
		packet[0], packet[1] = 0, 0
		got := s.Handle(t.Context(), packet, netip.MustParseAddr("10.0.0.1"), "", true, buffer)
		if i == 0 {
			first = bytes.Clone(got)
		}
		if i == 2 && !bytes.Equal(got, first) {
			t.Errorf("got %x, want %x", got, first)
		}
	}
}

func TestStats(t *testing.T) {
	s := newServer(t, newMemory())
	ask(t, s, query("api.mesh.", mdns.TypeA), "10.0.0.1", "", true)
	ask(t, s, query("hidden.mesh.", mdns.TypeA), "10.0.0.1", "", true)
	ask(t, s, query("example.com.", mdns.TypeA), "10.0.0.1", "", true)
	s.Handle(t.Context(), []byte("x"), netip.MustParseAddr("10.0.0.1"), "", true, nil)
	s.Handle(t.Context(), header(0x8000, 1), netip.MustParseAddr("10.0.0.1"), "", true, nil)
	got := map[string]int64{}
	for name, value := range s.Stats().All() {
		if value != 0 {
			got[name] = value
		}
	}
	want := map[string]int64{
		"zone.mesh.NOERROR": 1, "zone.mesh.NXDOMAIN": 1, "zone.refused.REFUSED": 1, "dropped.short": 1, "dropped.responses": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
