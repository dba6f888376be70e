package proxy

import (
	"net/netip"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
)

func TestDescribeChain(t *testing.T) {
	t.Parallel()
	ten := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}
	for want, match := range map[string]mesh.ChainMatch{
		"every connection":                                       {},
		"port 80, to 10.0.0.0/8":                                 {DestinationPort: 80, Prefixes: ten},
		"server name a or *.b, TLS, ALPN h2":                     {ServerNames: []string{"a", "*.b"}, Transport: mesh.TransportTLS, ALPN: []string{"h2"}},
		"no TLS, by 10.0.0.0/8, from this machine":               {Transport: mesh.TransportRaw, DirectSourcePrefixes: ten, SourceType: mesh.LocalSource},
		"from other machines, from 10.0.0.0/8, from port 1 or 2": {SourceType: mesh.ExternalSource, SourcePrefixes: ten, SourcePorts: []uint16{1, 2}},
	} {
		if got := describeChain(&match); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
