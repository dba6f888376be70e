package upstream_test

import (
	"context"
	"crypto/tls"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// Connections serve requests of one name, are counted for the host, and go with their
// name when nobody asks for it.
func TestNames(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mesh.Protocol{mesh.HTTP1, mesh.HTTP2, mesh.Negotiated} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.ServerName) }))
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		definition := static("c", at(server.Listener.Addr().String()))
		definition.Protocol = protocol
		definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AnyPeer: true, AutoSNI: true}
		definition.Limits = mesh.Limits{MaxHostConnections: 8, HasHostConnections: true}
		s := newSet(t, definition)
		c := s.Cluster("c")
		var asking sync.WaitGroup
		for n := range 4 {
			asking.Go(func() {
				for range 5 {
					req := request(http.MethodGet, "")
					req.Authority = fmt.Sprintf("Name-%d.example:8443", n)
					if got := do(t, c, req); got.Body != fmt.Sprintf("name-%d.example ", n) && got.Body != fmt.Sprintf("name-%d.example", n) {
						t.Errorf("protocol %d: %+v", protocol, got)
					}
				}
			})
		}
		asking.Wait()
		if n := c.Stats().Conns; n != 4 {
			t.Errorf("protocol %d: %d connections", protocol, n)
		}
		if hosts := s.Clusters()[0].Endpoints; len(hosts) != 1 || hosts[0].Connections != 4 || hosts[0].Active != 0 {
			t.Errorf("protocol %d: %+v", protocol, hosts)
		}
		s.Sweep(t.Context(), time.Now().Add(time.Hour))
		eventually(t, "no connection", func() bool { return c.Stats().Conns == 0 })
		s.Sweep(t.Context(), time.Now().Add(time.Hour))
		if n := c.Hosts()[0].Names(); n != 0 {
			t.Errorf("protocol %d: %d names are kept", protocol, n)
		}
	}
}

// A cluster keeps no more names than it may, on all of its hosts: a new one takes the place
// of the one that was not asked for the longest, unless all are in use.
func TestNamesBound(t *testing.T) {
	t.Parallel()
	definition := static("c", at("127.0.0.1:1"), at("127.0.0.1:2"))
	definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AutoSAN: true}
	c := newSet(t, definition).Cluster("c")
	hosts := c.Hosts()
	names := func() int { return hosts[0].Names() + hosts[1].Names() }
	first := hosts[0].ForName("name-0")
	first.Left()
	used := hosts[0].ForName("name-1")
	for n := 2; n < upstream.MaxNames+10; n++ {
		if h := hosts[n%2].ForName(fmt.Sprintf("name-%d", n)); n < upstream.MaxNames/2 {
			h.Left()
		}
	}
	if n := names(); n != upstream.MaxNames {
		t.Errorf("%d names", n)
	}
	if !first.Closed() || used.Closed() || hosts[0].ForName("name-1") != used {
		t.Error("not the one that nobody uses made room")
	}
	for n := range 2 * upstream.MaxNames {
		hosts[0].ForName(fmt.Sprintf("another-%d", n))
	}
	if h := hosts[1].ForName("the last"); h != nil || names() != upstream.MaxNames {
		t.Errorf("%v: one more than there may be, %d names", h, names())
	}
	req := request(http.MethodGet, "")
	if got := do(t, c, req); got.Status != http.StatusServiceUnavailable || c.Stats().Overflow == 0 || c.Stats().Conns != 0 {
		t.Errorf("%+v, %+v", got, c.Stats())
	}
}

// A host that went after it was picked keeps no connection for a name.
func TestNamesOfGone(t *testing.T) {
	t.Parallel()
	definition := static("c", at("127.0.0.1:1"))
	definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AutoSAN: true}
	host := newSet(t, definition).Cluster("c").Hosts()[0]
	before := host.ForName("before")
	host.Close()
	if !before.Closed() || !host.ForName("after").Closed() {
		t.Error("connections for a name would be kept")
	}
}

// What is not a request of HTTP offers no protocol that it does not speak, though requests
// agree on theirs; and it is checked by the names that are configured.
func TestNegotiatedOthers(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	definition := checked(static("c", at(server.Listener.Addr().String())))
	definition.Protocol = mesh.Negotiated
	definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), DNSNames: []string{"example.com"}, AutoSAN: true}
	s := newSet(t, definition)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = s.Run(ctx) })
	defer running.Wait()
	defer cancel()
	c := s.Cluster("c")
	eventually(t, "a check to pass", func() bool { return c.Stats().Checks.Successes > 0 })
	req := request(http.MethodGet, "")
	req.Authority = "a.example.com"
	if got := do(t, c, req); got.Body != "HTTP/2.0" {
		t.Errorf("%+v", got)
	}
	conn, _, err := c.Dial(t.Context(), wire.Choice{})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	fmt.Fprint(conn, "GET / HTTP/1.1\r\nHost: c\r\nConnection: close\r\n\r\n")
	answer, err := io.ReadAll(conn)
	if err != nil || !strings.HasSuffix(string(answer), "HTTP/1.1") {
		t.Errorf("raw: %q, %v", answer, err)
	}
	stranger := *definition
	stranger.TLS = &mesh.UpstreamTLS{Roots: roots(t), DNSNames: []string{"stranger.example"}, AutoSAN: true}
	stranger.Check = nil
	commit(t, s, &stranger)
	if conn, _, err := c.Dial(t.Context(), wire.Choice{}); err == nil {
		conn.Close()
		t.Error("a raw connection to somebody else")
	}
	if got := do(t, c, request(http.MethodGet, "")); got.Status != http.StatusServiceUnavailable {
		t.Errorf("by a name that it has not: %+v", got)
	}
	req = request(http.MethodGet, "")
	req.Authority = "a.example.com"
	if got := do(t, c, req); got.Body != "HTTP/2.0" {
		t.Errorf("by its name: %+v", got)
	}
}

// Who waits for a connection, of which there may be one, has a place on it when that turns
// out to be shared.
func TestNegotiatedQueue(t *testing.T) {
	t.Parallel()
	gate := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.Proto) }))
	server.EnableHTTP2 = true
	server.TLS = &tls.Config{GetConfigForClient: func(*tls.ClientHelloInfo) (*tls.Config, error) {
		<-gate
		return nil, nil //nolint:nilnil // as it is
	}}
	server.StartTLS()
	t.Cleanup(server.Close)
	definition := limited(1, 10, at(server.Listener.Addr().String()))
	definition.Protocol = mesh.Negotiated
	definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AnyPeer: true}
	c := newSet(t, definition).Cluster("c")
	var asking sync.WaitGroup
	for range 4 {
		asking.Go(func() {
			x := newExchange()
			defer x.Done(time.Now())
			x.Deadline = time.Now().Add(time.Minute)
			if got := finish(t, x, c, request(http.MethodGet, "")); got.Body != "HTTP/2.0" {
				t.Errorf("%+v", got)
			}
		})
	}
	eventually(t, "three to wait for the first", func() bool { return c.Queued() == 3 })
	close(gate)
	asking.Wait()
	if s := c.Stats(); s.Connects != 1 || s.Pending != 0 || s.Active != 0 {
		t.Errorf("%+v", s)
	}
}

// However many names clients make up, there are no more connections than there may be: who
// asks for another name has the place of one that is idle, or waits.
func TestNamesLimit(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mesh.Protocol{mesh.HTTP1, mesh.HTTP2, mesh.Negotiated} {
		server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.TLS.ServerName) }))
		server.EnableHTTP2 = true
		server.StartTLS()
		t.Cleanup(server.Close)
		definition := limited(2, 1000, at(server.Listener.Addr().String()))
		definition.Protocol = protocol
		definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AnyPeer: true, AutoSNI: true}
		c := newSet(t, definition).Cluster("c")
		var asking sync.WaitGroup
		for n := range 6 {
			asking.Go(func() {
				for range 6 {
					x := newExchange()
					x.Deadline = time.Now().Add(time.Minute)
					req := request(http.MethodGet, "")
					req.Authority = fmt.Sprintf("name-%d.example", n)
					if got := finish(t, x, c, req); got.Body != req.Authority {
						t.Errorf("protocol %d: %+v", protocol, got)
					}
					x.Done(time.Now())
					if n := c.Stats().Conns; n > 2 {
						t.Errorf("protocol %d: %d connections", protocol, n)
					}
				}
			})
		}
		asking.Wait()
		if s := c.Stats(); s.Pending != 0 || s.Active != 0 || c.Queued() != 0 {
			t.Errorf("protocol %d: %+v", protocol, s)
		}
	}
}

// Nobody takes the place that a host always has while others are counted.
func TestNamesCount(t *testing.T) {
	t.Parallel()
	definition := limited(1, 1000, at("127.0.0.1:1"))
	definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AutoSAN: true}
	c := newSet(t, definition).Cluster("c")
	var making sync.WaitGroup
	for n := range 8 {
		h := c.Hosts()[0].ForName(fmt.Sprintf("name-%d", n))
		making.Go(func() {
			for range 20_000 {
				if !h.Reserve() {
					runtime.Gosched()
					continue
				}
				if n := c.Conns(); n > 1 {
					t.Errorf("%d connections", n)
				}
				h.Freed()
			}
		})
	}
	making.Wait()
	if n := c.Conns(); n != 0 {
		t.Errorf("%d connections are left", n)
	}
}

// What is counted goes by what is spoken, where that is up to TLS.
func TestNegotiatedCounts(t *testing.T) {
	t.Parallel()
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }))
	server.EnableHTTP2 = true
	server.StartTLS()
	t.Cleanup(server.Close)
	definition := static("c", at(server.Listener.Addr().String()))
	definition.Protocol = mesh.Negotiated
	definition.TLS = &mesh.UpstreamTLS{Roots: roots(t), AnyPeer: true}
	s := newSet(t, definition)
	if got := do(t, s.Cluster("c"), request(http.MethodPost, "x")); got.Status != 502 && got.Status != 503 {
		t.Errorf("%+v", got)
	}
	all := s.Clusters()
	resets := int64(-1)
	all[0].Each("", func(one stats.Stat) bool {
		if one.Name == "upstream_rq_rx_reset" {
			resets = one.Value
		}
		return true
	})
	if resets != 1 {
		t.Errorf("%d resets", resets)
	}
}
