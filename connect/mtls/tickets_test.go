package mtls_test

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
)

// Sessions survive an update, a new leaf of the server and a turn of the keys, but
// not another trust, and no key for ever.
func TestTickets(t *testing.T) {
	t.Parallel()
	ca, other := newAuthority(t), newAuthority(t)
	for _, version := range []uint16{tls.VersionTLS12, tls.VersionTLS13} {
		var l mtls.Loader
		var tickets mtls.Tickets
		now := time.Now()
		u := upstream(ca, ca.leaf(t, web, nil), api)
		u.Params.MaxVersion, u.Params.MinVersion = version, version
		client := clientConfig(t, &l, u)
		use := func(roots mesh.Roots) *tls.Config {
			d := downstream(ca, ca.leaf(t, api, nil))
			d.Roots = roots
			config := serverConfig(t, &l, d)
			tickets.Use(config, d.Trust(), now)
			return config
		}
		resumes := func(what string, server *tls.Config, want bool) {
			t.Helper()
			if o := connect(t, client, server); o.err() != nil || o.server.DidResume != want {
				t.Errorf("%s, %s: resumed %t, %v", tls.VersionName(version), what, o.server.DidResume, o.err())
			}
		}
		first := use(ca.roots)
		resumes("the first", first, false)
		resumes("the same", first, true)
		second := use(ca.roots)
		resumes("after an update", second, true)
		now = now.Add(25 * time.Hour)
		tickets.Turn(now)
		resumes("after a turn", second, true)
		both := mesh.Roots{PEM: ca.roots.PEM + other.roots.PEM}
		resumes("with another trust", use(both), false)
		third := use(both)
		resumes("with the same again", third, true)
		for range 5 {
			now = now.Add(25 * time.Hour)
			tickets.Turn(now)
		}
		resumes("after many turns", third, false)
	}
}

// Certificates are found by exact name, then by wildcard, then the first is shown.
func TestChoice(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	named := func(names ...string) mesh.Leaf {
		return ca.leaf(t, "", func(c *x509.Certificate) { c.DNSNames = names })
	}
	leaves := []mesh.Leaf{named("default.example"), named("*.example.com", "*.Example.org"), named("API.example.com", "*.deep.example.com")}
	var l mtls.Loader
	server := serverConfig(t, &l, &mesh.DownstreamTLS{Leaves: leaves})
	for name, want := range map[string]int{
		"": 0, "default.example": 0, "unknown": 0, "example.com": 0, "a.b.example.com": 0, "127.0.0.1": 0,
		"www.example.com": 1, "WWW.example.org": 1,
		"api.example.com": 2, "Api.Example.com": 2, "x.deep.example.com": 2,
	} {
		o := connect(t, &tls.Config{InsecureSkipVerify: true, ServerName: name}, server)
		if o.err() != nil {
			t.Errorf("%q: %v", name, o.err())
			continue
		}
		if got := encode("CERTIFICATE", o.client.PeerCertificates[0].Raw); got != leaves[want].CertificatePEM {
			t.Errorf("%q does not get certificate %d", name, want)
		}
	}
}

func TestSuite(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]error{
		"TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256": nil, "ECDHE-RSA-CHACHA20-POLY1305": nil, "ECDHE-ECDSA-AES256-SHA": nil,
		"TLS_AES_128_GCM_SHA256": mtls.ErrSuite13, "TLS_RSA_WITH_AES_128_GCM_SHA256": mtls.ErrInsecureSuite,
		"AES128-SHA": mtls.ErrInsecureSuite, "TLS_ECDHE_RSA_WITH_RC4_128_SHA": mtls.ErrInsecureSuite, "": mtls.ErrUnknownSuite, "X": mtls.ErrUnknownSuite,
	} {
		if id, err := mtls.Suite(name); !errors.Is(err, want) || (id == 0) != (want != nil) {
			t.Errorf("%q: %#x, %v", name, id, err)
		}
	}
}

// Nobody gets the keys of our connections, whatever the environment says.
func TestNoKeyLog(t *testing.T) {
	t.Setenv("SSLKEYLOGFILE", t.TempDir()+"/keys")
	ca := newAuthority(t)
	var l mtls.Loader
	leaf := ca.leaf(t, web, nil)
	if serverConfig(t, &l, downstream(ca, leaf)).KeyLogWriter != nil || clientConfig(t, &l, upstream(ca, leaf, api)).KeyLogWriter != nil {
		t.Error("there is a key log")
	}
}
