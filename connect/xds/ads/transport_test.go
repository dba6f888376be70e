package ads_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
)

// selfSigned is a certificate for a name, and roots that trust it.
func selfSigned(t *testing.T, name string) (*tls.Config, *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(leaf)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, roots
}

// The stream runs over TCP, TLS and a unix socket alike, and over TLS only to who
// shows the certificate that is asked for.
func TestTransports(t *testing.T) {
	t.Parallel()
	secured, roots := selfSigned(t, "server.dc1.consul")
	for _, row := range []struct {
		name, network, address string
		server, client         *tls.Config
		fails                  string
	}{
		{"tcp", "tcp", "127.0.0.1:0", nil, nil, ""},
		{"unix", "unix", filepath.Join(t.TempDir(), "s"), nil, nil, ""},
		{"tls", "tcp", "127.0.0.1:0", secured, &tls.Config{RootCAs: roots, ServerName: "server.dc1.consul"}, ""},
		{"tls on unix", "unix", filepath.Join(t.TempDir(), "s"), secured, &tls.Config{RootCAs: roots, ServerName: "server.dc1.consul"}, ""},
		{"wrong name", "tcp", "127.0.0.1:0", secured, &tls.Config{RootCAs: roots, ServerName: "other"}, "not other"},
		{"wrong roots", "tcp", "127.0.0.1:0", secured, &tls.Config{RootCAs: x509.NewCertPool(), ServerName: "server.dc1.consul"}, "unknown authority"},
		{"plain to tls", "tcp", "127.0.0.1:0", secured, nil, "does its grpc port speak plain text?"},
		{"tls to plain", "tcp", "127.0.0.1:0", nil, &tls.Config{RootCAs: roots, ServerName: "server.dc1.consul"}, "does its grpc port speak TLS?"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			listener, err := (&net.ListenConfig{}).Listen(t.Context(), row.network, row.address)
			if err != nil {
				t.Fatal(err)
			}
			srv := &server{sessions: make(chan *session, 10)}
			var options []grpc.ServerOption
			if row.server != nil {
				options = append(options, grpc.Creds(credentials.NewTLS(row.server)))
			}
			g := grpc.NewServer(options...)
			discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, srv)
			go g.Serve(listener) //nolint:errcheck // ends with Stop
			t.Cleanup(g.Stop)
			handler, c := newRecorder(), config(listener.Addr())
			c.TLS = row.client
			start(t, c, handler)
			if row.fails != "" {
				if reason := next(t, handler.down, "the reason"); !strings.Contains(reason.Error(), row.fails) {
					t.Errorf("got %v, want %q", reason, row.fails)
				}
				return
			}
			s := next(t, srv.sessions, "stream")
			next(t, s.requests, "subscription")
			s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1"})
			next(t, handler.updates, "update")
		})
	}
}
