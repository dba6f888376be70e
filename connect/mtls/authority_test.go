package mtls_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/url"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	domain = "11111111-2222-3333-4444-555555555555.consul"
	web    = "spiffe://" + domain + "/ns/default/dc/dc1/svc/web"
	api    = "spiffe://" + domain + "/ns/default/dc/dc1/svc/api"
)

// authority signs certificates as a mesh's CA does.
type authority struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
	roots       mesh.Roots
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	return sign(t, nil, "root")
}

// intermediate is an authority that a signs.
func (a *authority) intermediate(t *testing.T) *authority {
	t.Helper()
	return sign(t, a, "intermediate")
}

func sign(t *testing.T, parent *authority, name string) *authority {
	t.Helper()
	a := &authority{key: newKey(t)}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if parent == nil {
		parent = &authority{certificate: template, key: a.key}
	}
	a.certificate = create(t, template, parent, &a.key.PublicKey)
	a.roots.PEM = encode("CERTIFICATE", a.certificate.Raw)
	return a
}

// leaf makes a certificate; change may be nil.
func (a *authority) leaf(t *testing.T, uri string, change func(c *x509.Certificate)) mesh.Leaf {
	t.Helper()
	key := newKey(t)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if uri != "" {
		u, err := url.Parse(uri)
		if err != nil {
			t.Fatal(err)
		}
		template.URIs = []*url.URL{u}
	}
	if change != nil {
		change(template)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return mesh.Leaf{
		CertificatePEM: encode("CERTIFICATE", create(t, template, a, &key.PublicKey).Raw),
		KeyPEM:         encode("PRIVATE KEY", der),
	}
}

func newKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func create(t *testing.T, template *x509.Certificate, parent *authority, key *ecdsa.PublicKey) *x509.Certificate {
	t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, template, parent.certificate, key, parent.key)
	if err != nil {
		t.Fatal(err)
	}
	certificate, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return certificate
}

func encode(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// outcome is what both ends make of one connection.
type outcome struct {
	clientErr, serverErr error
	client, server       tls.ConnectionState
}

func (o *outcome) err() error { return errors.Join(o.clientErr, o.serverErr) }

// connect shakes hands and sends a byte each way, so that the client learns of a
// refusal (TLS 1.3) and gets its session ticket.
func connect(t *testing.T, client, server *tls.Config) *outcome {
	t.Helper()
	near, far := pair(t)
	o := &outcome{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		defer far.Close()
		o.serverErr, o.server = exchange(tls.Server(far, server), false)
	}()
	o.clientErr, o.client = exchange(tls.Client(near, client), true)
	near.Close()
	<-done
	return o
}

// pair is the two ends of a TCP connection: net.Pipe has no buffer, and both
// sides of TLS write at the same time.
func pair(t *testing.T) (near, far net.Conn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if near, err = net.Dial("tcp", l.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if far, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	return near, far
}

func exchange(conn *tls.Conn, first bool) (error, tls.ConnectionState) { //nolint:staticcheck // reads as it is used
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err, tls.ConnectionState{}
	}
	err := conn.Handshake()
	for range 2 {
		if err != nil {
			break
		}
		if first {
			_, err = conn.Write([]byte{1})
		} else {
			_, err = io.ReadFull(conn, make([]byte, 1))
		}
		first = !first
	}
	return err, conn.ConnectionState()
}
