package listen_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/wire"
)

// TestMain looks for goroutines that the tests have left behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked("serai/connect/listen."); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks with word that are still there after a while.
func leaked(word string) string {
	var left []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		left = nil
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			if strings.Contains(stack, word) && !strings.Contains(stack, "TestMain") {
				left = append(left, stack)
			}
		}
		if left == nil {
			break
		}
	}
	return strings.Join(left, "\n\n")
}

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

// echo sends back what it reads. It closes when it is told to be idle only if
// it is polite.
type echo struct {
	polite bool
	served atomic.Int32
	// hold, if not nil, is what a connection waits for before it is read.
	hold chan struct{}

	mu   sync.Mutex // guards:
	last net.Conn
	peer *wire.Peer
}

func (e *echo) Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain) {
	defer conn.Close()
	e.served.Add(1)
	e.mu.Lock()
	e.last, e.peer = conn, peer
	e.mu.Unlock()
	c := &registered{conn: conn, polite: e.polite}
	drain.Add(c)
	defer drain.Remove(c)
	if e.hold != nil {
		<-e.hold
	}
	io.Copy(conn, conn) //nolint:errcheck // until somebody closes it
}

func (e *echo) seen() (net.Conn, *wire.Peer) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.last, e.peer
}

type registered struct {
	conn   net.Conn
	polite bool
}

func (r *registered) Kill() { r.conn.Close() }

func (r *registered) CloseIdle() {
	if r.polite {
		r.conn.Close()
	}
}

func chain(h listen.Handler) *listen.Chain { return &listen.Chain{Name: "chain", Handler: h} }

// spec is a listener on a port that the system chooses; host tells two apart.
func spec(host string, chains ...*listen.Chain) *listen.Spec {
	return specAt(mesh.Address{AddrPort: netip.AddrPortFrom(netip.MustParseAddr(host), 0)}, chains...)
}

func specAt(address mesh.Address, chains ...*listen.Chain) *listen.Spec {
	s := &listen.Spec{Name: address.String(), Address: address}
	switch len(chains) {
	case 0:
	case 1:
		s.Chains = listen.Single(chains[0])
	default:
		panic("several chains need a table")
	}
	return s
}

// first is the first chain of a spec.
func first(s *listen.Spec) *listen.Chain {
	for chain := range s.Chains.All() {
		return chain
	}
	return nil
}

// table is chains with their matches; otherwise may be nil.
func table(tb testing.TB, otherwise *listen.Chain, entries ...listen.Entry) *listen.Table {
	tb.Helper()
	made, err := listen.NewTable(entries, otherwise)
	if err != nil {
		tb.Fatal(err)
	}
	return made
}

func newSet(t *testing.T, config listen.Config, specs ...*listen.Spec) *listen.Set {
	t.Helper()
	s := listen.NewSet(config, slog.New(slog.DiscardHandler))
	t.Cleanup(func() { shutdown(s) })
	commit(t, s, specs...)
	return s
}

// shutdown ends a set at once.
func shutdown(s *listen.Set) {
	now, cancel := contextDone()
	defer cancel()
	s.Shutdown(now, 0)
}

func commit(t *testing.T, s *listen.Set, specs ...*listen.Spec) {
	t.Helper()
	done, err := s.Prepare(specs)
	if err != nil {
		t.Fatal(err)
	}
	done()
}

func stats(t *testing.T, s *listen.Set, name string) listen.Stats {
	t.Helper()
	for _, stats := range s.Stats() {
		if stats.Name == name {
			return stats
		}
	}
	t.Fatalf("no listener %q", name)
	return listen.Stats{}
}

// only is the one listener of a set.
func only(t *testing.T, s *listen.Set) listen.Stats {
	t.Helper()
	all := s.Stats()
	if len(all) != 1 {
		t.Fatalf("%d listeners", len(all))
	}
	return all[0]
}

func dial(t *testing.T, address string) net.Conn {
	t.Helper()
	conn, err := tryDial(address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func tryDial(address string) (net.Conn, error) {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	conn, err := net.Dial(network, address)
	if err != nil {
		return nil, err
	}
	return conn, conn.SetDeadline(time.Now().Add(time.Minute))
}

// talk sends a word and expects it back.
func talk(conn net.Conn) error {
	if _, err := conn.Write([]byte("word")); err != nil {
		return err
	}
	back := make([]byte, 4)
	if _, err := io.ReadFull(conn, back); err != nil {
		return err
	}
	if string(back) != "word" {
		return fmt.Errorf("got %q back", back)
	}
	return nil
}

func mustTalk(t *testing.T, conn net.Conn) {
	t.Helper()
	if err := talk(conn); err != nil {
		t.Fatalf("talk: %v", err)
	}
}

// mustBeClosed expects the other side to close the connection.
func mustBeClosed(t *testing.T, conn net.Conn) {
	t.Helper()
	if n, err := conn.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the connection is open: %d, %v", n, err)
	}
}

const identity = "spiffe://td.consul/ns/default/dc/dc1/svc/web"

// secured are the two ends of mTLS with one self-signed certificate.
func secured(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	uri, err := url.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), URIs: []*url.URL{uri}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	roots := mesh.Roots{PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))}
	leaf := mesh.Leaf{CertificatePEM: roots.PEM, KeyPEM: string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))}
	var l mtls.Loader
	if server, _, err = l.Server(&mesh.DownstreamTLS{Leaves: []mesh.Leaf{leaf}, Roots: roots, RequireClient: true}); err != nil {
		t.Fatal(err)
	}
	upstream, err := l.Client(&mesh.UpstreamTLS{Leaf: leaf, Roots: roots, URIs: []string{identity}, ServerName: "web.example"})
	if err != nil {
		t.Fatal(err)
	}
	return server, upstream.Config()
}

// tlsChain is a chain with mTLS, and how to reach it.
func tlsChain(t *testing.T, h listen.Handler) (*listen.Chain, *tls.Config) {
	t.Helper()
	server, client := secured(t)
	return &listen.Chain{Name: "tls", Handler: h, TLS: func() *tls.Config { return server }}, client
}
