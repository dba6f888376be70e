package dns_test

import (
	"net/netip"
	"testing"

	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/dns"
)

// FuzzHandle sends any packet through the whole handler: it gets no answer, or
// one that a client can read, is not too long, and is to it.
func FuzzHandle(f *testing.F) {
	good := string(header(0x0100, 1)) + apiMesh + typeA
	for _, seed := range []string{
		"", good, good + opt, string(header(0, 1, 0, 0, 1)) + apiMesh + typeA + opt,
		string(header(0, 1)) + "\xc0\x0c" + typeA,
		string(header(0, 1)) + "\x04_api\x04_tcp\x03dc2\x04mesh\x00\x00\x21\x00\x01",
		string(header(0, 1)) + "\x04many\x07service\x06consul\x00\x00\xff\x00\x01",
		string(header(0, 1)) + "\x03www\x07example\x03com\x00" + typeA,
		string(header(0, 1)) + "\x05a\\b.c\x04mesh\x00" + typeA,
		string(header(0, 1)) + "\x08c0a80101\x04addr\x03dc1\x06consul\x00" + typeA,
	} {
		f.Add([]byte(seed), true)
		f.Add([]byte(seed), false)
	}
	s := newServer(f, newMemory(), func(c *dns.Config) { c.UDPSize = 4096 })
	source := netip.MustParseAddr("10.0.0.1")
	f.Fuzz(func(t *testing.T, packet []byte, udp bool) {
		answer := s.Handle(t.Context(), packet, source, "", udp, make([]byte, 4096))
		isQuery := len(packet) >= 12 && packet[2]&0x80 == 0
		if isQuery != (answer != nil) {
			t.Fatalf("%x gets %x", packet, answer)
		}
		if !isQuery {
			return
		}
		m := &mdns.Msg{}
		if err := m.Unpack(answer); err != nil {
			t.Fatalf("%x gets %x: %v", packet, answer, err)
		}
		limit := 512
		if asked := new(mdns.Msg); asked.Unpack(packet) == nil && asked.IsEdns0() != nil {
			limit = max(512, min(4096, int(asked.IsEdns0().UDPSize())))
		}
		if udp && len(answer) > limit {
			t.Fatalf("%d bytes where %d fit", len(answer), limit)
		}
		if answer[0] != packet[0] || answer[1] != packet[1] || !m.Response || m.Opcode != int(packet[2]>>3)&0xf {
			t.Fatalf("%x gets %v", packet, m)
		}
	})
}

// FuzzAnswerTo reads any packet as a resolver's answer: what is taken for one
// has our ID and question.
func FuzzAnswerTo(f *testing.F) {
	sent := new(mdns.Msg).SetQuestion("www.example.com.", mdns.TypeA)
	sent.Id = 0x1234
	good, err := says(sent, "192.0.2.1").Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:20])
	f.Add(header(0x8002))
	f.Fuzz(func(t *testing.T, packet []byte) {
		m, err := dns.AnswerTo(sent, packet)
		if (m == nil) == (err == nil) {
			t.Fatalf("%v and %v", m, err)
		}
		if err == nil && (m.Id != sent.Id || !m.Response || (len(m.Question) == 0 && m.Rcode == mdns.RcodeSuccess)) {
			t.Fatalf("took %v", m)
		}
	})
}
