package integration_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestPluginBodies sends bodies by routes whose plugin is not given them, and by one whose plugin is.
func TestPluginBodies(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := plainApp(t, env, "app")
	trailers := make(chan string, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		all, _ := io.ReadAll(r.Body)
		trailers <- fmt.Sprintf("%d bytes, trailer %s", len(all), r.Trailer.Get("X-Sum"))
	}))
	defer server.Close()
	use := `{ settings = { request = [{ remove = "cookie" }], response = [{ remove = "server" }] } }`
	mapper := bundled(t, "header-map")
	g := startPluginGate(t, env, pinned(t, "streams", mapper, "")+pinned(t, "holds", mapper, "    max_body = \"2MiB\"\n")+
		transformAPI("api", app, `"streams" `+use)+transformAPI("held", app, `"holds" `+use)+
		transformAPI("trailers", fmt.Sprintf("addresses = [%q]", server.Listener.Addr()), `"holds" `+use))

	t.Run("streamed", func(t *testing.T) { testRequestBodies(t, g.gate) })
	t.Run("upgrade", func(t *testing.T) { testUpgrade(t, g.url("/api/upgrade")) })
	t.Run("upgrade, held", func(t *testing.T) { testUpgrade(t, g.url("/held/upgrade")) })
	for _, size := range []int{0, 1, 1 << 20, 2 << 20, 2<<20 + 1} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes held, chunked %v", size, chunked), func(t *testing.T) { testHeldBody(t, g, size, chunked) })
		}
	}
	t.Run("trailers", func(t *testing.T) {
		got := ask(t, http.MethodPost, g.url("/trailers/"), io.MultiReader(strings.NewReader("hello")), func(r *http.Request) {
			r.Trailer = http.Header{"X-Sum": {"1"}}
		})
		wantStatus(t, got, http.StatusOK)
		if got := <-trailers; got != "5 bytes, trailer 1" {
			t.Error(got)
		}
	})
	t.Run("head", func(t *testing.T) {
		got := ask(t, http.MethodHead, g.url("/api/body/sized"), http.NoBody)
		wantStatus(t, got, http.StatusOK)
		if got.header.Get("Content-Length") != fmt.Sprint(bodySize) {
			t.Errorf("%v", got.header)
		}
	})
	t.Run("expect", func(t *testing.T) { testExpect(t, g) })
	t.Run("client leaves", func(t *testing.T) { testLeaves(t, g) })
}

// testHeldBody sends a body to the app by a plugin that is given it, up to 2 MiB.
func testHeldBody(t *testing.T, g *pluginGate, size int, chunked bool) {
	t.Helper()
	data := string(noise(t, size))
	var reader io.Reader = strings.NewReader(data)
	if chunked {
		reader = io.MultiReader(reader)
	}
	got := ask(t, http.MethodPost, g.url("/held/echo"), reader)
	if size > 2<<20 {
		wantAnswer(t, got, http.StatusRequestEntityTooLarge, "at most 2097152 bytes")
		return
	}
	wantStatus(t, got, http.StatusOK)
	if got.body != data || got.header.Get("X-Length") != fmt.Sprint(size) {
		t.Errorf("%d bytes came back, the service saw length %s", len(got.body), got.header.Get("X-Length"))
	}
}

// testExpect sends a body once it is asked for.
func testExpect(t *testing.T, g *pluginGate) {
	t.Helper()
	for _, path := range []string{"/api/echo", "/held/echo"} {
		asked := false
		ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{Got100Continue: func() { asked = true }})
		req, err := http.NewRequestWithContext(ctx, http.MethodPost, g.url(path), strings.NewReader("hello"))
		must(t, err)
		req.Header.Set("Expect", "100-continue")
		transport := &http.Transport{ExpectContinueTimeout: patience}
		got, err := send(&http.Client{Transport: transport, Timeout: patience}, req)
		transport.CloseIdleConnections()
		must(t, err)
		if wantAnswer(t, got, http.StatusOK, "hello"); !asked {
			t.Errorf("%s: the body was not asked for", path)
		}
	}
}

// testLeaves breaks off in the middle of a body: the edge goes on.
func testLeaves(t *testing.T, g *pluginGate) {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", g.addr)
	must(t, err)
	_, err = io.WriteString(conn, "POST /held/echo HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\nhal")
	must(t, err)
	must(t, closeWrite(conn))
	must(t, conn.SetReadDeadline(time.Now().Add(patience)))
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err == nil {
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("half a body: status %d", resp.StatusCode)
		}
	}
	drop(conn)
	eventually(t, "the next request", func(ctx context.Context) error {
		_, err := fetch(ctx, http.DefaultClient, g.url("/held/"))
		return err
	})
}
