package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
)

// downstream and upstream are the two ends of a mesh connection.
func downstream(ca *authority, leaf mesh.Leaf) *mesh.DownstreamTLS {
	return &mesh.DownstreamTLS{Leaves: []mesh.Leaf{leaf}, Roots: ca.roots, RequireClient: true}
}

func upstream(ca *authority, leaf mesh.Leaf, uris ...string) *mesh.UpstreamTLS {
	return &mesh.UpstreamTLS{Leaf: leaf, Roots: ca.roots, URIs: uris, ServerName: "api.default.dc1.internal." + domain}
}

func serverConfig(t *testing.T, l *mtls.Loader, d *mesh.DownstreamTLS) *tls.Config {
	t.Helper()
	config, _, err := l.Server(d)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

func clientConfig(t *testing.T, l *mtls.Loader, u *mesh.UpstreamTLS) *tls.Config {
	t.Helper()
	client, err := l.Client(u)
	if err != nil {
		t.Fatal(err)
	}
	return client.Config()
}

func TestPeers(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	expired := func(c *x509.Certificate) { c.NotAfter = time.Now().Add(-time.Minute) }
	early := func(c *x509.Certificate) { c.NotBefore = time.Now().Add(time.Minute) }
	serverOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} }
	clientOnly := func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth} }
	named := func(c *x509.Certificate) { c.DNSNames = []string{"db.example"} }
	two := func(c *x509.Certificate) { c.URIs = append(c.URIs, &url.URL{Scheme: "spiffe", Host: "td", Path: "/x"}) }
	tests := []struct {
		name           string
		client, server mesh.Leaf
		change         func(d *mesh.DownstreamTLS, u *mesh.UpstreamTLS)
		want           string // in the error; "" for none
	}{
		{"right", ca.leaf(t, web, nil), ca.leaf(t, api, nil), nil, ""},
		{"one of several", ca.leaf(t, web, nil), ca.leaf(t, api, nil), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			u.URIs = []string{web, api}
		}, ""},
		{"two URIs, one is right", ca.leaf(t, web, nil), ca.leaf(t, api, two), nil, ""},
		{"wrong service", ca.leaf(t, web, nil), ca.leaf(t, web, nil), nil, "the peer is " + web},
		{"prefix of the right one", ca.leaf(t, web, nil), ca.leaf(t, api+"x", nil), nil, "the peer is " + api + "x"},
		{"no URI", ca.leaf(t, web, nil), ca.leaf(t, "", nil), nil, "not who we asked for"},
		{"no URI is expected", ca.leaf(t, web, nil), ca.leaf(t, api, nil), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			u.URIs = nil
		}, "we asked for"},
		{"DNS name where a URI is expected", ca.leaf(t, web, nil), ca.leaf(t, "", named), nil, "not who we asked for"},
		{"DNS name", ca.leaf(t, web, nil), ca.leaf(t, "", named), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			u.URIs, u.DNSNames = nil, []string{"other.example", "db.example"}
		}, ""},
		{"wrong DNS name", ca.leaf(t, web, nil), ca.leaf(t, "", named), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			u.URIs, u.DNSNames = nil, []string{"example"}
		}, "not who we asked for"},
		{"any peer", ca.leaf(t, web, nil), ca.leaf(t, "", nil), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			u.URIs, u.AnyPeer = nil, true
		}, ""},
		{"any peer of the roots", ca.leaf(t, web, nil), other.leaf(t, api, nil), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			u.URIs, u.AnyPeer = nil, true
		}, "unknown authority"},
		{"server of another root", ca.leaf(t, web, nil), other.leaf(t, api, nil), nil, "unknown authority"},
		{"client of another root", other.leaf(t, web, nil), ca.leaf(t, api, nil), nil, "unknown authority"},
		{"server expired", ca.leaf(t, web, nil), ca.leaf(t, api, expired), nil, "expired"},
		{"client expired", ca.leaf(t, web, expired), ca.leaf(t, api, nil), nil, "expired"},
		{"client not yet valid", ca.leaf(t, web, early), ca.leaf(t, api, nil), nil, "not yet valid"},
		{"client may only serve", ca.leaf(t, web, serverOnly), ca.leaf(t, api, nil), nil, "incompatible key usage"},
		{"server may only call", ca.leaf(t, web, nil), ca.leaf(t, api, clientOnly), nil, "incompatible key usage"},
		{"no client certificate", mesh.Leaf{}, ca.leaf(t, api, nil), nil, "didn't provide a certificate"},
		{"none needed", mesh.Leaf{}, ca.leaf(t, api, nil), func(d *mesh.DownstreamTLS, _ *mesh.UpstreamTLS) {
			d.RequireClient = false
		}, ""},
		{"any client of the root", ca.leaf(t, "", nil), ca.leaf(t, api, nil), nil, ""},
		{"no server name", ca.leaf(t, web, nil), ca.leaf(t, api, nil), func(_ *mesh.DownstreamTLS, u *mesh.UpstreamTLS) {
			u.ServerName = ""
		}, ""},
	}
	for _, tt := range tests {
		for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
			t.Run(tt.name+"/"+tls.VersionName(version), func(t *testing.T) {
				t.Parallel()
				d, u := downstream(ca, tt.server), upstream(ca, tt.client, api)
				if tt.change != nil {
					tt.change(d, u)
				}
				u.Params.MaxVersion = version
				var l mtls.Loader
				o := connect(t, clientConfig(t, &l, u), serverConfig(t, &l, d))
				switch err := o.err(); {
				case tt.want == "" && err != nil:
					t.Errorf("refused: %v", err)
				case tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)):
					t.Errorf("got error %v, want one with %q", err, tt.want)
				case err == nil && o.client.Version != version:
					t.Errorf("version %s", tls.VersionName(o.client.Version))
				}
			})
		}
	}
}

func TestIntermediate(t *testing.T) {
	t.Parallel()
	root := newAuthority(t)
	middle := root.intermediate(t)
	chained, bare := middle.leaf(t, web, nil), middle.leaf(t, web, nil)
	chained.CertificatePEM += middle.roots.PEM
	server := root.leaf(t, api, nil)
	var l mtls.Loader
	d := serverConfig(t, &l, downstream(root, server))
	if o := connect(t, clientConfig(t, &l, upstream(root, chained, api)), d); o.err() != nil {
		t.Errorf("with its intermediate: %v", o.err())
	}
	if o := connect(t, clientConfig(t, &l, upstream(root, bare, api)), d); o.serverErr == nil {
		t.Error("without its intermediate: accepted")
	}
}

func TestTrustDomains(t *testing.T) {
	t.Parallel()
	ours, peers := newAuthority(t), newAuthority(t)
	const foreign = "spiffe://peer.consul/ns/default/dc/dc9/svc/web"
	server := ours.leaf(t, api, nil)
	d := downstream(ours, server)
	d.TrustDomains = map[string]mesh.Roots{domain: ours.roots, "peer.consul": peers.roots}
	var l mtls.Loader
	config := serverConfig(t, &l, d)
	tests := []struct {
		name   string
		client mesh.Leaf
		want   string
	}{
		{"ours", ours.leaf(t, web, nil), ""},
		{"the peer's", peers.leaf(t, foreign, nil), ""},
		{"our name signed by the peer", peers.leaf(t, web, nil), "unknown authority"},
		{"the peer's name signed by us", ours.leaf(t, foreign, nil), "unknown authority"},
		{"an unknown domain", ours.leaf(t, "spiffe://third.consul/ns/default/dc/dc1/svc/web", nil), "not known here"},
		{"no name", ours.leaf(t, "", nil), "URI names"},
		{"an authority", ours.leaf(t, web, func(c *x509.Certificate) { c.IsCA, c.BasicConstraintsValid = true, true }), "signs others"},
		{"one that signs", ours.leaf(t, web, func(c *x509.Certificate) { c.KeyUsage |= x509.KeyUsageCertSign }), "signs others"},
	}
	for _, tt := range tests {
		o := connect(t, clientConfig(t, &l, upstream(ours, tt.client, api)), config)
		switch {
		case tt.want == "" && o.err() != nil:
			t.Errorf("%s: refused: %v", tt.name, o.err())
		case tt.want != "" && (o.serverErr == nil || !strings.Contains(o.serverErr.Error(), tt.want)):
			t.Errorf("%s: got error %v, want one with %q", tt.name, o.serverErr, tt.want)
		}
	}
}

// A session of a peer whose trust domain is not known any more is not resumed.
func TestTrustDomainsOnResumption(t *testing.T) {
	t.Parallel()
	ours, peers := newAuthority(t), newAuthority(t)
	const foreign = "spiffe://peer.consul/ns/default/dc/dc9/svc/web"
	d := downstream(ours, ours.leaf(t, api, nil))
	d.TrustDomains = map[string]mesh.Roots{domain: ours.roots, "peer.consul": peers.roots}
	var l mtls.Loader
	config := serverConfig(t, &l, d)
	client := clientConfig(t, &l, upstream(ours, peers.leaf(t, foreign, nil), api))
	for _, resumed := range []bool{false, true} {
		if o := connect(t, client, config); o.err() != nil || o.client.DidResume != resumed {
			t.Fatalf("%v, resumed %v, want %v", o.err(), o.client.DidResume, resumed)
		}
	}
	d.TrustDomains = map[string]mesh.Roots{domain: ours.roots}
	alone := config.Clone()
	alone.VerifyConnection = serverConfig(t, &l, d).VerifyConnection
	if o := connect(t, client, alone); o.serverErr == nil || !strings.Contains(o.serverErr.Error(), "not known here") {
		t.Errorf("got %v", o.serverErr)
	}
}

// A resumed session is checked like a new one, on both sides.
func TestResumptionVerifies(t *testing.T) {
	t.Parallel()
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		t.Run(tls.VersionName(version), func(t *testing.T) {
			t.Parallel()
			ca, other := newAuthority(t), newAuthority(t)
			var l mtls.Loader
			d := serverConfig(t, &l, downstream(ca, ca.leaf(t, api, nil)))
			u := upstream(ca, ca.leaf(t, web, nil), api)
			u.Params.MaxVersion = version
			client := clientConfig(t, &l, u)
			if o := connect(t, client, d); o.err() != nil || o.client.DidResume {
				t.Fatalf("first: %v, resumed %v", o.err(), o.client.DidResume)
			}
			again := connect(t, client, d)
			if again.err() != nil || !again.client.DidResume || !again.server.DidResume {
				t.Fatalf("second: %v, resumed %v", again.err(), again.client.DidResume)
			}
			if len(again.server.PeerCertificates) == 0 {
				t.Error("the server does not know who resumed")
			}

			// The same sessions, but the server trusts somebody else by now.
			strict := d.Clone()
			strict.VerifyConnection = serverConfig(t, &l, downstream(other, ca.leaf(t, api, nil))).VerifyConnection
			if o := connect(t, client, strict); o.serverErr == nil {
				t.Error("the server accepted a session of a client that it does not trust any more")
			}
			// And the client asks for somebody else.
			suspicious := client.Clone()
			suspicious.VerifyConnection = clientConfig(t, &l, upstream(ca, ca.leaf(t, web, nil), web)).VerifyConnection
			if o := connect(t, suspicious, d); o.clientErr == nil {
				t.Error("the client accepted a session with somebody it did not ask for")
			}
		})
	}
}

// Sessions belong to the configuration that made them: a new leaf begins anew.
func TestRotation(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var l mtls.Loader
	old, fresh := ca.leaf(t, web, nil), ca.leaf(t, web, nil)
	server := ca.leaf(t, api, nil)
	first := serverConfig(t, &l, downstream(ca, server))
	client := clientConfig(t, &l, upstream(ca, old, api))
	for range 2 {
		if o := connect(t, client, first); o.err() != nil {
			t.Fatal(o.err())
		}
	}
	second := serverConfig(t, &l, downstream(ca, server))
	if o := connect(t, client, second); o.err() != nil || o.server.DidResume {
		t.Errorf("another server configuration: %v, resumed %v", o.err(), o.server.DidResume)
	}
	o := connect(t, clientConfig(t, &l, upstream(ca, fresh, api)), first)
	if o.err() != nil || o.server.DidResume {
		t.Fatalf("new leaf: %v, resumed %v", o.err(), o.server.DidResume)
	}
	if got := encode("CERTIFICATE", o.server.PeerCertificates[0].Raw); got != fresh.CertificatePEM {
		t.Error("the server does not see the new leaf")
	}
	// Roots in transition: both are trusted.
	next := newAuthority(t)
	both := mesh.Roots{PEM: ca.roots.PEM + next.roots.PEM}
	d, u := downstream(ca, server), upstream(ca, next.leaf(t, web, nil), api)
	d.Roots, u.Roots = both, both
	if o := connect(t, clientConfig(t, &l, u), serverConfig(t, &l, d)); o.err() != nil {
		t.Errorf("roots in transition: %v", o.err())
	}
}

// A loader that has seen many leaves forgets, and goes on.
func TestLoaderForgets(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	leaf := ca.leaf(t, api, nil)
	var l mtls.Loader
	for i := range 600 {
		same := mesh.Leaf{CertificatePEM: leaf.CertificatePEM, KeyPEM: leaf.KeyPEM + strings.Repeat("\n", i)}
		d := downstream(ca, same)
		d.Roots.PEM += strings.Repeat("\n", i)
		serverConfig(t, &l, d)
	}
	if o := connect(t, clientConfig(t, &l, upstream(ca, leaf, api)), serverConfig(t, &l, downstream(ca, leaf))); o.err() != nil {
		t.Error(o.err())
	}
}

// What is no TLS at all must not hang or panic.
func TestGarbage(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	var l mtls.Loader
	config := serverConfig(t, &l, downstream(ca, ca.leaf(t, api, nil)))
	for _, sent := range []string{"", "GET / HTTP/1.1\r\n\r\n", "\x16\x03\x01\xff\xff", "\x16\x03\x01\x00\x05\x01\x00\x00\x01\x00"} {
		near, far := pair(t)
		go func() {
			near.Write([]byte(sent)) //nolint:errcheck // the other side tells
			near.Close()
		}()
		if err := tls.Server(far, config).Handshake(); err == nil {
			t.Errorf("%q: a handshake", sent)
		}
		far.Close()
	}
}
