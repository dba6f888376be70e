package integration_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

const (
	outage = 30 * time.Second // how long Consul is gone
	back   = 20 * time.Second // how long it is watched after its return
)

// agent is a Consul agent that can go and come back.
type agent interface {
	Kill() error
	Start(ctx context.Context) error
}

// TestOutage takes the Consul agent away under load and gives it back. A restarted agent calls every check critical
// until it has run, and tells all proxies so.
func TestOutage(t *testing.T) {
	t.Parallel()
	t.Run("client agent", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, map[string]string{"web": "http", "api": "http", "legacy": "http"})
		testOutage(t, w, w.joinClient(t))
	})
	t.Run("server", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t, map[string]string{"web": "http", "api": "http", "legacy": "http"})
		testOutage(t, w, w.consul)
	})
}

func testOutage(t *testing.T, w *world, consul agent) {
	t.Helper()
	w.interval = "5s" // so that the restarted agent does not know better for a while
	w.allow(t, "edge", "api")
	w.allow(t, "web", "api", "db")
	apis := []*instance{w.run(t, "api-1", "api"), w.run(t, "api-2", "api")}
	w.run(t, "db-1", "db")
	web := w.run(t, "web-1", "web", "api", "db")
	w.plain(t, "legacy-1")
	routes := mesh("api")
	routes["legacy"] = `catalog = "legacy"`
	g := w.edge(t, routes)
	w.waitOK(t, g.url("/api"), g.url("/legacy"), web.url("api", "/"))
	waitTCP(t, local(web.upstreams["db"]))
	must(t, w.consul.WaitHealthy(t.Context(), "api-sidecar-proxy", len(apis)))

	loads := map[string]*harness.Load{
		"edge to api":               load(t, g.url("/api")),
		"edge to a catalog service": load(t, g.url("/legacy")),
		"web to api":                load(t, web.url("api", "/")),
		"new connections to api":    loadBy(t, closing(t), g.url("/api"), 1),
	}
	talk := stream(t, local(web.upstreams["db"]))
	pause(t, time.Second)
	must(t, consul.Kill())
	pause(t, outage)
	stillClean(t, "while Consul was gone", loads)
	must(t, dialMirror(t, local(web.upstreams["db"])).ping("a new connection while Consul is gone"))
	must(t, consul.Start(t.Context()))
	pause(t, back)
	talk.end(t)
	clean(t, loads)
	t.Logf("on its return %s", whatWasHeld(g.process, web.sidecar))
	for _, i := range apis {
		if i.app.hits.Load() == 0 {
			t.Errorf("%s was not asked", i.id)
		}
	}
	// It is not only that nothing was lost: the proxies hear Consul again.
	must(t, w.consul.Intention(t.Context(), "edge", "api", false))
	waitStatus(t, g.url("/api"), http.StatusForbidden)
}

// whatWasHeld finds what proxies tell of updates that they held back.
func whatWasHeld(processes ...*harness.Process) string {
	const nobody = "nobody tells of holding back"
	told := nobody
	for _, p := range processes {
		if logHas(p, "the old ones are kept", "keeping them") {
			told = strings.TrimPrefix(told+", and "+p.Name+" tells that it held back", nobody+", ")
		}
	}
	return told
}

// plain starts an instance of a service that is not in the mesh.
func (w *world) plain(t *testing.T, id string) *app {
	t.Helper()
	const service = "legacy"
	port := w.ports(t, 1)
	a := startApp(t, id, port, "http", nil)
	must(t, w.consul.RegisterService(t.Context(), &consulapi.AgentServiceRegistration{
		ID: id, Name: service, Address: "127.0.0.1", Port: port,
		Check: &consulapi.AgentServiceCheck{TCP: local(port), Interval: w.interval, Timeout: "1s"},
	}, w.token(t, service)))
	return a
}
