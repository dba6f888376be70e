package integration_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// TestHostileLogsAsEnvoy says in a ClientHello and in a query what would begin a line of its own, and looks at which
// requests are traceable. A query's line break Envoy writes as it is.
func TestHostileLogsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	ca := newSigningCA(t, "an authority")
	server := ca.issue(t, func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} })
	var paths []string
	twins := staticTwins(t, env, 1, func(ports []int) (clusters, listeners []json.RawMessage) {
		path := filepath.Join(env.Dir(), fmt.Sprintf("hostile%d.", len(paths)))
		paths = append(paths, path)
		optional := strings.Replace(downstreamTLS(t, server, trusting(ca)), `"requireClientCertificate":true`, `"requireClientCertificate":false`, 1)
		return []json.RawMessage{clusterAt("app", app.Listener.Addr().String())}, []json.RawMessage{fmt.Appendf(nil, `{"name":"tls","address":{"socket_address":{"address":
			"127.0.0.1","port_value":%d}},"listener_filters":[{"name":"inspector","typed_config":{"@type":
			"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],"filter_chains":[{"transport_socket":%s,"filters":[{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":"tls","access_log":[%s,%s],
			"tracing":{"random_sampling":{"value":100},"provider":{"name":"zipkin","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
			"collector_cluster":"app","collector_endpoint":"/spans","collector_endpoint_version":"HTTP_JSON"}}},
			"http_filters":[{"name":"router","typed_config":{"@type":%q}}],"route_config":{"name":"r","virtual_hosts":[{"name":"v","domains":["*"],
			"routes":[{"match":{"prefix":"/"},"route":{"cluster":"app"}}]}]}}}]}]}`, ports[0], optional, hcmType,
			fileLog(path+"all", "", textFormat("%REQUESTED_SERVER_NAME% %PATH(NQ)% %QUERY_PARAM(q)%\n")),
			fileLog(path+"traceable", `"filter":{"traceable_filter":{}},`, textFormat("%PATH(NQ)%\n")), routerAny)}
	})
	lines := map[string][]string{}
	for i, kind := range kinds() {
		transport := &http.Transport{TLSClientConfig: &tls.Config{InsecureSkipVerify: true, ServerName: "a\nb_c.D-1"}} //nolint:gosec // both are ours
		t.Cleanup(transport.CloseIdleConnections)
		ask := func(ctx context.Context, path, id string) error {
			req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://"+local(twins[kind].ports[0])+path, nil)
			if err != nil {
				return err
			}
			req.Header.Set("X-Request-Id", id)
			resp, err := transport.RoundTrip(req)
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			_, err = io.Copy(io.Discard, resp.Body)
			return err
		}
		eventually(t, "an answer of "+kind, func(ctx context.Context) error { return ask(ctx, "/first", "") })
		for path, reason := range map[string]string{"/chance": "9", "/forced": "a", "/asked": "b"} {
			must(t, ask(t.Context(), path, "6ba7b810-9dad-"+reason+"1d1-80b4-00c04fd430c8"))
		}
		must(t, ask(t.Context(), "/last?q=1%0aforged", ""))
		all := waitLines(t, paths[i]+"all", 5)
		if kind == "envoy" {
			all = append(all[:len(all)-2], strings.Join(all[len(all)-2:], " ")) // which we do not let anybody do
		}
		slices.Sort(all)
		lines[kind] = append(all, waitLines(t, paths[i]+"traceable", 1)...)
	}
	want := []string{"invalid:a_b_c.d-1 /asked -", "invalid:a_b_c.d-1 /chance -", "invalid:a_b_c.d-1 /first -", "invalid:a_b_c.d-1 /forced -", "invalid:a_b_c.d-1 /last 1 forged", "/forced"}
	for kind, got := range lines {
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got:\n%s", kind, diff)
		}
	}
}
