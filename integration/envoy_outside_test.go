package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// asEnvoy is a link to Serai that is called envoy.
func asEnvoy(t *testing.T, env *harness.Env) string {
	t.Helper()
	serai := os.Getenv("SERAI_BINARY")
	if serai == "" {
		root, err := harness.Root()
		must(t, err)
		serai = filepath.Join(root, "bin", "serai")
	}
	link := filepath.Join(env.Dir(), "envoy")
	must(t, os.Symlink(serai, link))
	return link
}

// TestTrap3ConsulConnectEnvoy lets the real command line of Consul start us in Envoy's place: it asks for the version,
// hands a FIFO over and becomes us. The bootstrap has what proxy-defaults can put into it.
func TestTrap3ConsulConnectEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	link := asEnvoy(t, w.env)
	ports := w.ports(t, 4)
	ready, prometheus, stats, static := ports, ports+1, ports+2, ports+3
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ProxyConfigEntry{
		Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal,
		Config: map[string]any{
			"envoy_prometheus_bind_addr": local(prometheus), "envoy_stats_bind_addr": local(stats),
			"envoy_extra_static_clusters_json": fmt.Sprintf(`{"name": "mine", "type": "STATIC", "connect_timeout": "1s", "load_assignment":
			  {"cluster_name": "mine", "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}}}}]}]}}`, ready),
			"envoy_extra_static_listeners_json": fmt.Sprintf(`{"name": "static", "address": {"socket_address": {"address": "127.0.0.1", "port_value": %d}},
			  "filter_chains": [{"filters": [{"name": "envoy.filters.network.tcp_proxy", "typed_config":
			  {"@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy", "stat_prefix": "mine", "cluster": "mine"}}]}]}`, static),
		},
	}))
	api := w.run(t, "api-1", "api")
	web := w.register(t, "web-1", "web", "api")
	consul, err := w.env.Tool("consul")
	must(t, err)
	web.sidecar, err = w.env.Start(harness.Command{
		Name: "consul-connect-envoy", Path: consul,
		Args: []string{
			"connect", "envoy", "-sidecar-for", web.id, "-envoy-binary", link, "-http-addr", w.consul.HTTPAddr, "-grpc-addr", w.consul.GRPCAddr,
			"-token", w.token(t, "web"), "-admin-bind", local(web.admin), "-envoy-ready-bind-address", "127.0.0.1", "-envoy-ready-bind-port", fmt.Sprint(ready),
			"--", "-l", "debug", "--flag-of-the-future", "1", "--drain-strategy", "immediate",
		},
	})
	must(t, err)
	sidecarReady(t, api)
	sidecarReady(t, web)
	w.waitOK(t, web.url("api", "/"))
	if !logHas(web.sidecar, "flag --flag-of-the-future is not known") {
		t.Errorf("nothing tells of the flag that is not known:\n%s", web.sidecar.Log())
	}
	for _, row := range []struct {
		port   int
		path   string
		status int
		text   string
	}{
		{ready, "/ready", http.StatusOK, "LIVE"},
		{ready, "/stats", http.StatusNotFound, ""},
		{prometheus, "/metrics", http.StatusOK, "envoy_"},
		{prometheus, "/ready", http.StatusNotFound, ""},
		{stats, "/stats", http.StatusOK, "cluster."},
		{stats, "/ready", http.StatusNotFound, ""},
		{static, "/ready", http.StatusOK, "LIVE"}, // through both static resources of the user's
	} {
		got := get(t, "http://"+local(row.port)+row.path)
		if got.status != row.status || !strings.Contains(got.body, row.text) {
			t.Errorf("port %d, %s: status %d: %.200s", row.port, row.path, got.status, got.body)
		}
	}
	w.stop(t, web, 0, syscall.SIGINT)
}

// TestStaticListenersNeedNoConsul: what tells of readiness answers while Consul cannot be reached, as the check of a
// scheduler would else take us for dead.
func TestStaticListenersNeedNoConsul(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	ports, err := env.Ports(3)
	must(t, err)
	admin, ready, nobody := ports, ports+1, ports+2
	text := fmt.Sprintf(`
node: {id: x, cluster: web}
admin: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}
static_resources:
  clusters:
  - {name: local_agent, load_assignment: {cluster_name: local_agent, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}}
  - {name: self_admin, load_assignment: {cluster_name: self_admin, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}}
  listeners:
  - name: envoy_ready_listener
    address: {socket_address: {address: 127.0.0.1, port_value: %d}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: envoy_ready
          route_config: {virtual_hosts: [{name: a, domains: ["*"], routes: [{match: {path: /ready}, route: {cluster: self_admin, prefix_rewrite: /ready}}]}]}
          http_filters: [{name: envoy.filters.http.router}]
`, admin, nobody, admin, ready)
	process, err := env.Serai([]string{"connect", "--config-yaml", text, "--admin-address-path", filepath.Join(env.Dir(), "admin")})
	must(t, err)
	eventually(t, "the ready listener to answer 503", func(ctx context.Context) error {
		got, err := fetch(ctx, http.DefaultClient, "http://"+local(ready)+"/ready")
		if err == nil && got.status != http.StatusServiceUnavailable {
			err = fmt.Errorf("status %d: %s", got.status, got.body)
		}
		return err
	})
	address, err := os.ReadFile(filepath.Join(env.Dir(), "admin"))
	must(t, err)
	if string(address) != local(admin) {
		t.Errorf("the address of the admin interface is %q", address)
	}
	must(t, process.Signal(syscall.SIGTERM))
	exits(t, process, nomadKill)
}

// TestLogsOpenedAgain sends the signals by which log rotation tells Envoy (SIGUSR1) and other servers (SIGHUP): the log
// is opened again, as by POST /reopen_logs, and nothing ends.
func TestLogsOpenedAgain(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	nobody, err := env.Ports(2)
	must(t, err)
	admin := nobody + 1
	log := filepath.Join(env.Dir(), "own.log")
	process, err := env.Serai([]string{"connect", "--log-path", log, "--config-yaml", fmt.Sprintf(`{node: {id: a}, static_resources: {clusters: [
		{name: local_agent, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 127.0.0.1, port_value: %d}}}}]}]}}]}}`, nobody), "-admin-bind", local(admin)})
	must(t, err)
	said := func(words string) func(context.Context) error {
		return func(context.Context) error {
			text, err := os.ReadFile(log)
			if err == nil && !strings.Contains(string(text), words) {
				err = fmt.Errorf("there is no %q in %s", words, text)
			}
			return err
		}
	}
	eventually(t, "the log to begin", said("admin interface"))
	for i, signal := range []syscall.Signal{syscall.SIGUSR1, syscall.SIGHUP} {
		must(t, os.Rename(log, fmt.Sprintf("%s.%d", log, i)))
		must(t, process.Signal(signal))
		eventually(t, "a new log after "+signal.String(), said(""))
	}
	must(t, os.Rename(log, log+".2"))
	post(t, "http://"+local(admin)+"/reopen_logs")
	must(t, said("")(t.Context()))
	must(t, process.Signal(syscall.SIGTERM))
	exits(t, process, nomadKill)
	must(t, said("drained")(t.Context()))
}

// TestEnvoyCommandLine asks for the version and for validation, as deployments do.
func TestEnvoyCommandLine(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	link := asEnvoy(t, env)
	ask := func(args ...string) (string, error) {
		out, err := exec.CommandContext(t.Context(), link, args...).CombinedOutput()
		return string(out), err
	}
	if out, err := ask("--version"); err != nil || !strings.Contains(out, "envoy  version: ") || !strings.Contains(out, "/1.35.8/") {
		t.Errorf("--version: %v: %s", err, out)
	}
	const good = `{node: {id: a}, static_resources: {clusters: [{name: local_agent, load_assignment: {cluster_name: a, endpoints: [{lb_endpoints: [{endpoint: {address: {pipe: {path: /a}}}}]}]}}]}}`
	if out, err := ask("--mode", "validate", "--config-yaml", good); err != nil || !strings.Contains(out, "OK") {
		t.Errorf("validate: %v: %s", err, out)
	}
	out, err := ask("--mode", "validate", "--config-yaml", strings.Replace(good, "clusters: [", "clusters: [{name: odd, lb_subset_config: {fallback_policy: ANY_ENDPOINT}}, ", 1))
	if _, ok := errors.AsType[*exec.ExitError](err); !ok || !strings.Contains(out, "odd") || !strings.Contains(out, "lb_subset_config") {
		t.Errorf("validate what is not understood: %v: %s", err, out)
	}
}
