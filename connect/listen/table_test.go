package listen_test

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

func prefixes(all ...string) []netip.Prefix {
	var parsed []netip.Prefix
	for _, p := range all {
		parsed = append(parsed, netip.MustParsePrefix(p))
	}
	return parsed
}

// arrival is a connection to local from peer.
func arrival(local, peer string) *listen.Arrival {
	p := &wire.Peer{}
	if local != "" {
		p.Local = netip.MustParseAddrPort(local)
	}
	if peer != "" {
		p.Addr = netip.MustParseAddrPort(peer)
	}
	return &listen.Arrival{Peer: p, Direct: p.Addr}
}

func tlsArrival(name string, alpn ...string) *listen.Arrival {
	a := arrival("10.0.0.1:443", "10.0.0.9:4000")
	a.Transport, a.ServerName, a.ALPN = mesh.TransportTLS, name, alpn
	return a
}

// Which chain a connection gets. The names of chains are their places; what is wanted
// was seen of Envoy 1.36 with the same chains (integration, TestChainMatchAsEnvoy).
func TestTable(t *testing.T) {
	t.Parallel()
	type m = mesh.ChainMatch
	names := func(all ...string) m { return m{ServerNames: all} }
	tests := []struct {
		name    string
		matches []m
		arrival *listen.Arrival
		want    int // -1: the default
	}{
		{"no match is for all", []m{{}}, arrival("10.0.0.1:1", "10.0.0.2:2"), 0},
		{"port", []m{{}, {DestinationPort: 80}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 1},
		{"other port", []m{{}, {DestinationPort: 80}}, arrival("10.0.0.1:81", "10.0.0.2:2"), 0},
		{
			"no way back from a port",
			[]m{{}, {DestinationPort: 80, Prefixes: prefixes("10.1.0.0/16")}},
			arrival("10.0.0.1:80", "10.0.0.2:2"), -1,
		},
		{
			"port before address",
			[]m{{Prefixes: prefixes("10.0.0.1/32")}, {DestinationPort: 80}},
			arrival("10.0.0.1:80", "10.0.0.2:2"), 1,
		},
		{
			"longest prefix",
			[]m{{Prefixes: prefixes("10.0.0.0/8")}, {Prefixes: prefixes("10.0.0.0/24", "11.0.0.0/8")}, {}},
			arrival("10.0.0.1:80", "10.0.0.2:2"), 1,
		},
		{"bits behind the prefix do not count", []m{{Prefixes: prefixes("10.0.0.7/8")}}, arrival("10.9.9.9:80", "10.0.0.2:2"), 0},
		{"outside of all prefixes", []m{{Prefixes: prefixes("10.0.0.0/8")}, {}}, arrival("12.0.0.1:80", "10.0.0.2:2"), 1},
		{"IPv6 prefix", []m{{Prefixes: prefixes("0.0.0.0/0")}, {Prefixes: prefixes("2001:db8::/32")}}, arrival("[2001:db8::1]:80", "[::1]:2"), 1},
		{"IPv4 in IPv6", []m{{Prefixes: prefixes("10.0.0.0/8")}}, arrival("[::ffff:10.0.0.1]:80", "[::1]:2"), 0},
		{
			"no way back from an address",
			[]m{{Prefixes: prefixes("10.0.0.0/8"), SourcePorts: []uint16{2}}, {Prefixes: prefixes("10.0.0.1/32"), SourcePorts: []uint16{3}}},
			arrival("10.0.0.1:80", "10.0.0.2:2"), -1,
		},
		{"a unix socket has no address", []m{{Prefixes: prefixes("10.0.0.0/8")}, {}}, arrival("", ""), 1},

		{"exact name", []m{names("*.example"), names("a.example")}, tlsArrival("a.example"), 1},
		{"suffix", []m{names("*.example"), names("a.example")}, tlsArrival("b.example"), 0},
		{"suffix of any depth", []m{names("*.example"), {}}, tlsArrival("c.b.a.example"), 0},
		{"the longest suffix", []m{names("*.example"), names("*.a.example")}, tlsArrival("c.b.a.example"), 1},
		{"a suffix is not the name itself", []m{names("*.example"), {}}, tlsArrival("example"), 1},
		{"several names", []m{names("a.example", "b.example"), {}}, tlsArrival("b.example"), 0},
		{"any name in so many words", []m{names("", "b.example"), names("a.example")}, tlsArrival("c.example"), 0},
		{"no name", []m{names("a.example"), {}}, tlsArrival(""), 1},
		{"another name", []m{names("a.example")}, tlsArrival("b.example"), -1},
		{"no way back from a name", []m{names("*.example"), {ServerNames: []string{"a.example"}, ALPN: []string{"h2"}}}, tlsArrival("a.example"), -1},
		{"a dot at the end", []m{names("*.example"), {}}, tlsArrival("a."), 1},

		{"tls", []m{{Transport: "raw_buffer"}, {Transport: "tls"}}, tlsArrival("x"), 1},
		{"raw", []m{{Transport: "raw_buffer"}, {Transport: "tls"}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 0},
		{"any transport", []m{{Transport: "tls"}, {}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 1},
		{"ALPN as the client wants it", []m{{ALPN: []string{"http/1.1"}}, {ALPN: []string{"h2"}}}, tlsArrival("x", "h2", "http/1.1"), 1},
		{"ALPN that is known", []m{{ALPN: []string{"http/1.1"}}, {}}, tlsArrival("x", "h3", "http/1.1"), 0},
		{"other ALPN", []m{{ALPN: []string{"http/1.1"}}, {}}, tlsArrival("x", "h3"), 1},

		{"loopback is local", []m{{SourceType: mesh.ExternalSource}, {SourceType: mesh.LocalSource}}, arrival("10.0.0.1:80", "127.0.0.1:2"), 1},
		{"the rest of 127 is not", []m{{SourceType: mesh.ExternalSource}, {SourceType: mesh.LocalSource}}, arrival("10.0.0.1:80", "127.0.0.2:2"), 0},
		{"one's own address is local", []m{{SourceType: mesh.ExternalSource}, {SourceType: mesh.LocalSource}}, arrival("10.0.0.1:80", "10.0.0.1:2"), 1},
		{"external", []m{{SourceType: mesh.ExternalSource}, {SourceType: mesh.LocalSource}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 0},
		{"external and any", []m{{SourceType: mesh.LocalSource}, {}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 1},
		{"source prefix", []m{{SourcePrefixes: prefixes("10.0.0.0/8")}, {SourcePrefixes: prefixes("10.0.0.2/32")}, {}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 1},
		{"source port", []m{{SourcePrefixes: prefixes("10.0.0.0/8"), SourcePorts: []uint16{3, 2}}, {SourcePrefixes: prefixes("10.0.0.0/8")}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 0},
		{"other source port", []m{{SourcePrefixes: prefixes("10.0.0.0/8"), SourcePorts: []uint16{3}}, {SourcePrefixes: prefixes("10.0.0.0/8")}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 1},
		{"direct source", []m{{DirectSourcePrefixes: prefixes("10.0.0.2/32")}, {SourcePrefixes: prefixes("10.0.0.2/32")}}, arrival("10.0.0.1:80", "10.0.0.2:2"), 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var entries []listen.Entry
			for i, match := range tt.matches {
				entries = append(entries, listen.Entry{Match: match, Chain: &listen.Chain{Name: fmt.Sprint(i)}})
			}
			otherwise := &listen.Chain{Name: "-1"}
			if got := table(t, otherwise, entries...).Find(tt.arrival); got.Name != fmt.Sprint(tt.want) {
				t.Errorf("chain %s, want %d", got.Name, tt.want)
			}
			want := tt.want
			if got := table(t, nil, entries...).Find(tt.arrival); (got == nil) != (want < 0) {
				t.Errorf("without a default: %v", got)
			}
		})
	}
}

func TestTableRefuses(t *testing.T) {
	t.Parallel()
	type m = mesh.ChainMatch
	for name, matches := range map[string][]m{
		"the same twice":         {{}, {}},
		"the same name":          {{ServerNames: []string{"a.b", "c.d"}}, {ServerNames: []string{"c.d"}}},
		"the same prefix":        {{Prefixes: prefixes("10.0.0.0/8")}, {Prefixes: prefixes("10.1.0.0/8")}},
		"wildcard in the middle": {{ServerNames: []string{"a.*.b"}}},
		"wildcard alone":         {{ServerNames: []string{"*"}}},
		"half a label":           {{ServerNames: []string{"a*.b"}}},
		"any name twice":         {{ServerNames: []string{"", "a.b"}}, {}},
	} {
		var entries []listen.Entry
		for i, match := range matches {
			entries = append(entries, listen.Entry{Match: match, Chain: &listen.Chain{Name: fmt.Sprint("chain ", i)}})
		}
		if _, err := listen.NewTable(entries, nil); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	twice := listen.Entry{Match: m{ServerNames: []string{"a.b", "a.b"}}, Chain: &listen.Chain{}}
	if _, err := listen.NewTable([]listen.Entry{twice}, nil); err != nil {
		t.Errorf("a name twice in one chain: %v", err)
	}
}

// gateway is the chains of a mesh gateway that knows many services.
func gateway(tb testing.TB, services int) *listen.Table {
	tb.Helper()
	entries := []listen.Entry{{Match: mesh.ChainMatch{ServerNames: []string{"*.dc2.internal.td.consul"}}, Chain: &listen.Chain{Name: "dc2"}}}
	for i := range services {
		name := fmt.Sprintf("service-%d.default.dc1.internal.td.consul", i)
		entries = append(entries, listen.Entry{Match: mesh.ChainMatch{ServerNames: []string{name, "*." + name}}, Chain: &listen.Chain{Name: name}})
	}
	return table(tb, &listen.Chain{Name: "default"}, entries...)
}

// Trap 22: server names of a mesh gateway, and one for another datacenter.
func TestTrap22ManyChains(t *testing.T) {
	many := gateway(t, 5000)
	for name, want := range map[string]string{
		"service-4999.default.dc1.internal.td.consul":     "service-4999.default.dc1.internal.td.consul",
		"v2.service-17.default.dc1.internal.td.consul":    "service-17.default.dc1.internal.td.consul",
		"service-17.default.dc2.internal.td.consul":       "dc2",
		"v2.service-17.default.dc2.internal.td.consul":    "dc2",
		"service-5000.default.dc1.internal.td.consul":     "default",
		"dc2.internal.td.consul":                          "default",
		"":                                                "default",
		"node.server.dc2.consul" + strings.Repeat("x", 9): "default",
	} {
		if got := many.Find(tlsArrival(name)); got.Name != want {
			t.Errorf("%q gets %q, not %q", name, got.Name, want)
		}
	}
	a := tlsArrival("v2.service-17.default.dc2.internal.td.consul")
	if n := testing.AllocsPerRun(100, func() { many.Find(a) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkTable(b *testing.B) {
	many := gateway(b, 5000)
	a := tlsArrival("v2.service-17.default.dc1.internal.td.consul")
	for b.Loop() {
		many.Find(a)
	}
}
