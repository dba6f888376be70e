//go:build linux

package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/url"
	"os"
	"path/filepath"
	"time"
)

// certificate is one on disk, as the proxies want it.
type certificate struct {
	Cert, Key, Pem string // Pem is both in one file
	URI            string // SPIFFE ID; "" for none
}

// authority signs certificates that look like those of Consul's mesh: P-256, with a SPIFFE ID.
type authority struct {
	dir    string
	file   string // of its own certificate
	cert   *x509.Certificate
	key    *ecdsa.PrivateKey
	serial int64
}

func newAuthority(dir string) (*authority, error) {
	a := &authority{dir: dir, file: filepath.Join(dir, "ca.pem"), serial: 1}
	var err error
	if a.key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	a.cert = &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: "bench"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, a.cert, a.cert, a.key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make authority: %w", err)
	}
	return a, writePEM(a.file, "CERTIFICATE", der)
}

// issue makes a certificate for a name in DNS, and for a service of the mesh if that is not "".
func (a *authority) issue(name, service string) (*certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	a.serial++
	template := &x509.Certificate{
		SerialNumber: big.NewInt(a.serial), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage:    x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	c := &certificate{}
	if service != "" {
		id := &url.URL{Scheme: "spiffe", Host: "bench.consul", Path: "/ns/default/dc/dc1/svc/" + service}
		template.URIs, c.URI = []*url.URL{id}, id.String()
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, key.Public(), a.key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	secret, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, fmt.Errorf("make certificate of %s: %w", name, err)
	}
	base := filepath.Join(a.dir, name)
	c.Cert, c.Key, c.Pem = base+".crt", base+".key", base+".pem"
	if err := writePEM(c.Cert, "CERTIFICATE", der); err != nil {
		return nil, err
	}
	if err := writePEM(c.Key, "PRIVATE KEY", secret); err != nil {
		return nil, err
	}
	both, err := os.ReadFile(c.Cert)
	if err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	both = append(both, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret})...)
	if err := os.WriteFile(c.Pem, both, 0o600); err != nil {
		return nil, fmt.Errorf("write certificate: %w", err)
	}
	return c, nil
}

func writePEM(file, kind string, der []byte) error {
	if err := os.WriteFile(file, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		return fmt.Errorf("write certificate: %w", err)
	}
	return nil
}
