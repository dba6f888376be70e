package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
)

// places are the services of TestPlacesAsEnvoy that both kinds of caller reach by a port of their own.
func places() map[string]string {
	return map[string]string{
		"web": "http", "cart": "http", "sock": "http", "ring": "http", "tight": "http", "narrow": "http", "streams": "http2", "few": "tcp", "sick": "http", "ill": "http", "illtcp": "tcp",
		"late-serai": "http", "late-envoy": "http", "latetcp-serai": "tcp", "latetcp-envoy": "tcp",
		"socket-serai": "http", "socket-envoy": "http", "six-serai": "http", "six-envoy": "http",
	}
}

// TestPlacesAsEnvoy puts our sidecar and Envoy into all places of one world: sockets, address families, prepared
// queries, limits, hashes, and apps that are not there.
func TestPlacesAsEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, places())
	var upstreams []string
	for service := range places() {
		if service != "web" {
			upstreams = append(upstreams, service)
		}
	}
	w.allow(t, "web", upstreams...)
	upstreams = slices.DeleteFunc(upstreams, func(name string) bool { return name == "sock" }) // by a socket
	w.write(t, limited())
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceResolverConfigEntry{
		Kind: consulapi.ServiceResolver, Name: "ring", LoadBalancer: &consulapi.LoadBalancer{
			Policy: "ring_hash", HashPolicies: []consulapi.HashPolicy{
				{Field: "header", FieldValue: "x-user", Terminal: true},
				{Field: "query_parameter", FieldValue: "user", Terminal: true},
				{Field: "cookie", FieldValue: "user", CookieConfig: &consulapi.CookieConfig{TTL: time.Hour, Path: "/"}},
			},
		},
	}))
	for _, id := range []string{"cart-1", "sock-1", "ring-1", "ring-2", "ring-3", "tight-1", "narrow-1", "streams-1", "few-1", "sick-1", "sick-2", "ill-1", "illtcp-1"} {
		w.run(t, id, id[:len(id)-2])
	}
	late := w.lateApps(t)
	w.socketApps(t)
	w.sixApps(t)
	_, _, err := w.consul.API.PreparedQuery().Create(&consulapi.PreparedQueryDefinition{
		Name: "find-cart", Service: consulapi.ServiceQuery{Service: "cart", OnlyPassing: true},
	}, (&consulapi.WriteOptions{}).WithContext(t.Context()))
	must(t, err)
	web := w.webs(t, upstreams)
	for _, i := range web {
		w.waitOK(t, i.url("cart", "/"), i.url("ring", "/"), i.url("tight", "/"), i.url("narrow", "/"), i.url("streams", "/"), i.url("sick", "/"), i.url("ill", "/"))
		waitTCP(t, local(i.upstreams["illtcp"]), local(i.upstreams["few"]))
	}
	t.Run("websocket", func(t *testing.T) { each(t, web, func(i *instance) { testUpgrade(t, i.url("cart", "/upgrade")) }) })
	t.Run("unix sockets", func(t *testing.T) { each(t, web, func(i *instance) { testSockets(t, w, i) }) })
	t.Run("address families", func(t *testing.T) {
		each(t, web, func(i *instance) { w.waitOK(t, i.url("six-serai", "/"), i.url("six-envoy", "/")) })
	})
	t.Run("prepared query", func(t *testing.T) {
		each(t, web, func(i *instance) {
			w.waitOK(t, "http://"+local(i.upstreams["find-cart"])+"/")
			if got := get(t, i.url("find-cart", "/")); got.body != "cart-1" {
				t.Errorf("status %d: %s", got.status, got.body)
			}
		})
	})
	t.Run("hash", func(t *testing.T) { testHash(t, web) })
	t.Run("limits", func(t *testing.T) { testLimits(t, web) })
	t.Run("limits of connections", func(t *testing.T) { testFew(t, web) })
	t.Run("outliers", func(t *testing.T) { testSick(t, web) })
	t.Run("TestTrap18: nobody healthy", func(t *testing.T) { testIll(t, w, web) })
	t.Run("TestTrap30: the app comes later", func(t *testing.T) { testLate(t, web, late) })
}

// each does something with each kind.
func each(t *testing.T, web map[string]*instance, f func(*instance)) {
	t.Helper()
	for _, kind := range slices.Backward(kinds()) { // Envoy first: if it fails the question is wrong
		f(web[kind])
	}
}

// webs are the callers. Besides a port for each upstream they have one for a prepared query, and a socket.
func (w *world) webs(t *testing.T, upstreams []string) map[string]*instance {
	t.Helper()
	all := map[string]*instance{}
	for _, kind := range kinds() {
		port := w.ports(t, 1)
		i := w.registerAs(t, "web-"+kind, "web", func(r *consulapi.AgentServiceRegistration) {
			proxy := r.Connect.SidecarService.Proxy
			proxy.Upstreams = append(proxy.Upstreams,
				consulapi.Upstream{DestinationType: consulapi.UpstreamDestTypePreparedQuery, DestinationName: "find-cart", LocalBindPort: port, Config: map[string]any{"protocol": "http"}},
				consulapi.Upstream{DestinationName: "sock", LocalBindSocketPath: w.socket("up-" + kind), LocalBindSocketMode: "0600"},
			)
		}, upstreams...)
		i.upstreams["find-cart"] = port
		all[kind] = w.start(t, kind, i)
	}
	for _, i := range all {
		sidecarReady(t, i)
	}
	return all
}

// socket is the path of a unix socket.
func (w *world) socket(name string) string { return filepath.Join(w.env.Dir(), name+".sock") }

// lateApps are registered at ports where nobody listens, one of http and one of tcp for each kind.
func (w *world) lateApps(t *testing.T) map[string]int {
	t.Helper()
	ports := map[string]int{}
	for _, kind := range kinds() {
		for _, service := range []string{"late-" + kind, "latetcp-" + kind} {
			port := w.ports(t, 1)
			ports[service] = port
			i := w.registerAs(t, service+"-1", service, func(r *consulapi.AgentServiceRegistration) { r.Port, r.Check = port, nil })
			w.start(t, kind, i)
			sidecarReady(t, i)
		}
	}
	return ports
}

// socketApps listen on unix sockets.
func (w *world) socketApps(t *testing.T) {
	t.Helper()
	for _, kind := range kinds() {
		service, path := "socket-"+kind, w.socket("app-"+kind)
		i := w.registerAs(t, service+"-1", service, func(r *consulapi.AgentServiceRegistration) {
			r.Port, r.Address, r.SocketPath, r.Check = 0, "", path, nil
			r.Connect.SidecarService.Proxy.LocalServiceSocketPath = path
		})
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
		must(t, err)
		server := &http.Server{Handler: i.app.handler(), ReadHeaderTimeout: 10 * time.Second}
		t.Cleanup(func() { drop(server) })
		go func() { _ = server.Serve(listener) }()
		w.start(t, kind, i)
	}
}

// sixApps have sidecars that are reached by IPv6.
func (w *world) sixApps(t *testing.T) {
	t.Helper()
	for _, kind := range kinds() {
		service := "six-" + kind
		w.start(t, kind, w.registerAs(t, service+"-1", service, func(r *consulapi.AgentServiceRegistration) {
			sidecar := r.Connect.SidecarService
			sidecar.Address = "::1"
			sidecar.Checks[0].TCP = net.JoinHostPort("::1", fmt.Sprint(sidecar.Port))
		}))
	}
}

// testSockets asks what listens on a socket, and asks through one.
func testSockets(t *testing.T, w *world, i *instance) {
	t.Helper()
	for _, kind := range kinds() {
		w.waitOK(t, i.url("socket-"+kind, "/"))
		if got := get(t, i.url("socket-"+kind, "/")); got.body != "socket-"+kind+"-1" {
			t.Errorf("status %d: %s", got.status, got.body)
		}
	}
	path := w.socket("up-" + i.id[len("web-"):])
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return (&net.Dialer{}).DialContext(ctx, "unix", path)
	}}, Timeout: 10 * time.Second}
	got, err := fetch(t.Context(), client, "http://sock/")
	must(t, err)
	if got.body != "sock-1" {
		t.Errorf("by %s: status %d: %s", path, got.status, got.body)
	}
}

// testHash has both kinds choose the same instance for a user, and remember those that nobody knows.
func testHash(t *testing.T, web map[string]*instance) {
	t.Helper()
	each(t, web, func(i *instance) {
		eventually(t, "all three instances", func(context.Context) error {
			found := map[string]bool{}
			for user := range 40 {
				found[get(t, i.url("ring", "/"), as(user)).body] = true
			}
			if len(found) != 3 {
				return fmt.Errorf("only %v", found)
			}
			return nil
		})
	})
	for user := range 40 {
		by := map[string]string{}
		for kind, i := range web {
			by[kind] = get(t, i.url("ring", "/"), as(user)).body
			if got := get(t, i.url("ring", fmt.Sprintf("/?user=%d", user))).body; got != by[kind] {
				t.Errorf("%s: user %d comes to %s by header and %s by query", kind, user, by[kind], got)
			}
		}
		if by["serai"] != by["envoy"] {
			t.Errorf("user %d comes to %s by ours and to %s by Envoy", user, by["serai"], by["envoy"])
		}
	}
	each(t, web, func(i *instance) {
		first := get(t, i.url("ring", "/"))
		cookie := first.header.Get("Set-Cookie")
		if cookie == "" {
			t.Fatalf("%s sets no cookie: %v", i.id, first.header)
		}
		for range 5 {
			again := get(t, i.url("ring", "/"), func(r *http.Request) { r.Header.Set("Cookie", cookie) })
			if again.body != first.body || again.header.Get("Set-Cookie") != "" {
				t.Errorf("%s: with the cookie %q to %s, not %s; Set-Cookie %q", i.id, cookie, again.body, first.body, again.header.Get("Set-Cookie"))
			}
		}
	})
}

func as(user int) func(*http.Request) {
	return func(r *http.Request) { r.Header.Set("X-User", fmt.Sprint(user)) }
}

// testIll takes the only instance of a service out of the catalog's health.
func testIll(t *testing.T, w *world, web map[string]*instance) {
	t.Helper()
	for _, id := range []string{"ill-1", "illtcp-1"} {
		must(t, w.consul.API.Agent().EnableServiceMaintenanceOpts(id+"-sidecar-proxy", "ill", (&consulapi.QueryOptions{}).WithContext(t.Context())))
	}
	each(t, web, func(i *instance) {
		waitStatus(t, i.url("ill", "/"), http.StatusServiceUnavailable)
		if got := get(t, i.url("ill", "/")); strings.TrimSuffix(got.body, "\n") != "no healthy upstream" {
			t.Errorf("%s: status %d: %s", i.id, got.status, got.body)
		}
		eventually(t, "illtcp to be closed", func(ctx context.Context) error { return refused(ctx, local(i.upstreams["illtcp"])) })
	})
}

// testLate asks apps that do not listen yet, and then do.
func testLate(t *testing.T, web map[string]*instance, ports map[string]int) {
	t.Helper()
	each(t, web, func(i *instance) {
		for _, kind := range kinds() {
			waitStatus(t, i.url("late-"+kind, "/"), http.StatusServiceUnavailable)
			must(t, refused(t.Context(), local(i.upstreams["latetcp-"+kind])))
		}
	})
	for _, kind := range kinds() {
		startApp(t, "late-"+kind, ports["late-"+kind], "http", nil)
		startApp(t, "latetcp-"+kind, ports["latetcp-"+kind], "tcp", nil)
	}
	each(t, web, func(i *instance) {
		for _, kind := range kinds() {
			waitStatus(t, i.url("late-"+kind, "/"), http.StatusOK)
			waitTCP(t, local(i.upstreams["latetcp-"+kind]))
		}
	})
}
