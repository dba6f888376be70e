package integration_test

import (
	"bytes"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
)

// TestPath walks the main path: a client with a key, the edge, mTLS, a sidecar, a service; and from there on.
//
// The edge may call web and api, web may call api below /x/read and db; nobody else may call anybody.
func TestPath(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http", "guest": "http"})
	w.allow(t, "edge", "web", "api")
	w.allow(t, "web", "db")
	must(t, w.consul.Intention(t.Context(), "web", "api", true,
		&consulapi.IntentionPermission{Action: consulapi.IntentionActionDeny, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: "/x/read/secret"}},
		&consulapi.IntentionPermission{Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{
			PathPrefix: "/x/read", Methods: []string{http.MethodGet, http.MethodHead},
		}},
	))
	api := w.run(t, "api-1", "api")
	web := w.run(t, "web-1", "web", "api", "db")
	guest := w.run(t, "guest-1", "guest", "api", "db")
	w.run(t, "db-1", "db")
	g := w.edge(t, mesh("web", "api", "guest"))
	w.waitOK(t, g.url("/api"), g.url("/web/via/api/x/read/it"))
	waitTCP(t, local(web.upstreams["db"]))
	waitStatus(t, g.url("/guest"), http.StatusForbidden)
	waitStatus(t, guest.url("api", "/"), http.StatusForbidden)

	t.Run("who", func(t *testing.T) { testWho(t, g, api, guest) })
	t.Run("permissions", func(t *testing.T) { testPermissions(t, web, guest, api) })
	t.Run("tcp", func(t *testing.T) { testTCP(t, web, guest) })
	t.Run("requests", func(t *testing.T) { testRequestBodies(t, g) })
	t.Run("responses", func(t *testing.T) { testResponseBodies(t, g, web) })
	t.Run("upgrade", func(t *testing.T) { testUpgrade(t, g.url("/api/upgrade")) })
	t.Run("headers", func(t *testing.T) { testHeaders(t, g) })
	t.Run("admin", func(t *testing.T) {
		wantStatus(t, get(t, api.ready()), http.StatusOK)
		if got := get(t, "http://"+local(api.admin)+"/stats"); got.status != http.StatusOK || !strings.Contains(got.body, "listener.") {
			t.Errorf("stats: status %d: %.300s", got.status, got.body)
		}
	})
}

// testWho asks as callers of all kinds.
func testWho(t *testing.T, g *gate, api, guest *instance) {
	t.Helper()
	noKey := func(r *http.Request) { r.Header.Del("X-Api-Key") }
	wrongKey := func(r *http.Request) { r.Header.Set("X-Api-Key", "wrong") }
	for _, c := range []struct {
		name, path string
		status     int
		body       string
		edit       func(*http.Request)
	}{
		{name: "allowed", path: "/api", status: http.StatusOK, body: "api-1"},
		{name: "allowed, deeper", path: "/api/x/a/b?c=d", status: http.StatusOK, body: "api-1"},
		{name: "through a service", path: "/web/via/api/x/read/it", status: http.StatusOK, body: "web-1 hears from api-1"},
		{name: "no key", path: "/api", status: http.StatusUnauthorized, edit: noKey},
		{name: "bad key", path: "/api", status: http.StatusUnauthorized, edit: wrongKey},
		{name: "no key, no route", path: "/nothing", status: http.StatusNotFound, edit: noKey},
		{name: "denied by intention", path: "/guest", status: http.StatusForbidden},
		{name: "denied by permission, through a service", path: "/web/via/api/x/write", status: http.StatusForbidden},
		{name: "no route", path: "/nothing", status: http.StatusNotFound},
		{name: "a longer first segment", path: "/apis", status: http.StatusNotFound},
	} {
		t.Run(c.name, func(t *testing.T) {
			before := api.app.hits.Load() + guest.app.hits.Load()
			var got *answer
			if c.edit == nil {
				got = get(t, g.url(c.path))
			} else {
				got = get(t, g.url(c.path), c.edit)
			}
			wantStatus(t, got, c.status)
			if c.body != "" && got.body != c.body {
				t.Errorf("body %q, want %q", got.body, c.body)
			}
			if challenge := got.header.Get("WWW-Authenticate"); (challenge != "") != (c.status == http.StatusUnauthorized) {
				t.Errorf("status %d has WWW-Authenticate %q", c.status, challenge)
			}
			if hits := api.app.hits.Load() + guest.app.hits.Load() - before; (hits > 0) != (c.status == http.StatusOK) {
				t.Errorf("status %d, and %d requests reached a service", c.status, hits)
			}
		})
	}
}

// testPermissions asks api as web and as guest, at their sidecars.
func testPermissions(t *testing.T, web, guest, api *instance) {
	t.Helper()
	for _, c := range []struct {
		from         *instance
		method, path string
		status       int
	}{
		{web, http.MethodGet, "/x/read", http.StatusOK},
		{web, http.MethodGet, "/x/read/a?write=1", http.StatusOK},
		{web, http.MethodHead, "/x/read/a", http.StatusOK},
		{web, http.MethodPost, "/x/read/a", http.StatusForbidden},
		{web, http.MethodGet, "/x/read/secret/a", http.StatusForbidden},
		{web, http.MethodGet, "/x/write", http.StatusForbidden},
		{web, http.MethodGet, "/", http.StatusForbidden},
		{web, http.MethodGet, "/x/read/../write", http.StatusForbidden},
		{web, http.MethodGet, "/x/write/../read", http.StatusOK},
		{web, http.MethodGet, "/x/read/%2e%2e/write", http.StatusForbidden},
		{guest, http.MethodGet, "/x/read", http.StatusForbidden},
	} {
		t.Run(c.from.service+" "+c.method+" "+c.path, func(t *testing.T) {
			before := api.app.hits.Load()
			wantStatus(t, ask(t, c.method, c.from.url("api", c.path), http.NoBody), c.status)
			if hits := api.app.hits.Load() - before; (hits > 0) != (c.status == http.StatusOK) {
				t.Errorf("status %d wanted, and %d requests reached api", c.status, hits)
			}
		})
	}
}

// testTCP sends raw bytes to db: as web, which may, and as guest.
func testTCP(t *testing.T, web, guest *instance) {
	t.Helper()
	t.Run("allowed", func(t *testing.T) {
		m := dialMirror(t, local(web.upstreams["db"]))
		must(t, m.ping("hello"))
		data := noise(t, 1<<20)
		sent := make(chan error, 1)
		go func() {
			_, err := m.conn.Write(data)
			sent <- errors.Join(err, closeWrite(m.conn))
		}()
		must(t, m.conn.SetDeadline(time.Now().Add(patience)))
		back, err := io.ReadAll(m.reader)
		must(t, errors.Join(err, <-sent))
		// The hash comes after our half was closed: the other half must have lived on.
		want := string(data) + sum(append([]byte("hello\n"), data...))
		if string(back) != want {
			t.Errorf("of %d bytes came back %d; they are not those sent, with their hash at the end", len(data), len(back))
		}
	})
	t.Run("denied", func(t *testing.T) {
		m := dialMirror(t, local(guest.upstreams["db"]))
		if err := m.ping("hello"); err == nil {
			t.Error("guest is answered by db, which no intention allows")
		}
	})
}

func closeWrite(conn net.Conn) error {
	half, ok := conn.(*net.TCPConn)
	if !ok {
		return errors.ErrUnsupported
	}
	return half.CloseWrite()
}

// noise is what does not compress and does not repeat.
func noise(t *testing.T, n int) []byte {
	t.Helper()
	data := make([]byte, n)
	_, err := rand.Read(data)
	must(t, err)
	return data
}

func testRequestBodies(t *testing.T, g *gate) {
	t.Helper()
	for _, size := range []int{0, 1, 1 << 20} {
		for _, chunked := range []bool{false, true} {
			t.Run(fmt.Sprintf("%d bytes, chunked %v", size, chunked), func(t *testing.T) {
				data := noise(t, size)
				var reader io.Reader = bytes.NewReader(data)
				length := fmt.Sprint(size)
				if chunked {
					reader, length = io.MultiReader(reader), "-1"
				}
				got := ask(t, http.MethodPost, g.url("/api/echo"), reader)
				wantStatus(t, got, http.StatusOK)
				if got.body != string(data) || got.header.Get("X-Sha256") != sum(data) {
					t.Errorf("%d bytes came back, not those sent", len(got.body))
				}
				if got.header.Get("X-Length") != length {
					t.Errorf("the service saw length %s, want %s", got.header.Get("X-Length"), length)
				}
			})
		}
	}
}

func testResponseBodies(t *testing.T, g *gate, web *instance) {
	t.Helper()
	want := sum(bytes.Repeat([]byte("0123456789abcdef"), bodySize/16))
	for _, mode := range []string{"sized", "chunked", "trailer"} {
		t.Run(mode, func(t *testing.T) {
			got := get(t, g.url("/api/body/"+mode))
			wantStatus(t, got, http.StatusOK)
			if sum([]byte(got.body)) != want {
				t.Errorf("the body, of %d bytes, is not what was sent", len(got.body))
			}
			if length := got.header.Get("Content-Length"); (length != "") != (mode == "sized") {
				t.Errorf("Content-Length is %q", length)
			}
			if mode == "trailer" && got.trailer.Get("X-Sha256") != want {
				t.Errorf("trailers are %v", got.trailer)
			}
		})
	}
	t.Run("head", func(t *testing.T) {
		got := ask(t, http.MethodHead, g.url("/api/body/sized"), http.NoBody)
		wantStatus(t, got, http.StatusOK)
		if got.header.Get("Content-Length") != fmt.Sprint(bodySize) || got.body != "" {
			t.Errorf("Content-Length is %s with a body of %d bytes", got.header.Get("Content-Length"), len(got.body))
		}
	})
	t.Run("status of the service", func(t *testing.T) {
		wantStatus(t, get(t, g.url("/web/nothing")), http.StatusNotFound)
		if web.app.hits.Load() == 0 {
			t.Error("web was not asked")
		}
	})
}

// testUpgrade switches protocols, as a websocket does, and then talks.
func testUpgrade(t *testing.T, url string, edits ...func(*http.Request)) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, http.NoBody)
	must(t, err)
	req.Header = http.Header{"X-Api-Key": {acmeKey}, "Connection": {"Upgrade"}, "Upgrade": {"websocket"}}
	for _, edit := range edits {
		edit(req)
	}
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	resp, err := transport.RoundTrip(req)
	must(t, err)
	defer resp.Body.Close()
	conn, ok := resp.Body.(io.ReadWriteCloser)
	if resp.StatusCode != http.StatusSwitchingProtocols || !ok {
		text, _ := io.ReadAll(resp.Body)
		t.Fatalf("status %d: %s", resp.StatusCode, text)
	}
	for _, size := range []int{1, 100, 100_000} {
		data := noise(t, size)
		back := make([]byte, size)
		read := make(chan error, 1)
		go func() {
			_, err := io.ReadFull(conn, back)
			read <- err
		}()
		_, err := conn.Write(data)
		must(t, errors.Join(err, <-read))
		if !bytes.Equal(data, back) {
			t.Errorf("what came back is not the %d bytes sent", size)
		}
	}
}

// testHeaders looks at what a service gets of what a client sends, and what it may believe.
func testHeaders(t *testing.T, g *gate) {
	t.Helper()
	answer := get(t, g.url("/api/headers?a=b%20c"), func(r *http.Request) {
		r.Host = "shop.example.com"
		r.Header["X-Serai-Consumer"] = []string{"admin"}
		r.Header["X-Serai-Plan"] = []string{"gold"}
		r.Header["X-Forwarded-For"] = []string{"192.0.2.1"}
		r.Header["X-Forwarded-Proto"] = []string{"https"}
		r.Header["X-Forwarded-Client-Cert"] = []string{"URI=spiffe://evil/ns/default/dc/dc1/svc/web"}
		r.Header["Connection"] = []string{"X-Hop"}
		r.Header["X-Hop"] = []string{"1"}
		r.Header["X-Mine"] = []string{"one", "two"}
	})
	wantStatus(t, answer, http.StatusOK)
	var got seen
	must(t, json.Unmarshal([]byte(answer.body), &got))
	for name, want := range map[string][]string{
		"X-Api-Key":         nil,
		"X-Serai-Consumer":  {"acme"},
		"X-Serai-Plan":      nil,
		"X-Forwarded-For":   {"127.0.0.1"},
		"X-Forwarded-Proto": {"http"},
		"X-Hop":             nil,
		"X-Mine":            {"one", "two"},
	} {
		if !slices.Equal(got.Header[name], want) {
			t.Errorf("the service sees %s: %q, want %q", name, got.Header[name], want)
		}
	}
	if got.Host != "shop.example.com" || got.Path != "/headers?a=b%20c" {
		t.Errorf("the service sees host %s and path %s", got.Host, got.Path)
	}
	caller := strings.Join(got.Header["X-Forwarded-Client-Cert"], ",")
	if strings.Contains(caller, "evil") || !strings.Contains(caller, "/svc/edge") {
		t.Errorf("the service is told that the caller is %q", caller)
	}
}
