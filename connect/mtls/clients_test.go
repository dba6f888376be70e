package mtls_test

import (
	"crypto/x509"
	"encoding/pem"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
)

// Who was believed once is so as long as nothing but time speaks against it.
func TestDistrust(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	shown := func(leaf mesh.Leaf) []*x509.Certificate {
		t.Helper()
		block, _ := pem.Decode([]byte(leaf.CertificatePEM))
		certificate, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return []*x509.Certificate{certificate}
	}
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	required, optional := downstream(ca, ca.leaf(t, api, nil)), downstream(ca, ca.leaf(t, api, nil))
	optional.RequireClient = false
	named := downstream(ca, ca.leaf(t, api, nil))
	named.Names = []mesh.PeerName{{Kind: mesh.NameURI, Value: mesh.StringMatch{Kind: mesh.MatchExact, Exact: api}}}
	unasked := &mesh.DownstreamTLS{Leaves: required.Leaves}
	for _, tt := range []struct {
		name  string
		now   *mesh.DownstreamTLS
		chain []*x509.Certificate
		want  bool
	}{
		{"signed", required, shown(ca.leaf(t, web, nil)), true},
		{"signed, and expired since", required, shown(ca.leaf(t, web, expired)), true},
		{"signed by another", required, shown(other.leaf(t, web, nil)), false},
		{"signed by another, and expired", required, shown(other.leaf(t, web, expired)), false},
		{"nothing, where something is asked for", required, nil, false},
		{"nothing, where it may be", optional, nil, true},
		{"another name", named, shown(ca.leaf(t, web, nil)), false},
		{"anybody, where nobody is asked", unasked, shown(other.leaf(t, web, nil)), true},
	} {
		var l mtls.Loader
		clients, err := l.Clients(tt.now)
		if err != nil {
			t.Fatal(err)
		}
		if err := clients.Distrust(tt.chain); (err == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}
