package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// TestHealthCheckFilter asks our proxy and Envoy for their health, as the filter health_check tells it: by itself, by
// the endpoints of a cluster, by what the application says, and after an operator has declared them unhealthy.
func TestHealthCheckFilter(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	port, err := env.Port()
	must(t, err)
	startApp(t, "app", port, "http", nil)
	configs := []string{
		`"pass_through_mode":false`,
		`"pass_through_mode":false,"cluster_min_healthy_percentages":{"app":{"value":100}}`,
		`"pass_through_mode":false,"cluster_min_healthy_percentages":{"empty":{"value":1}}`,
		`"pass_through_mode":false,"cluster_min_healthy_percentages":{"nobody":{"value":1}}`,
		`"pass_through_mode":true`,
		`"pass_through_mode":true,"cache_time":"60s"`,
	}
	twins := staticTwins(t, env, len(configs), func(ports []int) (clusters, listeners []json.RawMessage) {
		clusters = append(clusters,
			json.RawMessage(fmt.Sprintf(`{"name":"app","connect_timeout":"5s","load_assignment":{"cluster_name":"app",
				"endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}}}}]}]}}`, port)),
			json.RawMessage(`{"name":"empty","connect_timeout":"5s","load_assignment":{"cluster_name":"empty"}}`))
		for i, config := range configs {
			listeners = append(listeners, json.RawMessage(fmt.Sprintf(`{"name":"l%d","address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},
				"filter_chains":[{"filters":[{"name":"envoy.filters.network.http_connection_manager","typed_config":{
				"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager","stat_prefix":"s%d",
				"route_config":{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"app"}}]}]},
				"http_filters":[{"name":"envoy.filters.http.health_check","typed_config":{
					"@type":"type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck",%s,
					"headers":[{"name":":path","string_match":{"exact":"/x/health"}}]}},
				{"name":"envoy.filters.http.router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}}]}}]}]}`,
				i, ports[i], i, config)))
		}
		return clusters, listeners
	})
	type result struct {
		Status        int
		Body          string
		Cluster, Fail string
	}
	put := func(kind string, i int, path string) result {
		got := get(t, "http://"+local(twins[kind].ports[i])+path)
		return result{got.status, got.body, got.header.Get("X-Envoy-Upstream-Healthchecked-Cluster"), got.header.Get("X-Envoy-Immediate-Health-Check-Fail")}
	}
	want := []int{200, 200, 503, 503, 200, 200}
	for _, step := range []string{"well", "again", "declared unhealthy"} {
		if step == "declared unhealthy" {
			for _, twin := range twins {
				if got := ask(t, http.MethodPost, "http://"+local(twin.admin)+"/healthcheck/fail", http.NoBody, func(*http.Request) {}); got.status != http.StatusOK {
					t.Fatalf("%s: %+v", twin.process.Name, got)
				}
			}
			want = []int{503, 503, 503, 503, 503, 503}
		}
		for i, config := range configs {
			ours := put("serai", i, "/x/health")
			if diff := cmp.Diff(put("envoy", i, "/x/health"), ours); diff != "" || ours.Status != want[i] {
				t.Errorf("%s: %s: status %d, want %d (-Envoy +ours):\n%s", step, config, ours.Status, want[i], diff)
			}
			if diff := cmp.Diff(put("envoy", i, "/x/other"), put("serai", i, "/x/other")); diff != "" {
				t.Errorf("%s: %s: another path (-Envoy +ours):\n%s", step, config, diff)
			}
		}
	}
}
