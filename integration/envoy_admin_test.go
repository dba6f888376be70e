package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// sameCounters are metrics that dashboards made for Envoy and Consul's own checks ask for: with the same labels, and the
// same value after the same requests.
const sameCounters = `
envoy_cluster_upstream_rq_total envoy_cluster_upstream_rq envoy_cluster_upstream_rq_xx envoy_cluster_upstream_rq_completed
envoy_cluster_external_upstream_rq envoy_cluster_external_upstream_rq_xx envoy_cluster_external_upstream_rq_completed
envoy_cluster_upstream_cx_total envoy_cluster_upstream_cx_http1_total envoy_cluster_upstream_cx_connect_fail envoy_cluster_upstream_cx_none_healthy
envoy_cluster_upstream_rq_timeout envoy_cluster_upstream_rq_retry envoy_cluster_upstream_rq_pending_overflow
envoy_cluster_membership_total envoy_cluster_membership_healthy envoy_cluster_ssl_handshake envoy_cluster_ssl_connection_error
envoy_cluster_upstream_cx_active envoy_cluster_upstream_rq_active envoy_cluster_outlier_detection_ejections_active
envoy_cluster_circuit_breakers_default_rq_open envoy_cluster_circuit_breakers_default_cx_open envoy_cluster_lb_healthy_panic
envoy_http_downstream_rq_total envoy_http_downstream_rq_xx envoy_http_downstream_rq_completed envoy_http_downstream_rq_active
envoy_http_downstream_rq_http1_total envoy_http_downstream_cx_total envoy_http_downstream_cx_http1_total envoy_http_downstream_cx_ssl_total
envoy_http_rq_total envoy_http_no_route envoy_http_no_cluster envoy_http_rbac_allowed envoy_http_rbac_denied
envoy_listener_downstream_cx_total envoy_listener_http_downstream_rq_xx envoy_listener_no_filter_chain_match
envoy_cluster_upstream_rq_time_count envoy_http_downstream_rq_time_count envoy_server_live envoy_control_plane_connected_state
envoy_cluster_manager_active_clusters envoy_listener_manager_total_listeners_active envoy_server_days_until_first_cert_expiring
`

// sameNames are those that must be there with the same labels, whatever their value.
const sameNames = `
envoy_server_uptime envoy_server_version envoy_server_memory_allocated envoy_server_memory_heap_size envoy_server_total_connections envoy_server_concurrency
envoy_cluster_upstream_rq_time_bucket envoy_cluster_upstream_rq_time_sum envoy_http_downstream_rq_time_bucket envoy_cluster_upstream_cx_connect_ms_bucket
envoy_http_downstream_cx_length_ms_bucket envoy_cluster_upstream_cx_rx_bytes_total envoy_cluster_upstream_cx_tx_bytes_total
envoy_http_downstream_cx_rx_bytes_total envoy_http_downstream_cx_tx_bytes_total envoy_cluster_upstream_cx_destroy envoy_cluster_upstream_rq_pending_total
envoy_cluster_outlier_detection_ejections_enforced_total envoy_cluster_upstream_rq_rx_reset envoy_cluster_upstream_cx_connect_timeout
envoy_listener_downstream_cx_active envoy_http_downstream_rq_rx_reset envoy_cluster_manager_cds_update_success envoy_listener_manager_lds_update_success
envoy_cluster_circuit_breakers_default_rq_pending_open envoy_cluster_circuit_breakers_default_rq_retry_open envoy_cluster_upstream_rq_cancelled
envoy_runtime_load_error envoy_runtime_num_keys envoy_http_downstream_cx_destroy envoy_cluster_ssl_session_reused
`

// observed is what the outside of a proxy tells.
type observed struct {
	values  map[string]string          // of sameCounters by name with labels
	names   map[string]map[string]bool // labels, without their values where these tell of time or size, by name
	statsd  map[string]bool            // names and kinds of lines
	dog     map[string]bool
	configs []string // types in the dump, in order
	hosts   []string // of each cluster
}

var (
	seriesLine = regexp.MustCompile(`^([a-zA-Z0-9_]+)\{(.*)\} (\S+)$`)
	label      = regexp.MustCompile(`([a-z_]+)="((?:[^"\\]|\\.)*)"`)
)

// unlike tells what of Envoy has no like here: its admin listener and its own client are no listeners and clusters.
func unlike(labels string) bool {
	return strings.Contains(labels, `="admin"`) || strings.Contains(labels, "local_agent") || strings.Contains(labels, "async-client") || strings.Contains(labels, "worker_id")
}

// differs tells what is meant to differ: a bare TCP check, which Consul makes every second here, is no connection to HTTP
// as long as it does not say a word.
func differs(name, labels string) bool {
	return strings.Contains(name, "downstream_cx_") && strings.Contains(labels, "envoy_http_conn_manager_prefix=public_listener") ||
		strings.HasPrefix(name, "envoy_listener_downstream_cx_total") // of which there are as many as the second has brought
}

// scrape reads what Prometheus would.
func (o *observed) scrape(t *testing.T, url string) {
	t.Helper()
	o.values, o.names = map[string]string{}, map[string]map[string]bool{}
	for line := range strings.Lines(get(t, url).body) {
		m := seriesLine.FindStringSubmatch(strings.TrimSpace(line))
		if m == nil || unlike(m[2]) {
			continue
		}
		var labels []string
		for _, l := range label.FindAllStringSubmatch(m[2], -1) {
			labels = append(labels, l[1]+"="+l[2])
		}
		slices.Sort(labels)
		text := strings.Join(labels, ",")
		if slices.Contains(strings.Fields(sameCounters), m[1]) {
			// A code that never came is a line or none.
			if (m[3] != "0" || !strings.Contains(text, "response_code")) && !differs(m[1], text) {
				o.values[m[1]+"{"+text+"}"] = m[3]
			}
		}
		if slices.Contains(strings.Fields(sameNames), m[1]) {
			if o.names[m[1]] == nil {
				o.names[m[1]] = map[string]bool{}
			}
			o.names[m[1]][text] = true
		}
	}
}

// udp takes datagrams until the test ends.
type udp struct {
	mu    sync.Mutex // guards:
	lines map[string]bool
}

func listenUDP(t *testing.T) (*udp, int) {
	t.Helper()
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	must(t, err)
	t.Cleanup(func() { drop(conn) })
	u := &udp{lines: map[string]bool{}}
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buffer)
			if err != nil {
				return
			}
			u.mu.Lock()
			for line := range strings.SplitSeq(string(buffer[:n]), "\n") {
				u.lines[line] = true
			}
			u.mu.Unlock()
		}
	}()
	addr, ok := conn.LocalAddr().(*net.UDPAddr)
	if !ok {
		t.Fatal("no port")
	}
	return u, addr.Port
}

// take returns the names, kinds and tags of the lines on requests, and begins anew.
func (u *udp) take() map[string]bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	out := map[string]bool{}
	for line := range u.lines {
		name, rest, ok := strings.Cut(line, ":")
		parts := strings.Split(rest, "|")
		if !ok || len(parts) < 2 || unlike(line) || strings.Contains(line, "admin") {
			continue
		}
		if !strings.Contains(name, "rq_") && !strings.Contains(name, "cx_total") && !strings.Contains(name, "upstream_rq") {
			continue
		}
		// Of what goes up and down it is chance what a flush sees, and the checks differ (see there).
		if parts[1] == "g" || strings.Contains(name, "downstream_cx") || strings.Contains(name, "pending") || strings.Contains(name, "rq_time") && parts[1] == "c" {
			continue
		}
		tags := ""
		if last := parts[len(parts)-1]; strings.HasPrefix(last, "#") {
			list := strings.Split(last[1:], ",")
			slices.Sort(list)
			tags = strings.Join(list, ",")
		}
		out[name+"|"+parts[1]+"|"+tags] = true
	}
	u.lines = map[string]bool{}
	return out
}

// TestAdminBesideEnvoy starts our sidecar and then Envoy with the same bootstrap, sends both the same requests and
// compares what they tell: metrics with their labels and values, lines of statsd and DogStatsD, and what the admin
// interface says.
func TestAdminBesideEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	envoy, err := w.env.Envoy()
	must(t, err)
	w.allow(t, "web", "api")
	statsd, statsdPort := listenUDP(t)
	dog, dogPort := listenUDP(t)
	prometheus := w.ports(t, 1)
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ProxyConfigEntry{
		Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal,
		Config: map[string]any{
			"envoy_prometheus_bind_addr": local(prometheus), "envoy_stats_flush_interval": "1s", "envoy_stats_tags": []string{"team=caravan"},
			"envoy_statsd_url": fmt.Sprintf("udp://127.0.0.1:%d", statsdPort), "envoy_dogstatsd_url": fmt.Sprintf("udp://127.0.0.1:%d", dogPort),
		},
	}))
	api := w.run(t, "api-1", "api")
	web := w.register(t, "web-1", "web", "api")
	sidecarReady(t, api)
	must(t, w.consul.WaitHealthy(t.Context(), "api-sidecar-proxy", 1))
	file := filepath.Join(w.env.Dir(), "web.json")
	must(t, os.WriteFile(file, w.bootstrap(t, web), 0o600))

	see := func(name, program string, args ...string) *observed {
		var err error
		web.sidecar, err = w.env.Start(harness.Command{Name: name, Path: program, Args: append(args, "-c", file, "--disable-hot-restart", "-l", "warning")})
		must(t, err)
		o := &observed{}
		waitStatus(t, "http://"+local(prometheus)+"/metrics", http.StatusOK)
		base := "http://" + local(web.admin)
		eventually(t, "the endpoint of api", func(ctx context.Context) error {
			got, err := fetch(ctx, http.DefaultClient, base+"/clusters")
			if err == nil && !strings.Contains(got.body, local(api.public)+"::health_flags::healthy") {
				err = errNotYet
			}
			return err
		})
		statsd.take()
		dog.take()
		for _, row := range []struct {
			path   string
			times  int
			status int
		}{{"/", 5, 200}, {"/nothing", 2, 404}, {"/fail/api-1", 1, 0}} {
			for range row.times {
				got := get(t, web.url("api", row.path))
				if row.status != 0 && got.status != row.status {
					t.Errorf("%s: %s: status %d", name, row.path, got.status)
				}
			}
		}
		eventually(t, "lines of statsd", func(context.Context) error {
			if o.statsd == nil || !mentions(o.statsd, "upstream_rq_404") {
				o.statsd = merge(o.statsd, statsd.take())
				o.dog = merge(o.dog, dog.take())
				return errNotYet
			}
			return nil
		})
		pause(t, 2e9) // two more flushes, that what came late is there
		o.statsd, o.dog = merge(o.statsd, statsd.take()), merge(o.dog, dog.take())
		o.scrape(t, base+"/stats/prometheus")
		var dump struct {
			Configs []struct {
				Type string `json:"@type"`
			}
		}
		must(t, json.Unmarshal([]byte(get(t, base+"/config_dump?include_eds").body), &dump))
		for _, c := range dump.Configs {
			o.configs = append(o.configs, c.Type)
		}
		var clusters struct {
			Statuses []struct {
				Name  string `json:"name"`
				API   bool   `json:"added_via_api"`
				Hosts []struct {
					Address struct {
						Socket struct {
							Port int `json:"port_value"`
						} `json:"socket_address"`
					}
					Health struct {
						EDS string `json:"eds_health_status"`
					} `json:"health_status"`
				} `json:"host_statuses"`
			} `json:"cluster_statuses"`
		}
		must(t, json.Unmarshal([]byte(get(t, base+"/clusters?format=json").body), &clusters))
		for _, c := range clusters.Statuses {
			o.hosts = append(o.hosts, fmt.Sprintf("%s %t %v", c.Name, c.API, c.Hosts))
		}
		slices.Sort(o.hosts)
		troubleshoot(t, w, web.admin)
		batsHelpers(t, base)
		must(t, web.sidecar.Stop(t.Context()))
		return o
	}
	ours := see("serai-web", asEnvoy(t, w.env))
	theirs := see("envoy-web", envoy, "--concurrency", "1")
	if diff := cmp.Diff(theirs.values, ours.values); diff != "" {
		t.Errorf("metrics (-Envoy +ours):\n%s", diff)
	}
	if diff := cmp.Diff(theirs.names, ours.names); diff != "" {
		t.Errorf("names and labels (-Envoy +ours):\n%s", diff)
	}
	if len(theirs.values) < 60 || len(theirs.names) < 25 {
		t.Errorf("only %d values and %d names were compared", len(theirs.values), len(theirs.names))
	}
	for kind, both := range map[string][2]map[string]bool{"statsd": {theirs.statsd, ours.statsd}, "DogStatsD": {theirs.dog, ours.dog}} {
		for line := range both[0] {
			if !both[1][line] {
				t.Errorf("%s: Envoy sends %s, we do not", kind, line)
			}
		}
		if len(both[0]) < 10 {
			t.Errorf("%s: only %d lines were compared", kind, len(both[0]))
		}
	}
	if diff := cmp.Diff(theirs.configs, ours.configs); diff != "" {
		t.Errorf("order of the dump (-Envoy +ours):\n%s", diff)
	}
	if diff := cmp.Diff(theirs.hosts, ours.hosts); diff != "" {
		t.Errorf("clusters (-Envoy +ours):\n%s", diff)
	}
}

func mentions(lines map[string]bool, text string) bool {
	return slices.ContainsFunc(slices.Collect(maps.Keys(lines)), func(line string) bool { return strings.Contains(line, text) })
}

func merge(into, more map[string]bool) map[string]bool {
	if into == nil {
		into = map[string]bool{}
	}
	maps.Copy(into, more)
	return into
}

// troubleshoot lets Consul's own tool look at a sidecar.
func troubleshoot(t *testing.T, w *world, admin int) {
	t.Helper()
	consul, err := w.env.Tool("consul")
	must(t, err)
	for _, row := range []struct {
		args  []string
		texts []string
	}{
		{[]string{"upstreams"}, []string{"api"}},
		{[]string{"proxy", "-upstream-envoy-id", "api"}, []string{
			"Certificates are valid", "Envoy has 0 rejected configurations", "Listener for upstream \"api\" found", "Healthy endpoints for cluster", "Upstream resources are valid",
		}},
	} {
		args := append(append([]string{"troubleshoot"}, row.args...), "-envoy-admin-endpoint", local(admin))
		cmd := exec.CommandContext(t.Context(), consul, args...)
		cmd.Env = append(os.Environ(), w.consul.Environ("")...)
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Errorf("consul %q: %v: %s", args, err, out)
		}
		for _, text := range row.texts {
			if !strings.Contains(string(out), text) {
				t.Errorf("consul %q does not say %q:\n%s", args, text, out)
			}
		}
	}
}

// batsHelpers asks what the helpers of Consul's own suite ask.
func batsHelpers(t *testing.T, base string) {
	t.Helper()
	var info struct{ Version, State string }
	must(t, json.Unmarshal([]byte(get(t, base+"/server_info").body), &info))
	if info.State != "LIVE" || !regexp.MustCompile(`/\d+\.\d+\.\d+/`).MatchString(info.Version) {
		t.Errorf("/server_info: %+v", info)
	}
	var dump struct {
		Configs []struct {
			Dynamic []struct {
				Name   string `json:"name"`
				Active struct {
					Listener struct {
						Name         string `json:"name"`
						FilterChains []any  `json:"filter_chains"`
					} `json:"listener"`
				} `json:"active_state"`
			} `json:"dynamic_listeners"`
		}
	}
	must(t, json.Unmarshal([]byte(get(t, base+"/config_dump").body), &dump))
	var names []string
	for _, l := range dump.Configs[2].Dynamic {
		kind, _, _ := strings.Cut(l.Active.Listener.Name, ":")
		names = append(names, kind)
	}
	slices.Sort(names)
	if !slices.Equal(names, []string{"api", "public_listener"}) {
		t.Errorf(".configs[2].dynamic_listeners: %q", names)
	}
	count := func() string {
		for line := range strings.Lines(get(t, base+"/stats").body) {
			if strings.HasPrefix(line, "cluster.api.") && strings.Contains(line, ".upstream_rq_200:") {
				return strings.TrimSpace(line[strings.LastIndexByte(line, ' '):])
			}
		}
		return "0"
	}
	if count() == "0" {
		t.Errorf("/stats: no requests to api")
	}
	resp, err := http.Post(base+"/reset_counters", "", nil)
	must(t, err)
	defer drop(resp.Body)
	if got := count(); resp.StatusCode != http.StatusOK || got != "0" {
		t.Errorf("after POST /reset_counters (%d): %s", resp.StatusCode, got)
	}
}

// TestTCPStatsBesideEnvoy compares what a sidecar of a tcp service counts: connections' bytes and what intentions decide.
func TestTCPStatsBesideEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, nil)
	envoy, err := w.env.Envoy()
	must(t, err)
	w.allow(t, "client", "db")
	must(t, w.consul.Intention(t.Context(), "stranger", "db", false))
	db := w.register(t, "db-1", "db")
	client, stranger := w.run(t, "client-1", "client", "db"), w.run(t, "stranger-1", "stranger", "db")
	sidecarReady(t, client)
	sidecarReady(t, stranger)
	file := filepath.Join(w.env.Dir(), "db.json")
	must(t, os.WriteFile(file, w.bootstrap(t, db), 0o600))
	see := func(name, program string, args ...string) map[string]string {
		var err error
		db.sidecar, err = w.env.Start(harness.Command{Name: name, Path: program, Args: append(args, "-c", file, "--disable-hot-restart", "-l", "warning")})
		must(t, err)
		listens(t, db)
		must(t, w.consul.WaitHealthy(t.Context(), "db-sidecar-proxy", 1))
		waitTCP(t, local(client.upstreams["db"]))
		must(t, refused(t.Context(), local(stranger.upstreams["db"])))
		count := func() map[string]string {
			out := map[string]string{}
			for line := range strings.Lines(get(t, "http://"+local(db.admin)+"/stats").body) {
				name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
				// Connections are counted with Consul's checks, which say nothing; the rest goes up and down.
				if (strings.HasPrefix(name, "tcp.") || strings.HasPrefix(name, "connect_authz")) && !strings.Contains(name, "downstream_cx_total") &&
					!strings.HasSuffix(name, "_active") && !strings.HasSuffix(name, "_buffered") {
					out[name] = value
				}
			}
			return out
		}
		before := standsStill(t, "the counters", count)
		m := dialMirror(t, local(client.upstreams["db"]))
		must(t, m.ping(strings.Repeat("x", 1000)))
		drop(m.conn)
		must(t, refused(t.Context(), local(stranger.upstreams["db"])))
		changed := map[string]string{}
		eventually(t, "the counters to move", func(context.Context) error {
			for name, value := range standsStill(t, "the counters", count) {
				var now, then int
				if _, err := fmt.Sscan(value, &now); err != nil {
					return err
				}
				_, _ = fmt.Sscan(before[name], &then)
				changed[name] = fmt.Sprint(now - then)
			}
			if changed["connect_authz.rbac.allowed"] == "0" || changed["connect_authz.rbac.denied"] == "0" {
				return errNotYet
			}
			return nil
		})
		must(t, db.sidecar.Stop(t.Context()))
		// Envoy counts what a connection that it denies has sent, too.
		const received = "tcp.public_listener.downstream_cx_rx_bytes_total"
		if got := changed[received]; got != "1001" && got != "1007" {
			t.Errorf("%s: %s bytes were received", name, got)
		}
		delete(changed, received)
		return changed
	}
	ours := see("serai-db", asEnvoy(t, w.env))
	theirs := see("envoy-db", envoy, "--concurrency", "1")
	if diff := cmp.Diff(theirs, ours); diff != "" || len(theirs) < 8 {
		t.Errorf("(-Envoy +ours):\n%s", diff)
	}
}
