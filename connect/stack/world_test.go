package stack_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

const identity = "spiffe://td.consul/ns/default/dc/dc1/svc/web"

// TestMain looks for goroutines that the tests have left behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked("serai/connect/stack.", "serai/connect/wire"); code == 0 && left != "" {
		fmt.Fprintln(os.Stderr, "goroutines left behind:\n"+left)
		code = 1
	}
	os.Exit(code)
}

// leaked returns the stacks with one of the words that are still there after a
// while.
func leaked(words ...string) string {
	var left []string
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); <-time.After(10 * time.Millisecond) {
		left = nil
		stacks := make([]byte, 1<<20)
		stacks = stacks[:runtime.Stack(stacks, true)]
		for stack := range strings.SplitSeq(string(stacks), "\n\n") {
			for _, word := range words {
				if strings.Contains(stack, word) && !strings.Contains(stack, "TestMain") {
					left = append(left, stack)
					break
				}
			}
		}
		if left == nil {
			break
		}
	}
	return strings.Join(left, "\n\n")
}

// certificate is a leaf as Consul makes one.
func certificate(tb testing.TB, change func(c *x509.Certificate)) *x509.Certificate {
	tb.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		tb.Fatal(err)
	}
	uri, err := url.Parse(identity)
	if err != nil {
		tb.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), URIs: []*url.URL{uri}, Subject: pkix.Name{CommonName: `we"b`}}
	if change != nil {
		change(template)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		tb.Fatal(err)
	}
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

// web is the peer with our identity.
func web(tb testing.TB) *wire.Peer {
	tb.Helper()
	id, err := spiffe.Parse(identity)
	if err != nil {
		tb.Fatal(err)
	}
	return &wire.Peer{ID: id, Certificate: certificate(tb, nil), TLS: true}
}

func encode(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func exchange(peer *wire.Peer) *wire.Exchange {
	x := &wire.Exchange{}
	x.Reset(nil, peer, time.Now())
	return x
}

func request(method, path string, fields ...string) *wire.Request {
	req := &wire.Request{Method: method, Scheme: "http", Authority: "example.com", Path: path, Proto: 1, Minor: 1}
	for i := 0; i < len(fields); i += 2 {
		req.Header.Add(fields[i], fields[i+1])
	}
	return req
}

// clusters makes static clusters of addresses by name.
func clusters(t *testing.T, addresses map[string]string) *upstream.Set {
	t.Helper()
	s := upstream.NewSet(slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	next := map[string]*mesh.Cluster{}
	for name, address := range addresses {
		next[name] = &mesh.Cluster{Name: name, Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{Endpoints: []mesh.Endpoint{
			{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: 1},
		}}}
	}
	commit, err := s.Prepare(next)
	if err != nil {
		t.Fatal(err)
	}
	commit()
	return s
}

// backend starts an HTTP server and returns its address.
func backend(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// toward is a table that sends all to cluster c.
func toward(change func(r *mesh.Rule)) *mesh.Route {
	rule := &mesh.Rule{Match: mesh.Match{Prefix: "/"}, Targets: []mesh.Target{{Cluster: "c"}}}
	if change != nil {
		change(rule)
	}
	return &mesh.Route{Name: "r", VirtualHosts: []*mesh.VirtualHost{{Name: "v", Domains: []string{"*"}, Rules: []*mesh.Rule{rule}}}}
}

func compile(t *testing.T, h *mesh.HTTP, set *upstream.Set) wire.Service {
	t.Helper()
	service, err := stack.HTTP(h, nil, set)
	if err != nil {
		t.Fatal(err)
	}
	return service
}

// answer is what an exchange came to.
type answer struct {
	Status int
	Flag   wire.Flag
	Body   string
	Header wire.Header
	Tries  int
}

// do serves one whole exchange.
func do(t *testing.T, service wire.Service, peer *wire.Peer, req *wire.Request) answer {
	t.Helper()
	x := exchange(peer)
	x.GRPC = wire.IsGRPC(&req.Header)
	defer x.Done(time.Now())
	return finish(t, service, x, req)
}

func finish(t *testing.T, service wire.Service, x *wire.Exchange, req *wire.Request) answer {
	t.Helper()
	resp, err := service.Serve(x, req)
	if err != nil {
		resp = wire.Reply(x, err)
	}
	a := answer{Status: resp.Status, Flag: x.Flag, Header: resp.Header.Clone(), Tries: len(x.Attempts)}
	if resp.Body != nil {
		var b bytes.Buffer
		if _, err := io.Copy(&b, resp.Body); err != nil {
			t.Errorf("response body: %v", err)
		}
		a.Body = b.String()
	}
	return a
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

// tcp serves each connection by f and closes it.
func tcp(t *testing.T, f func(conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				f(conn)
			}()
		}
	}()
	t.Cleanup(func() { l.Close() })
	return l.Addr().String()
}
