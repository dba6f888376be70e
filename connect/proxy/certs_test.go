package proxy_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"strings"
	"testing"
	"time"
)

// issued is a certificate with its key.
type issued struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

// issue makes a certificate for a name, signed by whom is given, or by itself.
func issue(tb testing.TB, name string, by *issued) *issued {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	made := &issued{key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: by == nil, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	if by == nil {
		by = &issued{template, key}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, by.certificate, key.Public(), by.key)
	if err != nil {
		tb.Fatal(err)
	}
	if made.certificate, err = x509.ParseCertificate(der); err != nil {
		tb.Fatal(err)
	}
	return made
}

// pem is the certificate, and its key.
func (i *issued) pem(tb testing.TB) (certificate, key string) {
	tb.Helper()
	private, err := x509.MarshalPKCS8PrivateKey(i.key)
	if err != nil {
		tb.Fatal(err)
	}
	text := func(kind string, b []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: b}))
	}
	return text("CERTIFICATE", i.certificate.Raw), text("PRIVATE KEY", private)
}

// tls is the certificate as who shows it has it.
func (i *issued) tls() tls.Certificate {
	return tls.Certificate{Certificate: [][]byte{i.certificate.Raw}, PrivateKey: i.key, Leaf: i.certificate}
}

// secured is a chain behind TLS: certificate and key are those that it shows, common is
// more of its common context, context more of its context, each with a comma in front.
func secured(chain, certificate, key, common, context string) string {
	return strings.TrimSuffix(chain, "}") + fmt.Sprintf(`,"transport_socket":{"name":"tls","typed_config":{
		"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","common_tls_context":{
		"tls_certificates":[{"certificate_chain":{"inline_string":%q},"private_key":{"inline_string":%q}}]%s}%s}}}`, certificate, key, common, context)
}

// shake dials and shakes hands; shown is a client's certificate, nil for none.
func shake(t *testing.T, address, serverName string, shown *issued) (*tls.Conn, error) {
	t.Helper()
	config := &tls.Config{ServerName: serverName, InsecureSkipVerify: true} //nolint:gosec // who answers is looked at
	if shown != nil {
		config.Certificates = []tls.Certificate{shown.tls()}
	}
	conn := tls.Client(reach(t, address), config)
	return conn, conn.HandshakeContext(t.Context())
}

// answering is the name in the certificate of who answers.
func answering(conn *tls.Conn) string {
	return conn.ConnectionState().PeerCertificates[0].Subject.CommonName
}

// secure is an application with TLS of its own that sends back what it gets.
func secure(t *testing.T, name string) string {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: []tls.Certificate{issue(t, name, nil).tls()}})
	if err != nil {
		t.Fatal(err)
	}
	return serveAt(t, l, func(conn net.Conn) { echo(conn, "") })
}
