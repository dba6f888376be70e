package integration_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestStatic runs an edge with static upstreams of all kinds. There is no Consul, and the edge does not miss it.
func TestStatic(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	nobody, err := env.Port()
	must(t, err)
	socket := filepath.Join(env.Dir(), "app.sock")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", socket)
	must(t, err)
	server := &http.Server{Handler: (&app{name: "socket"}).handler(), ReadHeaderTimeout: patience}
	t.Cleanup(func() { drop(server) })
	go func() { _ = server.Serve(listener) }()

	one, two := plainApp(t, env, "one"), plainApp(t, env, "two")
	port := func(upstream string) string {
		_, port, _ := strings.Cut(strings.Trim(upstream, `]"`), ":")
		return port
	}
	g := startGate(t, env, "", map[string]string{
		"one":    one,
		"both":   fmt.Sprintf(`addresses = ["127.0.0.1:%s", "127.0.0.1:%s"]`, port(one), port(two)),
		"name":   fmt.Sprintf(`addresses = ["localhost:%s"]`, port(one)),
		"socket": fmt.Sprintf(`addresses = ["unix://%s"]`, socket),
		"nobody": fmt.Sprintf(`addresses = [%q]`, local(nobody)),
		"half":   fmt.Sprintf(`addresses = ["127.0.0.1:%s", %q]`, port(one), local(nobody)),
	}, "CONSUL_HTTP_ADDR="+local(nobody))
	waitStatus(t, g.url("/one"), http.StatusOK)
	waitStatus(t, g.url("/name"), http.StatusOK)
	for path, want := range map[string]string{"/one": "one", "/name": "one", "/socket": "socket"} {
		if got := get(t, g.url(path)); got.status != http.StatusOK || got.body != want {
			t.Errorf("%s: status %d: %s", path, got.status, got.body)
		}
	}
	seen := map[string]int{}
	for range 20 {
		seen[get(t, g.url("/both")).body]++
		wantStatus(t, get(t, g.url("/half")), http.StatusOK)
	}
	if seen["one"] == 0 || seen["two"] == 0 || len(seen) != 2 {
		t.Errorf("two addresses were asked unevenly: %v", seen)
	}
	if got := get(t, g.url("/nobody")); got.status != http.StatusServiceUnavailable && got.status != http.StatusBadGateway {
		t.Errorf("an address where nobody listens: status %d: %s", got.status, got.body)
	}
	if logHas(g.process, "onsul") {
		t.Errorf("the edge speaks of Consul, which it does not need:\n%s", g.process.Log())
	}
	t.Run("malformed", func(t *testing.T) { testMalformed(t, g) })
	t.Run("pipelined", func(t *testing.T) { testPipelined(t, g) })
}

// testMalformed sends what is no HTTP: the answer is 400, and the connection is closed.
func testMalformed(t *testing.T, g *gate) {
	t.Helper()
	const head = "POST /one/echo HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + acmeKey + "\r\n"
	for name, text := range map[string]string{
		"no HTTP":                    "\x16\x03\x01\x00\x05hello\r\n\r\n",
		"no version":                 "GET /one\r\n\r\n",
		"unknown version":            "GET /one HTTP/1.2x\r\nHost: a\r\n\r\n",
		"no host":                    "GET /one HTTP/1.1\r\n\r\n",
		"two hosts":                  "GET /one HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
		"space in the target":        "GET /one two HTTP/1.1\r\nHost: a\r\n\r\n",
		"bare LF":                    "GET /one HTTP/1.1\nHost: a\n\n",
		"folded line":                head + "X-A: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"space before the colon":     head + "X-A : b\r\nContent-Length: 0\r\n\r\n",
		"NUL in a value":             head + "X-A: b\x00c\r\nContent-Length: 0\r\n\r\n",
		"CR in a value":              head + "X-A: b\rc\r\nContent-Length: 0\r\n\r\n",
		"no name":                    head + ": b\r\nContent-Length: 0\r\n\r\n",
		"length and chunked":         head + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":                head + "Content-Length: 3\r\nContent-Length: 3\r\n\r\nabc",
		"list of lengths":            head + "Content-Length: 3, 3\r\n\r\nabc",
		"signed length":              head + "Content-Length: +3\r\n\r\nabc",
		"hexadecimal length":         head + "Content-Length: 0x3\r\n\r\nabc",
		"huge length":                head + "Content-Length: 99999999999999999999\r\n\r\nabc",
		"unknown transfer encoding":  head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
		"chunked twice":              head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"chunk size is no number":    head + "Transfer-Encoding: chunked\r\n\r\nx\r\nabc\r\n0\r\n\r\n",
		"chunk is longer than said":  head + "Transfer-Encoding: chunked\r\n\r\n2\r\nabc\r\n0\r\n\r\n",
		"chunk size is signed":       head + "Transfer-Encoding: chunked\r\n\r\n+3\r\nabc\r\n0\r\n\r\n",
		"chunk line ends in bare LF": head + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			got := exchange(t, g.addr, text)
			if !bytes.HasPrefix(got, []byte("HTTP/1.1 400 ")) {
				t.Errorf("the answer to %q is %q", text, got)
			}
		})
	}
	waitStatus(t, g.url("/one"), http.StatusOK)
}

// exchange sends bytes and reads until the other side closes.
func exchange(t *testing.T, addr, text string) []byte {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", addr)
	must(t, err)
	defer conn.Close()
	must(t, conn.SetDeadline(time.Now().Add(patience)))
	_, err = io.WriteString(conn, text)
	must(t, err)
	got, err := io.ReadAll(conn)
	if err != nil {
		t.Errorf("the connection is not closed properly: %v", err)
	}
	return got
}

// testPipelined sends requests without waiting: the answers come in order, and the last says that it was the last.
func testPipelined(t *testing.T, g *gate) {
	t.Helper()
	const request = "GET /one/x/a HTTP/1.1\r\nHost: a\r\nX-Api-Key: " + acmeKey + "\r\n"
	got := exchange(t, g.addr, request+"\r\n"+request+"\r\n"+request+"Connection: close\r\n\r\n")
	reader := bufio.NewReader(bytes.NewReader(got))
	for n := range 3 {
		resp, err := http.ReadResponse(reader, nil)
		must(t, err)
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		must(t, resp.Body.Close())
		if resp.StatusCode != http.StatusOK || string(text) != "one" || resp.Close != (n == 2) {
			t.Errorf("answer %d: status %d, %q, close %v", n, resp.StatusCode, text, resp.Close)
		}
	}
}

// TestCatalog runs an edge in front of a service that is not in the mesh, with a token that may read. It follows what is
// registered.
func TestCatalog(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	token, err := w.consul.PolicyToken(t.Context(), "reader",
		"service \"legacy\" {\n  policy = \"read\"\n}\nnode_prefix \"\" {\n  policy = \"read\"\n}\n")
	must(t, err)
	g := w.edgeAs(t, token, map[string]string{"legacy": `catalog = "legacy"`})
	waitStatus(t, g.url("/legacy"), http.StatusServiceUnavailable)

	first := w.plain(t, "legacy-1")
	waitStatus(t, g.url("/legacy"), http.StatusOK)
	loads := map[string]*harness.Load{"edge to legacy": load(t, g.url("/legacy"))}
	second := w.plain(t, "legacy-2")
	eventually(t, "both to be asked", func(context.Context) error {
		if first.hits.Load() == 0 || second.hits.Load() == 0 {
			return errNotYet
		}
		return nil
	})
	must(t, w.consul.DeregisterService(t.Context(), "legacy-1"))
	eventually(t, "only the second to be asked", func(ctx context.Context) error {
		before := first.hits.Load()
		for range 6 {
			if _, err := fetch(ctx, http.DefaultClient, g.url("/legacy")); err != nil {
				return err
			}
		}
		if first.hits.Load() != before {
			return errNotYet
		}
		return nil
	})
	clean(t, loads)
	must(t, w.consul.DeregisterService(t.Context(), "legacy-2"))
	waitStatus(t, g.url("/legacy"), http.StatusServiceUnavailable)
}
