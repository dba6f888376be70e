package admin_test

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/admin"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire/socket"
)

// clusters has one cluster with an endpoint that is not healthy.
func clusters(t *testing.T) *upstream.Set {
	t.Helper()
	set := upstream.NewSet(discard())
	commit, err := set.Prepare(map[string]*mesh.Cluster{"api": {
		Name: "api", Kind: mesh.ClusterStatic, StatName: "api.stat", Limits: mesh.Limits{MaxRequests: 7, HasRequests: true}, Outlier: &mesh.Outlier{},
		Endpoints: &mesh.EndpointSet{Name: "api", Endpoints: []mesh.Endpoint{
			{Address: mesh.Address{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}, Weight: 3, Health: mesh.Unhealthy, Hostname: "h"},
			{Address: mesh.Address{Socket: "/s"}, Weight: 1},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	return set
}

// rig is an interface with all that there can be.
type rig struct {
	url   string
	level *slog.LevelVar
	done  []string
	log   string
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{level: &slog.LevelVar{}, log: filepath.Join(t.TempDir(), "admin.log")}
	registry := &stats.Registry{}
	registry.Scope("http.a.").Counter("rbac.denied").Add(4)
	note := func(what string) { r.done = append(r.done, what) }
	r.url = serve(t, admin.Options{
		Address: "127.0.0.1:0", Source: &source{}, Metrics: metrics(), Level: r.level, AccessLog: r.log,
		View: &stats.View{Registry: registry},
		Plane: &admin.Plane{
			Dump: func(query url.Values) ([]byte, error) {
				if query.Get("resource") == "none" {
					return nil, &admin.QueryError{Status: http.StatusNotFound, Text: "none not found in config dump"}
				}
				return []byte(`{"configs": []}`), nil
			},
			Clusters: clusters(t).Clusters, Static: func(string) bool { return false },
			Listeners: func() []listen.Stats {
				return []listen.Stats{{Name: "a", Address: "[::1]:80"}, {Name: "b", Address: "/sock"}}
			},
			Snapshot: func() *mesh.Snapshot { return nil },
		},
		Actions: admin.Actions{
			Quit:   func() { note("quit") },
			Health: func(ok bool) { note(map[bool]string{true: "ok", false: "fail"}[ok]) },
			Drain: func(graceful, inbound, stay bool) {
				note("drain " + map[bool]string{true: "graceful "}[graceful] + map[bool]string{true: "inbound "}[inbound] + map[bool]string{true: "stay"}[stay])
			},
		},
		Info: admin.Info{Envoy: "1.35.8", Node: admin.Node{ID: "web-1"}, Layers: []string{"base"}, Runtime: map[string]string{"a": "1"}},
	})[0]
	return r
}

func (r *rig) do(t *testing.T, method, path string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, r.url+path, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

func TestPlane(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, row := range []struct {
		method, path string
		status       int
		texts        []string
	}{
		{"GET", "/config_dump", 200, []string{`{"configs": []}`}},
		{"GET", "/config_dump?resource=none", 404, []string{"none not found in config dump"}},
		{"GET", "/clusters", 200, []string{
			"api::observability_name::api.stat\n", "api::default_priority::max_requests::7\n", "api::high_priority::max_requests::1024\n",
			"api::added_via_api::true\n", "api::10.0.0.1:80::health_flags::/failed_eds_health\n", "api::10.0.0.1:80::hostname::h\n",
			"api::/s::health_flags::healthy\n", "api::/s::rq_total::0\n", "api::outlier::success_rate_average::-1\n",
		}},
		{"GET", "/clusters?format=json", 200, []string{`"eds_health_status": "UNHEALTHY"`, `"path": "/s"`, `"added_via_api": true`}},
		{"GET", "/listeners", 200, []string{"a::[::1]:80\nb::/sock\n"}},
		{"GET", "/listeners?format=json", 200, []string{`"address": "::1"`, `"port_value": 80`, `"path": "/sock"`}},
		{"GET", "/certs", 200, []string{`"certificates": []`}},
		{"GET", "/runtime", 200, []string{`"final_value": "1"`, `"base"`}},
		{"GET", "/memory", 200, []string{`"allocated": "`}},
		{"GET", "/server_info", 200, []string{"/1.35.8/", `"id": "web-1"`, `"hot_restart_version": "disabled"`}},
		{"GET", "/stats", 200, []string{"http.a.rbac.denied: 4\n"}},
		{"GET", "/stats?format=json&usedonly", 200, []string{`{"name":"http.a.rbac.denied","value":4}`}},
		{"GET", "/stats?type=Gauges", 200, nil},
		{"GET", "/stats?type=Odd", 400, []string{"usage"}},
		{"GET", "/stats?format=odd", 400, []string{"usage"}},
		{"GET", "/stats?histogram_buckets=cumulative", 200, []string{"http.a"}},
		{"GET", "/stats?histogram_buckets=odd", 400, []string{"usage"}},
		{"GET", "/stats?format=json&histogram_buckets=disjoint", 200, []string{`"stats"`}},
		{"GET", "/init_dump", 200, []string{"{}"}},
		{"GET", "/stats/prometheus", 200, []string{"envoy_http_a_rbac_denied{} 4\n", "serai_ready 1\n"}},
		{"GET", "/stats?format=prometheus&filter=none", 200, nil},
		{"POST", "/stats", 200, []string{"http.a"}},
		{"DELETE", "/stats", 405, []string{"Method DELETE not allowed"}},
		{"GET", "/help", 200, []string{"admin commands are:\n", "/quitquitquit (POST)"}},
		{"GET", "/", 200, []string{"<a href=\"stats\">/stats</a>", `<form action="quitquitquit" method="post">`}},
		{"GET", "/none", 404, []string{"invalid path. admin commands are:\n"}},
		{"GET", "/cpuprofiler", 404, nil},
		{"GET", "/hot_restart_version", 200, []string{"disabled\n"}},
	} {
		status, body := r.do(t, row.method, row.path)
		if status != row.status {
			t.Errorf("%s %s: status %d, want %d: %s", row.method, row.path, status, row.status, body)
		}
		for _, text := range row.texts {
			if !strings.Contains(body, text) {
				t.Errorf("%s %s: no %q in\n%s", row.method, row.path, text, body)
			}
		}
		if strings.Contains(row.path, "json") && !json.Valid([]byte(body)) {
			t.Errorf("%s: not JSON: %s", row.path, body)
		}
	}
	lines, err := os.ReadFile(r.log)
	if err != nil || !strings.Contains(string(lines), `"GET /none HTTP/1.1" 404 - 0 `) {
		t.Errorf("access log: %v: %.300s", err, lines)
	}
}

func TestActions(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	for _, path := range []string{"/quitquitquit", "/healthcheck/fail", "/healthcheck/ok", "/drain_listeners", "/reset_counters", "/logging"} {
		if status, body := r.do(t, "GET", path); status != http.StatusMethodNotAllowed || body != "Method GET not allowed, POST required." {
			t.Errorf("GET %s: %d %s", path, status, body)
		}
	}
	if len(r.done) != 0 {
		t.Errorf("GET has done %q", r.done)
	}
	for _, path := range []string{
		"/healthcheck/fail", "/healthcheck/ok", "/drain_listeners", "/drain_listeners?graceful&inboundonly", "/drain_listeners?graceful&skip_exit", "/quitquitquit", "/reset_counters",
	} {
		if status, body := r.do(t, "POST", path); status != 200 || body != "OK\n" {
			t.Errorf("POST %s: %d %s", path, status, body)
		}
	}
	if want := []string{"fail", "ok", "drain ", "drain graceful inbound ", "drain graceful stay", "quit"}; !slices.Equal(r.done, want) {
		t.Errorf("done %q, want %q", r.done, want)
	}
	if _, body := r.do(t, "GET", "/stats"); body != "http.a.rbac.denied: 0\n" {
		t.Errorf("after the reset: %s", body)
	}
	for _, row := range []struct {
		query string
		want  slog.Level
		code  int
	}{
		{"?level=debug", slog.LevelDebug, 200},
		{"?paths=upstream:warning,http:error", slog.LevelError, 200},
		{"?upstream=info", slog.LevelInfo, 200},
		{"?level=loud", slog.LevelInfo, 400},
		{"", slog.LevelInfo, 200},
	} {
		if status, body := r.do(t, "POST", "/logging"+row.query); status != row.code || r.level.Level() != row.want || !strings.Contains(body, "active loggers:") {
			t.Errorf("%s: %d, level %v: %s", row.query, status, r.level.Level(), body)
		}
	}
}

// TestTrap20: Nomad puts the admin interface on 127.0.0.2, which Linux has.
func TestTrap20AdminOnAnotherLoopback(t *testing.T) {
	t.Parallel()
	url := serve(t, admin.Options{Address: "127.0.0.2:0", Source: &source{}})[0]
	if status, body := get(t, url+"/ready"); status != 200 || body != "LIVE\n" || !strings.HasPrefix(url, "http://127.0.0.2:") {
		t.Errorf("%s: %d %s", url, status, body)
	}
}

// TestTrap19SharePort: in host mode, Nomad gives one port number on several loopback addresses and on all of them to a
// gateway.
func TestTrap19SharePort(t *testing.T) {
	t.Parallel()
	first, port := sharing(t)
	second := serve(t, admin.Options{Address: "0.0.0.0:" + port, SharePort: true, Source: &source{err: errors.New("draining")}})[0]
	for range 20 {
		if status, _ := get(t, first+"/ready"); status != 200 {
			t.Fatal("the less exact address was asked")
		}
	}
	if status, _ := get(t, "http://127.0.0.1:"+port+"/ready"); status != 503 {
		t.Errorf("%s does not answer", second)
	}
}

// sharing serves at a port of one address that may be had on all, too: the system
// gives ports that somebody has on another address, and does not share.
func sharing(t *testing.T) (url, port string) {
	t.Helper()
	config := net.ListenConfig{Control: socket.ReusePort}
	for range 100 {
		every, err := config.Listen(t.Context(), "tcp4", "0.0.0.0:0") // a port that is free on all
		if err != nil {
			t.Fatal(err)
		}
		_, port, _ = net.SplitHostPort(every.Addr().String())
		probe, err := config.Listen(t.Context(), "tcp4", "127.0.0.2:"+port)
		if err != nil {
			every.Close()
			continue
		}
		probe.Close()
		url = serve(t, admin.Options{Address: "127.0.0.2:" + port, SharePort: true, Source: &source{}})[0]
		every.Close()
		return url, port
	}
	t.Fatal("no port is free")
	return "", ""
}

func TestDegraded(t *testing.T) {
	t.Parallel()
	set := upstream.NewSet(discard())
	commit, err := set.Prepare(map[string]*mesh.Cluster{"api": {Name: "api", Kind: mesh.ClusterStatic, Endpoints: &mesh.EndpointSet{
		Name: "api", Endpoints: []mesh.Endpoint{{Address: mesh.Address{AddrPort: netip.MustParseAddrPort("10.0.0.1:80")}, Weight: 1, Health: mesh.Degraded}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	url := serve(t, admin.Options{Address: "127.0.0.1:0", Source: &source{}, Plane: &admin.Plane{
		Clusters: set.Clusters, Static: func(string) bool { return false },
	}})[0]
	for path, want := range map[string]string{"/clusters?format=json": `"DEGRADED"`, "/clusters": "::health_flags::/degraded_eds_health"} {
		if status, text := get(t, url+path); status != 200 || !strings.Contains(text, want) {
			t.Errorf("%s: %d %s", path, status, text)
		}
	}
	if got := set.Cluster("api").Describe(time.Now()).Endpoints[0].Health; got != "degraded" {
		t.Errorf("described as %s", got)
	}
}

func TestUnixSocket(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "admin.sock")
	for range 2 { // the second finds what the first has left behind
		s, err := admin.Listen(admin.Options{Address: "unix://" + path, AddressPath: path + ".addr", Source: &source{}}, discard())
		if err != nil {
			t.Fatal(err)
		}
		if got := s.Addresses(); len(got) != 1 || got[0] != path {
			t.Errorf("bound %q", got)
		}
		if text, err := os.ReadFile(path + ".addr"); err != nil || string(text) != path {
			t.Errorf("address file: %q, %v", text, err)
		}
		if _, err := admin.Listen(admin.Options{Address: "unix://" + path, Source: &source{}}, discard()); err == nil {
			t.Error("taken twice")
		}
		s.Abandon()
	}
}

func FuzzQuery(f *testing.F) {
	f.Add("/stats?filter=%28&format=json&type=All&usedonly")
	f.Add("/clusters?format=json")
	f.Add("/logging?paths=a:b,c")
	handler := admin.Handler(admin.Options{Source: &source{}, View: &stats.View{Registry: &stats.Registry{}}, Level: &slog.LevelVar{}})
	f.Fuzz(func(t *testing.T, target string) {
		if !strings.HasPrefix(target, "/") {
			return
		}
		uri, err := url.ParseRequestURI(target)
		if err != nil {
			return
		}
		for _, method := range []string{"GET", "POST"} {
			w := httptest.NewRecorder()
			handler.ServeHTTP(w, &http.Request{Method: method, URL: uri, Header: http.Header{}})
			if w.Code < 200 || w.Code >= 500 {
				t.Errorf("%s %s: %d", method, target, w.Code)
			}
		}
	})
}

// As long as it is not ready, /init_dump says for what it waits.
func TestInitDump(t *testing.T) {
	t.Parallel()
	url := serve(t, admin.Options{Address: "127.0.0.1:0", Source: &source{err: errors.New("no listener yet")}, Plane: &admin.Plane{}})[0]
	status, body := get(t, url+"/init_dump")
	var got struct {
		Dumps []struct {
			Name    string   `json:"name"`
			Targets []string `json:"target_names"`
		} `json:"unready_targets_dumps"`
	}
	if err := json.Unmarshal([]byte(body), &got); err != nil || status != 200 {
		t.Fatalf("%d %s: %v", status, body, err)
	}
	if len(got.Dumps) != 1 || len(got.Dumps[0].Targets) != 1 || got.Dumps[0].Targets[0] != "no listener yet" {
		t.Errorf("%+v", got)
	}
}
