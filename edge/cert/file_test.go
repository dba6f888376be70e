package cert_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/edge/cert"
)

// issue writes a self-signed certificate with its key.
func issue(t *testing.T, certificate, key, name string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	write(t, certificate, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: keyDER}))
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

func TestFileIsReadAgain(t *testing.T) {
	folder := t.TempDir()
	certificate, key := filepath.Join(folder, "c.pem"), filepath.Join(folder, "k.pem")
	issue(t, certificate, key, "one")
	now := time.Now()
	f, err := cert.Open(certificate, key, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	name := func() string {
		return f.Certificate().Leaf.Subject.CommonName
	}
	issue(t, certificate, key, "two, with another size")
	if got := name(); got != "one" {
		t.Errorf("%q before it was time to look", got)
	}
	now = now.Add(time.Minute)
	if got := name(); got != "two, with another size" {
		t.Errorf("%q after the change", got)
	}
	write(t, certificate, []byte("broken"))
	now = now.Add(time.Minute)
	if got := name(); got != "two, with another size" {
		t.Errorf("%q after a broken file", got)
	}
	issue(t, certificate, key, "three")
	now = now.Add(time.Minute)
	if got := name(); got != "three" {
		t.Errorf("%q after the repair", got)
	}
}

func TestOpenErrors(t *testing.T) {
	folder := t.TempDir()
	certificate, key := filepath.Join(folder, "c.pem"), filepath.Join(folder, "k.pem")
	open := func() string {
		_, err := cert.Open(certificate, key, nil, slog.New(slog.DiscardHandler))
		if err == nil {
			return ""
		}
		return err.Error()
	}
	if got := open(); !strings.Contains(got, "c.pem: no such file") {
		t.Errorf("%q", got)
	}
	issue(t, certificate, key, "one")
	issue(t, certificate, filepath.Join(folder, "other.pem"), "two")
	if got := open(); !strings.Contains(got, "private key does not match") {
		t.Errorf("%q", got)
	}
}
