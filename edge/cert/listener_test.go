package cert_test

import (
	"crypto/tls"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/serai-net/serai/edge/cert"
)

// Files are read again, what is broken changes nothing, and what has not changed
// gives the same configuration.
func TestListenerIsReadAgain(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	certificate, key := filepath.Join(folder, "c.pem"), filepath.Join(folder, "k.pem")
	clients := filepath.Join(folder, "clients.pem")
	issue(t, certificate, key, "one")
	issue(t, clients, filepath.Join(folder, "clients.key"), "clients")
	now := time.Now()
	l, err := cert.OpenListener(cert.Config{
		Pairs: []cert.Pair{{Certificate: certificate, Key: key}}, ClientCA: clients, RequireClient: true,
	}, func() time.Time { return now }, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	later := func() *tls.Config {
		now = now.Add(time.Minute)
		return l.Config()
	}
	first := l.Config()
	if later() != first || first.ClientAuth != tls.RequireAndVerifyClientCert || first.MinVersion != tls.VersionTLS12 {
		t.Error("another configuration without a change")
	}
	issue(t, certificate, key, "two, with another size")
	second := later()
	shown, err := second.GetCertificate(&tls.ClientHelloInfo{})
	if err != nil || shown.Leaf.Subject.CommonName != "two, with another size" || !second.ClientCAs.Equal(first.ClientCAs) {
		t.Errorf("%v, %v", shown, err)
	}
	issue(t, clients, filepath.Join(folder, "clients.key"), "others")
	third := later()
	if third == second || third.ClientCAs.Equal(second.ClientCAs) {
		t.Error("the change of client_ca_file was not seen")
	}
	write(t, clients, []byte("broken"))
	if later() != third {
		t.Error("a broken client_ca_file changed something")
	}
	if err := os.Remove(clients); err != nil {
		t.Fatal(err)
	}
	if later() != third {
		t.Error("a missing client_ca_file changed something")
	}
	issue(t, certificate, key, "three")
	renewed := later()
	if shown, err := renewed.GetCertificate(&tls.ClientHelloInfo{}); err != nil || shown.Leaf.Subject.CommonName != "three" {
		t.Errorf("without a client_ca_file the certificate is not renewed: %v, %v", shown, err)
	}
	if renewed.ClientAuth == tls.NoClientCert || !renewed.ClientCAs.Equal(third.ClientCAs) {
		t.Error("without a client_ca_file nobody is asked any more")
	}
	if _, err := cert.OpenListener(cert.Config{Pairs: []cert.Pair{{Certificate: certificate, Key: key}}, ClientCA: clients}, nil, slog.New(slog.DiscardHandler)); err == nil {
		t.Error("opened without client_ca_file")
	}
}
