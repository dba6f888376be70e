package integration_test

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
	"net/url"
	"testing"
	"time"
)

// signingCA issues certificates.
type signingCA struct {
	certificate *x509.Certificate
	key         *ecdsa.PrivateKey
}

func newSigningCA(t *testing.T, name string) *signingCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	certificate, err := x509.ParseCertificate(der)
	must(t, err)
	return &signingCA{certificate, key}
}

func (a *signingCA) pem() string { return pemOf("CERTIFICATE", a.certificate.Raw) }

func pemOf(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// issue makes a certificate for both sides of a connection.
func (a *signingCA) issue(t *testing.T, edit func(*x509.Certificate)) tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(2), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	edit(template)
	der, err := x509.CreateCertificate(rand.Reader, template, a.certificate, key.Public(), a.key)
	must(t, err)
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// uris are the URI names of a certificate.
func uris(all ...string) func(*x509.Certificate) {
	return func(c *x509.Certificate) {
		for _, text := range all {
			uri, err := url.Parse(text)
			if err != nil {
				panic(err)
			}
			c.URIs = append(c.URIs, uri)
		}
	}
}

// downstreamTLS is a transport socket that shows a certificate and believes an authority.
func downstreamTLS(t *testing.T, leaf tls.Certificate, validation string) string {
	t.Helper()
	key, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	must(t, err)
	return fmt.Sprintf(`{"name":"tls","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
		"requireClientCertificate":%t,"commonTlsContext":{"tlsCertificates":[{"certificateChain":{"inlineString":%q},"privateKey":{"inlineString":%q}}]%s}}}`,
		validation != "", pemOf("CERTIFICATE", leaf.Certificate[0]), pemOf("PRIVATE KEY", key), prefixedBy(`,"validationContext":`, validation))
}

func prefixedBy(prefix, s string) string {
	if s == "" {
		return ""
	}
	return prefix + s
}

func trusting(a *signingCA) string {
	return fmt.Sprintf(`{"trustedCa":{"inlineString":%q}}`, a.pem())
}

// as has the next requests made with a certificate, over TLS.
func (w *twin) as(leaf *tls.Certificate, more ...[]byte) {
	w.client = &tls.Config{InsecureSkipVerify: true, ServerName: "twin.example"} //nolint:gosec // both are ours
	if leaf != nil {
		shown := *leaf
		shown.Certificate = append(shown.Certificate[:1:1], more...)
		w.client.Certificates = []tls.Certificate{shown}
	}
}
