package edge_test

import (
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/edge"
)

// TestRoutesShareConnections sends requests by several routes: those to the same addresses use the same connection,
// unless they are to be reached in another way.
func TestRoutesShareConnections(t *testing.T) {
	t.Parallel()
	var opened atomic.Int32
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	server.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			opened.Add(1)
		}
	}
	server.Start()
	t.Cleanup(server.Close)
	one := strings.TrimPrefix(server.URL, "http://")
	a := apiOf("a", "", nil, "/1*", "/2*", "/3*", "/4*", "/5*")
	a.Routes[0].Upstream = &edge.Upstream{Addresses: []string{one}}
	a.Routes[1].Upstream = &edge.Upstream{Addresses: []string{one}}
	a.Routes[2].Upstream = &edge.Upstream{Addresses: []string{one}, ConnectTimeout: time.Minute}
	a.Routes[3].Upstream = &edge.Upstream{Addresses: []string{one, one}}
	a.Routes[4].Upstream = &edge.Upstream{Addresses: []string{one, one}}
	r := start(t, edge.Config{APIs: []edge.API{a}})
	for _, step := range []struct {
		path string
		want int32 // connections so far
	}{{"/1", 1}, {"/2", 1}, {"/1", 1}, {"/3", 2}, {"/4", 3}} {
		if status, body := get(t, r.url+step.path); status != http.StatusOK {
			t.Fatalf("%s: status %d: %s", step.path, status, body)
		}
		if got := opened.Load(); got != step.want {
			t.Errorf("%s: %d connections were opened, want %d", step.path, got, step.want)
		}
	}
	before := opened.Load()
	for range 3 {
		for _, path := range []string{"/4", "/5"} {
			if status, body := get(t, r.url+path); status != http.StatusOK {
				t.Fatalf("%s: status %d: %s", path, status, body)
			}
		}
	}
	if got := opened.Load(); got > before+1 {
		t.Errorf("two routes to the same two addresses opened %d connections", got-before+1)
	}
}
