package upstream_test

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// TestMain looks for goroutines that the tests have left behind.
func TestMain(m *testing.M) {
	code := m.Run()
	if left := leaked("serai/connect/upstream.", "serai/connect/wire"); code == 0 && left != "" {
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

// eventually waits until condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !condition(); <-time.After(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("in vain: %s", what)
		}
	}
}

func newSet(tb testing.TB, clusters ...*mesh.Cluster) *upstream.Set {
	tb.Helper()
	s := upstream.NewSet(slog.New(slog.DiscardHandler))
	tb.Cleanup(s.Close)
	commit(tb, s, clusters...)
	return s
}

// commit puts clusters in force, and no others.
func commit(tb testing.TB, s *upstream.Set, clusters ...*mesh.Cluster) {
	tb.Helper()
	next := map[string]*mesh.Cluster{}
	for _, c := range clusters {
		next[c.Name] = c
	}
	done, err := s.Prepare(next)
	if err != nil {
		tb.Fatal(err)
	}
	done()
}

func static(name string, endpoints ...mesh.Endpoint) *mesh.Cluster {
	return &mesh.Cluster{Name: name, Kind: mesh.ClusterStatic, Endpoints: set(name, endpoints...)}
}

func eds(name string) *mesh.Cluster { return &mesh.Cluster{Name: name} }

func set(name string, endpoints ...mesh.Endpoint) *mesh.EndpointSet {
	return &mesh.EndpointSet{Name: name, Endpoints: endpoints}
}

func at(address string) mesh.Endpoint { return weighted(address, 1) }

func weighted(address string, weight uint32) mesh.Endpoint {
	return mesh.Endpoint{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: weight}
}

func unhealthy(address string) mesh.Endpoint {
	e := at(address)
	e.Health = mesh.Unhealthy
	return e
}

// serve starts an HTTP server and returns its address.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	server := httptest.NewServer(handler)
	t.Cleanup(server.Close)
	return server.Listener.Addr().String()
}

// named answers with its name, and with the request's body.
func named(t *testing.T, name string) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		fmt.Fprintf(w, "%s %s", name, body)
	})
}

// closedPort is an address where nobody listens: of its own, or a port of it could be
// somebody else's soon.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.12.4:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// silent accepts connections and never says a word.
func silent(t *testing.T) string {
	t.Helper()
	return script(t, func(_ int, conn net.Conn) {
		io.Copy(io.Discard, conn) //nolint:errcheck // until the other side has enough
	})
}

// script serves each connection, counted from 0, as it says, and closes it.
func script(t *testing.T, f func(n int, conn net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				f(n, conn)
			}()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return l.Addr().String()
}

func newExchange() *wire.Exchange {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	return x
}

func request(method, body string) *wire.Request {
	req := &wire.Request{Method: method, Scheme: "http", Authority: "test", Path: "/", Proto: 1, Minor: 1}
	if body != "" {
		req.Body, req.ContentLength = wire.NewBytes([]byte(body)), int64(len(body))
	}
	return req
}

// answer is what an exchange came to.
type answer struct {
	Status   int
	Flag     wire.Flag
	Body     string
	Attempts []wire.Attempt
}

// do serves one whole exchange.
func do(t *testing.T, service wire.Service, req *wire.Request) answer {
	t.Helper()
	x := newExchange()
	defer x.Done(time.Now())
	return finish(t, x, service, req)
}

// finish serves an exchange but for its end.
func finish(t *testing.T, x *wire.Exchange, service wire.Service, req *wire.Request) answer {
	t.Helper()
	resp, err := service.Serve(x, req)
	if err != nil {
		resp = wire.Reply(x, err)
	}
	a := answer{Status: resp.Status, Flag: x.Flag}
	if resp.Body != nil {
		var b bytes.Buffer
		if _, err := io.Copy(&b, resp.Body); err != nil {
			t.Errorf("response body: %v", err)
		}
		a.Body = b.String()
	}
	a.Attempts = append(a.Attempts, x.Attempts...)
	return a
}
