package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

const betaKey = "the-key-of-beta"

// measured is the main path with all that it tells.
type measured struct {
	*world
	gate                           *gate
	web, api, guest, db            *instance
	edgeM, webM, apiM, guestM, dbM *meter
}

// TestTelemetry compares what the edge and the sidecars count with what the clients have seen, along
//
//	acme, beta ── edge ══ web ══ api         (http)
//	                       ╚════ db          (tcp); guest may not
func TestTelemetry(t *testing.T) {
	t.Parallel()
	m := &measured{world: newWorld(t, map[string]string{"web": "http", "api": "http", "guest": "http"})}
	m.allow(t, "edge", "web", "api")
	m.allow(t, "web", "api", "db")
	m.api, m.apiM = m.meteredSidecar(t, "api-1", "api")
	m.db, m.dbM = m.meteredSidecar(t, "db-1", "db")
	m.web, m.webM = m.meteredSidecar(t, "web-1", "web", "api", "db")
	m.guest, m.guestM = m.meteredSidecar(t, "guest-1", "guest", "db")
	m.startEdge(t)
	m.waitOK(t, m.gate.url("/api"), m.gate.url("/web/via/api/x/"))
	waitTCP(t, local(m.web.upstreams["db"]))
	waitStatus(t, m.gate.url("/guest"), http.StatusForbidden)

	t.Run("requests", m.testRequests)
	t.Run("connections", m.testConnections)
	t.Run("times", m.testTimes)
	t.Run("abort", m.testAbort)
	t.Run("process", m.testProcess)
	t.Run("access log of api-1", m.apiM.agrees)
	t.Run("upstream gone", m.testUpstreamGone)
	for _, one := range []*meter{m.edgeM, m.webM, m.guestM, m.dbM} {
		t.Run("access log of "+one.name, one.agrees)
	}
	t.Run("rotation", m.testRotation)
	t.Run("stop", m.testStop)
}

// startEdge starts an edge with admin interface and access log, and one more consumer.
func (m *measured) startEdge(t *testing.T) {
	t.Helper()
	m.edgeM = &meter{name: "edge", admin: local(m.ports(t, 1)), log: filepath.Join(m.env.Dir(), "edge.log")}
	m.gate = startGate(t, m.env, fmt.Sprintf(`
consul {
  address      = %q
  grpc_address = %q
  token        = %q
}
admin { address = %q }
edge {
  access_log {
    path   = %q
    format = "json"
  }
  consumer "beta" {
    key "test" { key = %q }
  }
}
`, m.consul.HTTPAddr, m.consul.GRPCAddr, m.token(t, "edge"), m.edgeM.admin, m.edgeM.log, betaKey), mesh("web", "api", "guest"))
	m.edgeM.process = m.gate.process
}

// loads starts loads by name, with a key and a path each.
func (m *measured) loads(t *testing.T, all map[string][2]string) map[string]*harness.Load {
	t.Helper()
	started := map[string]*harness.Load{}
	for name, one := range all {
		started[name] = harness.StartLoad(t.Context(), harness.LoadConfig{
			Client: strict(t), URL: m.gate.url(one[1]), Workers: 2, Pause: 2 * time.Millisecond,
			Header: http.Header{"X-Api-Key": {one[0]}},
		})
	}
	return started
}

// testRequests makes loads of all kinds while all processes are being scraped.
func (m *measured) testRequests(t *testing.T) {
	route := append([]string{"route"}, callers()...)
	before := map[*meter]map[string]float64{m.edgeM: m.edgeM.settled(t, "serai_requests_total", route...)}
	for _, one := range []*meter{m.webM, m.apiM, m.guestM} {
		before[one] = one.settled(t, "serai_requests_total", callers()...)
	}
	scraping, stop := context.WithCancel(t.Context())
	var scrapers sync.WaitGroup
	for _, one := range []*meter{m.edgeM, m.webM} {
		scrapers.Go(func() {
			client := strict(t)
			for scraping.Err() == nil {
				if _, err := one.scrape(scraping, client); err != nil && scraping.Err() == nil {
					t.Errorf("scrape of %s under load: %v", one.name, err)
				}
			}
		})
	}
	loads := m.loads(t, map[string][2]string{
		"acme asks web": {acmeKey, "/web/"}, "beta asks web for api": {betaKey, "/web/via/api/x/"},
		"acme asks guest": {acmeKey, "/guest/"}, "no route": {acmeKey, "/nothing"}, "wrong key": {"wrong", "/web/"},
	})
	pause(t, 2*time.Second)
	seen := map[string]float64{}
	want := map[string]int{
		"acme asks web": 200, "beta asks web for api": 200, "acme asks guest": 403, "no route": 404, "wrong key": 401,
	}
	for name, load := range loads {
		report := load.Stop()
		t.Logf("%s: %v requests %v", name, report.Requests, report.Status)
		seen[name] = counts(report)[want[name]]
		if len(report.Status) != 1 || len(report.Errors) > 0 || seen[name] == 0 {
			t.Errorf("%s: %v", name, report)
		}
	}
	stop()
	scrapers.Wait()
	acme, beta, denied := seen["acme asks web"], seen["beta asks web for api"], seen["acme asks guest"]
	m.edgeM.wants(t, "serai_requests_total", before[m.edgeM], map[string]float64{
		"shop/web edge edge web acme 200 -":     acme,
		"shop/web edge edge web beta 200 -":     beta,
		"shop/guest edge edge guest acme 403 -": denied,
		"- edge edge - - 404 NR":                seen["no route"],
		"shop/web edge edge - - 401 UNA":        seen["wrong key"],
	}, route...)
	m.webM.wants(t, "serai_requests_total", before[m.webM], map[string]float64{
		"inbound edge web - 200 -": acme + beta,
		"outbound web api - 200 -": beta,
	}, callers()...)
	m.apiM.wants(t, "serai_requests_total", before[m.apiM], map[string]float64{"inbound web api - 200 -": beta}, callers()...)
	m.guestM.wants(t, "serai_requests_total", before[m.guestM], map[string]float64{"inbound edge guest - 403 UAEX": denied}, callers()...)
}

// testConnections compares TCP connections and their bytes.
func (m *measured) testConnections(t *testing.T) {
	const total, active = "serai_connections_total", "serai_connections_active"
	path := []string{"direction", "source", "destination"}
	webBefore, dbBefore := m.webM.settled(t, total, callers()...), m.dbM.settled(t, total, callers()...)
	bytesBefore := m.dbM.settled(t, "serai_connection_received_bytes_total", path...)
	const many = 7
	var open []*mirror
	for range many {
		c := dialMirror(t, local(m.web.upstreams["db"]))
		must(t, c.ping("hello"))
		open = append(open, c)
	}
	m.webM.wants(t, active, nil, map[string]float64{"outbound web db": many}, path...)
	m.dbM.wants(t, active, nil, map[string]float64{"inbound web db": many}, path...)
	m.dbM.wants(t, "serai_connection_received_bytes_total", bytesBefore, map[string]float64{"inbound web db": 6 * many}, path...)
	for _, c := range open {
		drop(c.conn)
	}
	denied := dialMirror(t, local(m.guest.upstreams["db"]))
	if err := denied.ping("hello"); err == nil {
		t.Error("guest may not call db, and is answered")
	}
	m.webM.wants(t, total, webBefore, map[string]float64{"outbound web db - - -": many}, callers()...)
	m.webM.wants(t, active, nil, map[string]float64{}, path...)
	m.dbM.wants(t, total, dbBefore, map[string]float64{
		"inbound web db - - -": many, "inbound guest db - - UAEX": 1,
	}, callers()...)
}

// testTimes asks a service that takes its time: that is the upstream's.
func (m *measured) testTimes(t *testing.T) {
	const slow = 300 * time.Millisecond
	wantStatus(t, get(t, m.gate.url("/web/slow/"+slow.String())), http.StatusOK)
	for _, one := range []*meter{m.edgeM, m.webM} {
		eventually(t, "a line of "+one.name, func(context.Context) error {
			for _, l := range one.lines(t) {
				if !strings.HasSuffix(l.Path, "/slow/"+slow.String()) {
					continue
				}
				t.Logf("%s: %.3f ms in all, %.3f upstream, %.3f in the proxy", one.name, l.DurationMS, l.UpstreamMS, l.ProxyMS)
				if l.UpstreamMS < float64(slow.Milliseconds()) || l.ProxyMS > l.DurationMS-float64(slow.Milliseconds()) {
					t.Errorf("%s: %+v", one.name, l)
				}
				return nil
			}
			return errNotYet
		})
	}
}

// testAbort leaves while the service takes its time.
func (m *measured) testAbort(t *testing.T) {
	edgeBefore, apiBefore := m.edgeM.settled(t, "serai_requests_total", callers()...), m.apiM.settled(t, "serai_requests_total", callers()...)
	const many = 3
	for range many {
		hits := m.api.app.hits.Load()
		ctx, leave := context.WithCancel(t.Context())
		go func() {
			defer leave()
			eventually(t, "the request to arrive", func(context.Context) error {
				if m.api.app.hits.Load() == hits {
					return errNotYet
				}
				return nil
			})
			pause(t, 200*time.Millisecond)
		}()
		if _, err := fetch(ctx, strict(t), m.gate.url("/api/slow/20s")); err == nil {
			t.Error("answered before the client left")
		}
	}
	m.edgeM.wants(t, "serai_requests_total", edgeBefore, map[string]float64{"edge edge api acme 0 DC": many}, callers()...)
	m.apiM.wants(t, "serai_requests_total", apiBefore, map[string]float64{"inbound edge api - 0 DC": many}, callers()...)
}

// testProcess looks at what is not counted per request.
func (m *measured) testProcess(t *testing.T) {
	for _, one := range []*meter{m.edgeM, m.webM} {
		families, err := one.scrape(t.Context(), strict(t))
		must(t, err)
		for name, want := range map[string]float64{"serai_ready": 1, "serai_xds_connected": 1, "serai_xds_rejected_total": 0, "serai_metrics_collapsed_total": 0} {
			if families[name] == nil || byLabels(families[name])[""] != want {
				t.Errorf("%s: %s is %v", one.name, name, families[name])
			}
		}
		for _, name := range []string{
			"serai_build_info", "go_goroutines", "process_cpu_seconds_total", "serai_listener_downstream_cx_total",
			"serai_cluster_upstream_rq_total", "serai_cluster_membership_healthy", "serai_request_upstream_seconds",
		} {
			if len(families[name].GetMetric()) == 0 {
				t.Errorf("%s: no %s", one.name, name)
			}
		}
		own := map[*meter]string{m.edgeM: "/svc/edge", m.webM: "/svc/web"}[one]
		expiry := byLabels(families["serai_certificate_expiry_timestamp_seconds"], "name")
		if len(expiry) != 1 {
			t.Errorf("%s: certificates %v", one.name, expiry)
		}
		for name, at := range expiry {
			if !strings.HasSuffix(name, own) || time.Unix(int64(at), 0).Before(time.Now()) {
				t.Errorf("%s: certificate of %s expires at %v", one.name, name, at)
			}
		}
		want := families["serai_listener_downstream_cx_total"]
		stats := get(t, "http://"+one.admin+"/stats?filter=^listener.*downstream_cx_total")
		if stats.status != http.StatusOK || strings.Count(stats.body, "\n") != len(want.GetMetric()) {
			t.Errorf("%s: /stats says %s", one.name, stats.body)
		}
		wantStatus(t, get(t, "http://"+one.admin+"/ready"), http.StatusOK)
	}
}

// testUpstreamGone kills the sidecar of api: the edge answers itself.
func (m *measured) testUpstreamGone(t *testing.T) {
	must(t, m.api.sidecar.Kill())
	before := m.edgeM.settled(t, "serai_requests_total", "destination", "consumer", "code")
	loads := m.loads(t, map[string][2]string{"acme": {acmeKey, "/api/"}, "beta": {betaKey, "/api/"}})
	pause(t, time.Second)
	want := map[string]float64{}
	for name, load := range loads {
		report := load.Stop()
		t.Logf("%s: %v requests %v", name, report.Requests, report.Status)
		want["api "+name+" 503"] = counts(report)[503]
		if len(report.Status) != 1 || len(report.Errors) > 0 {
			t.Errorf("%s: %v", name, report)
		}
	}
	m.edgeM.wants(t, "serai_requests_total", before, want, "destination", "consumer", "code")
	// refused connections, and once Consul has noticed, no instance
	flags := m.edgeM.settled(t, "serai_requests_total", "destination", "code", "flag")
	t.Logf("flags: %v", flags)
	for flag := range flags {
		if strings.HasPrefix(flag, "api 503 ") && flag != "api 503 UF" && flag != "api 503 UH" && flag != "api 503 UC" {
			t.Errorf("flags %v", flags)
		}
	}
}
