package upstream_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
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
