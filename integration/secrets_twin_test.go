package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// moments are times in a dump, which are of each process.
var moments = regexp.MustCompile(`"last_updated": "[^"]*"`)

// TestSecretsAndClustersAsEnvoy compares what /config_dump shows of secrets of the bootstrap file and of a server, and
// what /clusters shows of endpoints.
func TestSecretsAndClustersAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(app.Close)
	port, err := env.Port()
	must(t, err)
	ca, sds := newOutsideCA(t), newSDS(t, port)
	chain, key := ca.leaf(t, "here.example")
	sds.set("served", chain, key)
	source := `{"resource_api_version":"V3","api_config_source":{"api_type":"GRPC","transport_api_version":"V3","grpc_services":[{"envoy_grpc":{"cluster_name":"sds-server"}}]}}`
	withSecret := func(name, at string, port int) json.RawMessage {
		return fmt.Appendf(nil, `{"name":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[{"name":"tcp","typed_config":{"@type":%q,"stat_prefix":"a","cluster":"app"}}],
			"transport_socket":{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext","common_tls_context":{"tls_certificate_sds_secret_configs":[{"name":%q%s}]}}}}]}`,
			name, port, tcpAny, name, at)
	}
	trusted, err := json.Marshal(string(ca.pem()))
	must(t, err)
	secrets := []json.RawMessage{
		fmt.Appendf(nil, `{"name":"standing","tls_certificate":{"certificate_chain":{"inline_string":%q},"private_key":{"inline_string":%q}}}`, chain, key),
		fmt.Appendf(nil, `{"name":"trust","validation_context":{"trusted_ca":{"inline_string":%s}}}`, trusted),
	}
	address := app.Listener.Addr().String()
	_, appPort, _ := strings.Cut(address, ":")
	one := func(last, more string) string {
		return fmt.Sprintf(`{"endpoint":{"address":{"socket_address":{"address":"127.0.0.%s","port_value":%s}}%s}`, last, appPort, more)
	}
	places := fmt.Appendf(nil, `{"name":"places","type":"STATIC","outlier_detection":{},"load_assignment":{"cluster_name":"places","endpoints":[
		{"locality":{"region":"r1","zone":"z1","sub_zone":"s1"},"lb_endpoints":[%s,%s]},
		{"locality":{"region":"r1"},"priority":1,"lb_endpoints":[%s]},{"priority":2,"lb_endpoints":[%s]}]}}`,
		one("1", `,"hostname":"first.example"},"load_balancing_weight":3`), one("2", `},"metadata":{"filter_metadata":{"envoy.lb":{"canary":true}}}`),
		one("3", `},"health_status":"DRAINING"`), one("4", `},"health_status":"DEGRADED"`))
	twins := staticTwinsWith(t, env, 2, func(ports []int) map[string]any {
		return map[string]any{
			"secrets": secrets,
			"clusters": []json.RawMessage{
				clusterAt("app", address), places, json.RawMessage(sds.cluster()),
				json.RawMessage(strings.TrimSuffix(string(clusterAt("trusting", address)), "}") + `,"transport_socket":{"name":"tls","typed_config":{"@type":"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext","common_tls_context":{"validation_context_sds_secret_config":{"name":"trust"}}}}}`),
			},
			"listeners": []json.RawMessage{withSecret("standing", "", ports[0]), withSecret("served", `,"sds_config":`+source, ports[1])},
		}
	})
	shown := map[string]map[string]string{}
	for kind, twin := range twins {
		base := "http://" + local(twin.admin)
		got := map[string]string{}
		eventually(t, "the secret of the server", func(ctx context.Context) error {
			dump, err := fetch(ctx, http.DefaultClient, base+"/config_dump?resource=dynamic_active_secrets")
			if err != nil {
				return err
			}
			if !strings.Contains(dump.body, "served") {
				return fmt.Errorf("%s: %s", kind, dump.body)
			}
			return nil
		})
		for _, path := range []string{
			"/config_dump?resource=static_secrets", "/config_dump?resource=dynamic_active_secrets", "/config_dump?resource=dynamic_warming_secrets",
			"/config_dump?resource=static_secrets&name_regex=tr.*",
		} {
			got[path] = canonical(t, moments.ReplaceAllString(get(t, base+path).body, `"last_updated": "then"`))
		}
		var lines []string
		for line := range strings.Lines(get(t, base+"/clusters").body) {
			if strings.HasPrefix(line, "places::") {
				lines = append(lines, line)
			}
		}
		got["/clusters"] = strings.Join(lines, "")
		var all struct {
			Statuses []map[string]any `json:"cluster_statuses"`
		}
		must(t, json.Unmarshal([]byte(get(t, base+"/clusters?format=json").body), &all))
		for _, status := range all.Statuses {
			if status["name"] == "places" {
				text, err := json.MarshalIndent(status, "", " ")
				must(t, err)
				got["/clusters?format=json"] = string(text)
			}
		}
		shown[kind] = got
	}
	if diff := cmp.Diff(shown["envoy"], shown["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	if !strings.Contains(shown["envoy"]["/config_dump?resource=static_secrets"], "redacted") || len(shown["envoy"]["/clusters"]) < 1000 {
		t.Errorf("too little was compared: %v", shown["envoy"])
	}
}

// canonical is JSON with its names in order.
func canonical(t *testing.T, text string) string {
	t.Helper()
	var tree any
	must(t, json.Unmarshal([]byte(text), &tree))
	out, err := json.MarshalIndent(tree, "", " ")
	must(t, err)
	return string(out)
}
