package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// TestAskedAsEnvoy has a client of the same machine ask its proxy for retries and timeouts by x-envoy-* fields, as
// Consul configures connection managers: it is nobody that Envoy would listen to.
func TestAskedAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	var mu sync.Mutex
	calls := map[string]int{}
	heard := map[string][]string{}
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		key := r.URL.Path
		mu.Lock()
		calls[key]++
		for _, name := range slices.Sorted(maps.Keys(r.Header)) {
			if strings.HasPrefix(name, "X-Envoy-") {
				heard[key] = append(heard[key], fmt.Sprint(name, r.Header[name]))
			}
		}
		mu.Unlock()
		if r.URL.Query().Get("slow") != "" {
			<-r.Context().Done()
			return
		}
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	t.Cleanup(app.Close)
	twins := staticTwins(t, env, 1, func(ports []int) (clusters, listeners []json.RawMessage) {
		return []json.RawMessage{clusterAt("app", app.Listener.Addr().String())}, []json.RawMessage{fmt.Appendf(nil, `{"name":"out","traffic_direction":"OUTBOUND",
			"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":"out",
			"http_filters":[{"name":"router","typed_config":{"@type":%q}}],"route_config":{"name":"r","virtual_hosts":[{"name":"v","domains":["*"],
			"routes":[{"match":{"prefix":"/"},"route":{"cluster":"app","timeout":"2s"}}]}]}}}]}]}`, ports[0], hcmType, routerAny)}
	})
	got := map[string]map[string]string{}
	for kind, twin := range twins {
		got[kind] = map[string]string{}
		for name, ask := range map[string]struct {
			query  string
			fields []string
		}{
			"retries": {"", []string{"x-envoy-retry-on", "5xx", "x-envoy-max-retries", "3", "x-envoy-retriable-status-codes", "503"}},
			"timeout": {"?slow=1", []string{"x-envoy-upstream-rq-timeout-ms", "100"}},
			"longer":  {"?slow=1", []string{"x-envoy-upstream-rq-timeout-ms", "60000", "x-envoy-upstream-rq-per-try-timeout-ms", "50"}},
			"others": {"", []string{
				"x-envoy-retry-grpc-on", "internal", "x-envoy-retriable-header-names", "a", "x-envoy-hedge-on-per-try-timeout", "true", "x-envoy-internal", "true",
				"x-envoy-upstream-rq-timeout-alt-response", "1", "x-envoy-upstream-alt-stat-name", "a", "x-envoy-expected-rq-timeout-ms", "1", "x-envoy-force-trace", "1",
				"x-envoy-ip-tags", "a", "x-envoy-original-url", "/a", "x-envoy-external-address", "10.0.0.1", "x-envoy-decorator-operation", "a",
				"x-envoy-downstream-service-cluster", "a", "x-envoy-downstream-service-node", "a", "x-envoy-attempt-count", "7", "x-envoy-is-timeout-retry", "a",
				"x-envoy-original-dst-host", "127.0.0.1:1", "x-envoy-degraded", "a", "x-envoy-overloaded", "true", "x-envoy-peer-metadata", "a",
			}},
			"by a proxy": {"", []string{"x-forwarded-for", "127.0.0.1", "x-envoy-retry-on", "5xx", "x-envoy-max-retries", "3"}},
		} {
			path := "/" + kind + "/" + name
			req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+local(twin.ports[0])+path+ask.query, http.NoBody)
			must(t, err)
			for i := 0; i < len(ask.fields); i += 2 {
				req.Header.Set(ask.fields[i], ask.fields[i+1])
			}
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			_ = resp.Body.Close()
			mu.Lock()
			got[kind][name] = fmt.Sprintf("%d after %d calls, heard %q", resp.StatusCode, calls[path], heard[path])
			mu.Unlock()
		}
	}
	if diff := cmp.Diff(got["envoy"], got["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	t.Logf("%v", got["envoy"])
}
