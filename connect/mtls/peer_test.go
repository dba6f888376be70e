package mtls_test

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
)

func exact(text string) mesh.StringMatch { return mesh.StringMatch{Kind: mesh.MatchExact, Exact: text} }

// TestPeerNames: one of the names is enough, whatever its kind; both sides, and also
// when a session is resumed.
func TestPeerNames(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	full := func(c *x509.Certificate) {
		c.DNSNames = []string{"db.example", "*.wild.example"}
		c.EmailAddresses = []string{"root@db.example"}
		c.IPAddresses = []net.IP{net.ParseIP("10.1.2.3"), net.ParseIP("fd00::1")}
	}
	tests := []struct {
		name string
		peer mesh.PeerName
		want bool
	}{
		{"URI prefix", mesh.PeerName{Kind: mesh.NameURI, Value: mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "spiffe://" + domain}}, true},
		{"URI regex in full", mesh.PeerName{Kind: mesh.NameURI, Value: mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "spiffe://.*/svc/api"}}, true},
		{"URI regex in part", mesh.PeerName{Kind: mesh.NameURI, Value: mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "svc/api"}}, false},
		{"DNS exact", mesh.PeerName{Kind: mesh.NameDNS, Value: exact("db.example")}, true},
		{"DNS exact, of a wildcard", mesh.PeerName{Kind: mesh.NameDNS, Value: exact("a.wild.example")}, true},
		{"DNS exact, too deep for a wildcard", mesh.PeerName{Kind: mesh.NameDNS, Value: exact("a.b.wild.example")}, false},
		{"DNS suffix", mesh.PeerName{Kind: mesh.NameDNS, Value: mesh.StringMatch{Kind: mesh.MatchSuffix, Suffix: ".example"}}, true},
		{"DNS contains", mesh.PeerName{Kind: mesh.NameDNS, Value: mesh.StringMatch{Kind: mesh.MatchContains, Contains: "wrong"}}, false},
		{"mail", mesh.PeerName{Kind: mesh.NameEmail, Value: mesh.StringMatch{Kind: mesh.MatchExact, Exact: "ROOT@db.example", IgnoreCase: true}}, true},
		{"mail as DNS name", mesh.PeerName{Kind: mesh.NameDNS, Value: exact("root@db.example")}, false},
		{"IPv4", mesh.PeerName{Kind: mesh.NameIP, Value: exact("10.1.2.3")}, true},
		{"IPv6", mesh.PeerName{Kind: mesh.NameIP, Value: exact("fd00::1")}, true},
		{"another IP", mesh.PeerName{Kind: mesh.NameIP, Value: exact("10.1.2.4")}, false},
		{"DNS name as IP", mesh.PeerName{Kind: mesh.NameIP, Value: exact("db.example")}, false},
		{"IP as DNS name", mesh.PeerName{Kind: mesh.NameDNS, Value: exact("10.1.2.3")}, false},
		{"unknown kind", mesh.PeerName{Kind: 99, Value: exact("db.example")}, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var l mtls.Loader
			wrong := mesh.PeerName{Kind: mesh.NameEmail, Value: exact("nobody@example")}
			u := upstream(ca, ca.leaf(t, web, nil))
			u.Names = []mesh.PeerName{wrong, tt.peer}
			client, server := clientConfig(t, &l, u), serverConfig(t, &l, downstream(ca, ca.leaf(t, api, full)))
			for round := range 2 {
				o := connect(t, client, server)
				if got := o.err() == nil; got != tt.want {
					t.Errorf("as a client, round %d: %v", round, o.err())
				}
				if round == 1 && tt.want && !o.client.DidResume {
					t.Error("the second session was not resumed")
				}
			}
			d := downstream(ca, ca.leaf(t, api, nil))
			d.Names = []mesh.PeerName{wrong, tt.peer}
			client, server = clientConfig(t, &l, upstream(ca, ca.leaf(t, api, full), api)), serverConfig(t, &l, d)
			for range 2 {
				if o := connect(t, client, server); (o.serverErr == nil) != tt.want {
					t.Errorf("as a server: %v", o.serverErr)
				}
			}
		})
	}
	var l mtls.Loader
	bad := []mesh.PeerName{{Value: mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "("}}}
	if _, err := l.Client(&mesh.UpstreamTLS{Roots: ca.roots, Names: bad}); err == nil {
		t.Error("a pattern that is none is taken")
	}
}

// TestOptionalClientCertificate: it need not be there, and must be good if it is.
func TestOptionalClientCertificate(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	var l mtls.Loader
	d := downstream(ca, ca.leaf(t, api, nil))
	d.RequireClient = false
	server := serverConfig(t, &l, d)
	for _, tt := range []struct {
		name string
		leaf mesh.Leaf
		want bool
	}{{"none", mesh.Leaf{}, true}, {"a good one", ca.leaf(t, web, nil), true}, {"another's", other.leaf(t, web, nil), false}} {
		if o := connect(t, clientConfig(t, &l, upstream(ca, tt.leaf, api)), server); (o.serverErr == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, o.serverErr)
		}
	}
}

func TestPins(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	leaf := other.leaf(t, "", nil)
	block, _ := pem.Decode([]byte(leaf.CertificatePEM))
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	whole, key := sha256.Sum256(certificate.Raw), sha256.Sum256(certificate.RawSubjectPublicKeyInfo)
	right := mesh.Pins{Certificates: []string{strings.Repeat("0", 64), hex.EncodeToString(whole[:])}}
	rightKey := mesh.Pins{Certificates: []string{strings.Repeat("0", 64)}, Keys: []string{base64.StdEncoding.EncodeToString(key[:])}}
	wrong := mesh.Pins{Keys: []string{base64.StdEncoding.EncodeToString(whole[:])}}
	for _, tt := range []struct {
		name  string
		pins  mesh.Pins
		roots mesh.Roots
		want  bool
	}{
		{"certificate", right, mesh.Roots{}, true},
		{"key", rightKey, mesh.Roots{}, true},
		{"wrong", wrong, mesh.Roots{}, false},
		{"right, of wrong roots", right, ca.roots, false},
		{"right, of right roots", right, other.roots, true},
		{"wrong, of right roots", wrong, other.roots, false},
	} {
		var l mtls.Loader
		client := clientConfig(t, &l, &mesh.UpstreamTLS{Roots: tt.roots, Pins: tt.pins, AnyPeer: true})
		server := serverConfig(t, &l, &mesh.DownstreamTLS{Leaves: []mesh.Leaf{leaf}})
		if o := connect(t, client, server); (o.clientErr == nil) != tt.want {
			t.Errorf("server by its %s: %v", tt.name, o.clientErr)
		}
		client = clientConfig(t, &l, &mesh.UpstreamTLS{Leaf: leaf, Roots: ca.roots, AnyPeer: true})
		server = serverConfig(t, &l, &mesh.DownstreamTLS{Leaves: []mesh.Leaf{ca.leaf(t, api, nil)}, RequireClient: true, Roots: tt.roots, Pins: tt.pins})
		if o := connect(t, client, server); (o.serverErr == nil) != tt.want {
			t.Errorf("client by its %s: %v", tt.name, o.serverErr)
		}
	}
}

func TestForHost(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	named := func(c *x509.Certificate) {
		c.DNSNames, c.IPAddresses = []string{"a.example"}, []net.IP{net.ParseIP("127.0.0.1")}
	}
	var l mtls.Loader
	asked := make(chan string, 1)
	server := serverConfig(t, &l, &mesh.DownstreamTLS{Leaves: []mesh.Leaf{ca.leaf(t, "", named)}}).Clone()
	server.GetConfigForClient = func(hello *tls.ClientHelloInfo) (*tls.Config, error) {
		asked <- hello.ServerName
		return nil, nil
	}
	for _, tt := range []struct {
		name      string
		change    mesh.UpstreamTLS
		host, sni string
		want      bool
	}{
		{"nothing of the host", mesh.UpstreamTLS{ServerName: "b.example"}, "a.example", "b.example", true},
		{"SNI of the host", mesh.UpstreamTLS{ServerName: "b.example", HostSNI: true}, "a.example", "a.example", true},
		{"the SNI is checked", mesh.UpstreamTLS{ServerName: "b.example", VerifySNI: true}, "a.example", "b.example", false},
		{"the SNI of the host is checked", mesh.UpstreamTLS{HostSNI: true, VerifySNI: true}, "a.example", "a.example", true},
		{"it is another's", mesh.UpstreamTLS{HostSNI: true, VerifySNI: true}, "c.example", "c.example", false},
		{"an address", mesh.UpstreamTLS{HostSNI: true, VerifySNI: true}, "127.0.0.1", "", true},
		{"another address", mesh.UpstreamTLS{HostSNI: true, VerifySNI: true}, "127.0.0.2", "", false},
		{"a socket without a name", mesh.UpstreamTLS{HostSNI: true, VerifySNI: true}, "", "", false},
	} {
		u := tt.change
		u.Roots, u.AnyPeer = ca.roots, true
		client := mtls.ForHost(clientConfig(t, &l, &u), &u, tt.host)
		o := connect(t, client, server)
		if (o.clientErr == nil) != tt.want {
			t.Errorf("%s: %v", tt.name, o.clientErr)
		}
		if sni := <-asked; sni != tt.sni {
			t.Errorf("%s: SNI %q, want %q", tt.name, sni, tt.sni)
		}
	}
}

// A connection for one name has it in place of the names that are configured, which
// count for all other connections; nobody is accepted where there is neither.
func TestForName(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	named := func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} }
	var l mtls.Loader
	for _, tt := range []struct {
		text      string
		by        *authority
		change    mesh.UpstreamTLS
		name      string
		raw, want bool
	}{
		{"the name counts, that configured does not", ca, mesh.UpstreamTLS{AutoSAN: true, DNSNames: []string{"b.example"}}, "a.example", false, true},
		{"that configured counts for others", ca, mesh.UpstreamTLS{AutoSAN: true, DNSNames: []string{"a.example"}}, "b.example", true, false},
		{"none configured", ca, mesh.UpstreamTLS{AutoSAN: true}, "a.example", false, true},
		{"neither", ca, mesh.UpstreamTLS{AutoSAN: true}, "", false, false},
		{"another root", other, mesh.UpstreamTLS{AutoSAN: true, DNSNames: []string{"a.example"}}, "a.example", false, false},
		{"only the SNI is the name", ca, mesh.UpstreamTLS{AutoSNI: true, DNSNames: []string{"a.example"}}, "b.example", true, true},
		{"only the SNI is the name, of another", ca, mesh.UpstreamTLS{AutoSNI: true, DNSNames: []string{"b.example"}}, "a.example", false, false},
	} {
		u := tt.change
		u.Roots, u.Leaf = ca.roots, ca.leaf(t, web, nil)
		compiled, err := l.Client(&u)
		if err != nil {
			t.Fatal(err)
		}
		config, signed := compiled.Config(), compiled.Signed
		server := serverConfig(t, &l, &mesh.DownstreamTLS{Leaves: []mesh.Leaf{tt.by.leaf(t, "", named)}})
		for range 2 { // resumed sessions, too
			if o := connect(t, mtls.ForHost(config, &u, "10.0.0.1"), server); (o.clientErr == nil) != tt.raw {
				t.Errorf("%s: raw: %v", tt.text, o.clientErr)
			}
			if u.AutoSNI {
				signed = nil
			}
			if o := connect(t, mtls.ForName(config, &u, signed, tt.name), server); (o.clientErr == nil) != tt.want {
				t.Errorf("%s: %v", tt.text, o.clientErr)
			}
		}
	}
}

// The machine's authorities are read once in a process, so it needs one of its own.
func TestSystemRoots(t *testing.T) {
	ca, other := newAuthority(t), newAuthority(t)
	path := filepath.Join(t.TempDir(), "roots.pem")
	if err := os.WriteFile(path, []byte(ca.roots.PEM), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("SSL_CERT_FILE", path)
	t.Setenv("SSL_CERT_DIR", t.TempDir())
	named := func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} }
	u := &mesh.UpstreamTLS{SystemRoots: true, AnyPeer: true, HostSNI: true, VerifySNI: true}
	var l mtls.Loader
	client := mtls.ForHost(clientConfig(t, &l, u), u, "a.example")
	for _, tt := range []struct {
		by   *authority
		want bool
	}{{ca, true}, {other, false}} {
		server := serverConfig(t, &l, &mesh.DownstreamTLS{Leaves: []mesh.Leaf{tt.by.leaf(t, "", named)}})
		if o := connect(t, client, server); (o.clientErr == nil) != tt.want {
			t.Errorf("signed by the machine's %t: %v", tt.want, o.clientErr)
		}
	}
}
