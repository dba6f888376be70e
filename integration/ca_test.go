package integration_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"
)

// signingCA issues certificates: to identities of a mesh, or to names of the world outside of it.
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

// newOutsideCA is one of the world outside of the mesh.
func newOutsideCA(t *testing.T) *signingCA { t.Helper(); return newSigningCA(t, "outside") }

func (a *signingCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.certificate)
	return pool
}

// pems are a certificate and its key.
func pems(t *testing.T, leaf tls.Certificate) (chain, key []byte) {
	t.Helper()
	der, err := x509.MarshalPKCS8PrivateKey(leaf.PrivateKey)
	must(t, err)
	return []byte(pemOf("CERTIFICATE", leaf.Certificate[0])), []byte(pemOf("PRIVATE KEY", der))
}

// leaf makes a certificate of names or IP addresses with its key, both PEM. Its common name is none of them: Consul would
// take a name that is there twice for one of two certificates, and choose neither.
func (a *signingCA) leaf(t *testing.T, names ...string) (chain, key []byte) {
	t.Helper()
	return pems(t, a.issue(t, func(c *x509.Certificate) {
		c.SerialNumber, c.Subject = big.NewInt(time.Now().UnixNano()), pkix.Name{CommonName: "cn." + names[0]}
		for _, name := range names {
			if ip := net.ParseIP(name); ip != nil {
				c.IPAddresses = append(c.IPAddresses, ip)
			} else {
				c.DNSNames = append(c.DNSNames, name)
			}
		}
	}))
}

// write writes a certificate and its key into a folder, the one after the other.
func (a *signingCA) write(t *testing.T, dir string, names ...string) (chain, key string) {
	t.Helper()
	chainPEM, keyPEM := a.leaf(t, names...)
	chain, key = filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	for path, data := range map[string][]byte{chain: chainPEM, key: keyPEM} {
		next := path + ".next"
		must(t, os.WriteFile(next, data, 0o600))
		must(t, os.Rename(next, path))
	}
	return chain, key
}
