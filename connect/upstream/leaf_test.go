package upstream_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"math/big"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// A cluster never has a connection without TLS that is to have it, however often a new certificate is no good.
func TestBadLeafTwice(t *testing.T) {
	t.Parallel()
	var reached atomic.Int32
	address := script(t, func(int, net.Conn) { reached.Add(1) })
	good := selfSigned(t)
	bad := func(key string) *mesh.Cluster {
		c := static("c", at(address))
		c.TLS = &mesh.UpstreamTLS{Leaf: mesh.Leaf{CertificatePEM: good.CertificatePEM, KeyPEM: key}, Roots: mesh.Roots{PEM: good.CertificatePEM}, AnyPeer: true}
		return c
	}
	s := newSet(t, bad("none"))
	for _, key := range []string{"still none", "none again"} {
		commit(t, s, bad(key))
		if s.Cluster("c").Refusal() == "" {
			t.Errorf("%s: it is served", key)
		}
		if conn, _, err := s.Cluster("c").Dial(t.Context(), wire.Choice{}); err == nil {
			conn.Close()
			t.Errorf("%s: a connection", key)
		}
	}
	commit(t, s, bad(good.KeyPEM))
	if refusal := s.Cluster("c").Refusal(); refusal != "" {
		t.Error(refusal)
	}
	commit(t, s, bad("lost"))
	if refusal := s.Cluster("c").Refusal(); refusal != "" || s.Refused()["c"] == "" {
		t.Errorf("the last good one does not stay: %q, %v", refusal, s.Refused())
	}
	if n := reached.Load(); n != 0 {
		t.Errorf("%d connections", n)
	}
}

// selfSigned is a certificate that vouches for itself.
func selfSigned(tb testing.TB) mesh.Leaf {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return mesh.Leaf{
		CertificatePEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		KeyPEM:         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}
