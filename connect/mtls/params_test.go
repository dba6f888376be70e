package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"slices"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
)

func TestALPN(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, leaf := ca.leaf(t, api, nil), ca.leaf(t, web, nil)
	tests := []struct {
		name           string
		client, server []string
		want           string
		refused        bool
	}{
		{"both", []string{"http/1.1"}, []string{"http/1.1"}, "http/1.1", false},
		{"client has none", nil, []string{"http/1.1"}, "", false},
		{"server has none", []string{"http/1.1"}, nil, "", false},
		{"HTTP/2 where both know it", []string{"h2", "http/1.1"}, []string{"h2", "http/1.1"}, "h2", false},
		{"client has more", []string{"spdy/3", "http/1.1"}, []string{"h2", "http/1.1"}, "http/1.1", false},
		{"client knows only another", []string{"h2"}, []string{"http/1.1"}, "h2", false},
		{"client knows none of them", []string{"spdy/3"}, []string{"http/1.1"}, "", true},
		{"tcp takes anything", []string{"h2", "postgresql"}, nil, "", false},
	}
	for _, tt := range tests {
		var l mtls.Loader
		d, u := downstream(ca, server), upstream(ca, leaf, api)
		d.Params.ALPN, u.Params.ALPN = tt.server, tt.client
		config := clientConfig(t, &l, u)
		config.NextProtos = tt.client
		o := connect(t, config, serverConfig(t, &l, d))
		if (o.err() != nil) != tt.refused || o.server.NegotiatedProtocol != tt.want {
			t.Errorf("%s: %v, protocol %q", tt.name, o.err(), o.server.NegotiatedProtocol)
		}
	}
}

// Leaves are chosen by server name, the first is shown to whoever gives none.
func TestServerNames(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	leaf := func(names ...string) mesh.Leaf {
		t.Helper()
		return ca.leaf(t, "", func(c *x509.Certificate) { c.DNSNames = names })
	}
	d := &mesh.DownstreamTLS{Leaves: []mesh.Leaf{leaf("a.example"), leaf("b.example"), leaf("*.c.example")}}
	var l mtls.Loader
	config := serverConfig(t, &l, d)
	for name, want := range map[string]string{
		"": "a.example", "a.example": "a.example", "b.example": "b.example", "x.c.example": "*.c.example", "unknown": "a.example",
	} {
		o := connect(t, &tls.Config{ServerName: name, InsecureSkipVerify: true}, config)
		if o.err() != nil || !slices.Contains(o.client.PeerCertificates[0].DNSNames, want) {
			t.Errorf("server name %q: %v, got %v", name, o.err(), o.client.PeerCertificates)
		}
	}
}

func TestConfigErrors(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	leaf := ca.leaf(t, api, nil)
	otherKey := leaf
	otherKey.KeyPEM = ca.leaf(t, api, nil).KeyPEM
	tests := []struct {
		name   string
		change func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS)
		want   string
	}{
		{"key of another leaf", func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			d.Leaves, u.Leaf = []mesh.Leaf{otherKey}, otherKey
		}, "our certificate"},
		{"broken leaf", func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			d.Leaves, u.Leaf = []mesh.Leaf{{CertificatePEM: "x", KeyPEM: "y"}}, mesh.Leaf{CertificatePEM: "x"}
		}, "our certificate"},
		{"no roots", func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			d.Roots, u.Roots = mesh.Roots{}, mesh.Roots{}
		}, "no root certificate"},
		{"broken roots", func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			d.Roots.PEM, u.Roots.PEM = leaf.KeyPEM, "x"
		}, "no root certificate"},
		{"trust domain without roots", func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			d.TrustDomains = map[string]mesh.Roots{"td": {}}
			u.TrustDomains = d.TrustDomains
		}, `trust domain "td"`},
		{"unknown suites only", func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			d.Params.CipherSuites = []string{"RC4-MD5"}
			u.Params.CipherSuites = d.Params.CipherSuites
		}, "cipher suites"},
		{"no version between", func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			d.Params.MinVersion, d.Params.MaxVersion = tls.VersionTLS13, tls.VersionTLS12
			u.Params.MaxVersion = tls.VersionTLS11
		}, "no version"},
	}
	for _, tt := range tests {
		var l mtls.Loader
		d, u := downstream(ca, leaf), upstream(ca, leaf, api)
		tt.change(d, u)
		if _, _, err := l.Server(d); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: server: got error %v, want one with %q", tt.name, err, tt.want)
		}
		if _, err := l.Client(u); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: client: got error %v, want one with %q", tt.name, err, tt.want)
		}
	}
	if _, _, err := new(mtls.Loader).Server(&mesh.DownstreamTLS{}); err == nil {
		t.Error("a server without a certificate")
	}
}

func TestParams(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	server, leaf := ca.leaf(t, api, nil), ca.leaf(t, web, nil)
	type wants struct{ version, suite uint16 }
	tests := []struct {
		name           string
		server, client mesh.TLSParams
		want           wants // zero: refused
	}{
		{"default", mesh.TLSParams{}, mesh.TLSParams{}, wants{version: tls.VersionTLS13}},
		{"old versions are raised", mesh.TLSParams{MinVersion: tls.VersionTLS10}, mesh.TLSParams{}, wants{version: tls.VersionTLS13}},
		{"server up to 1.2", mesh.TLSParams{MaxVersion: tls.VersionTLS12}, mesh.TLSParams{}, wants{version: tls.VersionTLS12}},
		{"no version in common", mesh.TLSParams{MinVersion: tls.VersionTLS13}, mesh.TLSParams{MaxVersion: tls.VersionTLS12}, wants{}},
		{
			"suite",
			mesh.TLSParams{MaxVersion: tls.VersionTLS12, CipherSuites: []string{"AES128-SHA", "ECDHE-ECDSA-AES256-GCM-SHA384"}},
			mesh.TLSParams{},
			wants{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384},
		},
		{
			"suite by IANA's name",
			mesh.TLSParams{MaxVersion: tls.VersionTLS12},
			mesh.TLSParams{CipherSuites: []string{"TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256"}},
			wants{tls.VersionTLS12, tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256},
		},
	}
	for _, tt := range tests {
		var l mtls.Loader
		d, u := downstream(ca, server), upstream(ca, leaf, api)
		d.Params, u.Params = tt.server, tt.client
		o := connect(t, clientConfig(t, &l, u), serverConfig(t, &l, d))
		if tt.want == (wants{}) {
			if o.err() == nil {
				t.Errorf("%s: agreed on %s", tt.name, tls.VersionName(o.client.Version))
			}
			continue
		}
		if o.err() != nil || o.client.Version != tt.want.version || (tt.want.suite != 0 && o.client.CipherSuite != tt.want.suite) {
			t.Errorf("%s: %v, %s, %s", tt.name, o.err(), tls.VersionName(o.client.Version), tls.CipherSuiteName(o.client.CipherSuite))
		}
	}
	// Older than 1.2 is never spoken.
	var l mtls.Loader
	old := clientConfig(t, &l, upstream(ca, leaf, api))
	old.MinVersion, old.MaxVersion = tls.VersionTLS10, tls.VersionTLS11
	if o := connect(t, old, serverConfig(t, &l, downstream(ca, server))); o.err() == nil {
		t.Error("TLS 1.1 was spoken")
	}
}
