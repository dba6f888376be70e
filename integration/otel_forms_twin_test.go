package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	logsv1 "go.opentelemetry.io/proto/otlp/logs/v1"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/integration/harness"
)

// TestOTLPLogsAsEnvoy sends access logs to collectors in each form in which they may be named: by gRPC, within common_config and
// beside it, and by HTTP; with counters of their own. Envoy 1.36 knows the first form only, in which it is to tell the same.
func TestOTLPLogsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	t.Cleanup(app.Close)
	calls, webs := map[string]*otlpLogs{}, map[string]*otlpLogs{}
	twins := staticTwins(t, env, 1, func(ports []int) (clusters, listeners []json.RawMessage) {
		kind := kinds()[len(calls)]
		port, err := env.Port()
		must(t, err)
		calls[kind] = serveOTLP(t, port)
		web := &otlpLogs{}
		webs[kind] = web
		receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			body, err := io.ReadAll(r.Body)
			data := &logsv1.LogsData{}
			if err == nil {
				err = proto.Unmarshal(body, data)
			}
			if want := "/v1/logs application/x-protobuf t"; err != nil || want != r.URL.Path+" "+r.Header.Get("Content-Type")+" "+r.Header.Get("X-Token") {
				http.Error(w, "no logs", http.StatusBadRequest)
				return
			}
			web.mu.Lock()
			defer web.mu.Unlock()
			web.data = append(web.data, data)
		}))
		t.Cleanup(receiver.Close)
		second := strings.TrimSuffix(string(clusterAt("grpc", net.JoinHostPort("127.0.0.1", fmt.Sprint(port)))), "}") + `,"typed_extension_protocol_options":{` +
			`"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}}}`
		form := func(name, more string) json.RawMessage {
			return fmt.Appendf(nil, `{"name":"o","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.open_telemetry.v3.OpenTelemetryAccessLogConfig",%s,
				"body":{"string_value":"%s %%REQ(:PATH)%% %%RESPONSE_CODE%%"},"attributes":{"values":[{"key":"n","value":{"kvlist_value":{"values":[{"key":"k","value":{"string_value":"%%RESPONSE_CODE%%"}}]}}},{"key":"m","value":{"string_value":"%%REQ(:METHOD)%%"}}]}}}`, more, name)
		}
		const service = `{"envoy_grpc":{"cluster_name":"grpc"}}`
		common := func(name string) string {
			return fmt.Sprintf(`"common_config":{"log_name":%q,"grpc_service":%s,"transport_api_version":"V3","buffer_flush_interval":"0.1s"}`, name, service)
		}
		forms := map[string]string{"common": common("a"), "plain": `"stat_prefix":"own",` + common("b"), "web": common("c")}
		if kind == "serai" {
			forms["plain"] = `"stat_prefix":"own","log_name":"b","grpc_service":` + service + `,"buffer_flush_interval":"0.1s"`
			forms["web"] = `"log_name":"c","http_service":{"http_uri":{"uri":"http://collector.example/v1/logs","cluster":"web","timeout":"1s"},` +
				`"request_headers_to_add":[{"header":{"key":"x-token","value":"t"}}]},"buffer_flush_interval":"0.1s"`
		}
		var logs []json.RawMessage
		for name, more := range forms {
			logs = append(logs, form(name, more))
		}
		hcm := fmt.Appendf(nil, `{"name":"hcm","typed_config":{"@type":%q,"stat_prefix":"h","access_log":%s,"http_filters":[{"name":"router","typed_config":{"@type":%q}}],
			"route_config":{"name":"rc","virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"app"}}]}]}}}`, hcmType, asJSON(logs), routerAny)
		return []json.RawMessage{clusterAt("app", app.Listener.Addr().String()), clusterAt("web", receiver.Listener.Addr().String()), json.RawMessage(second)},
			[]json.RawMessage{boundListener("http", ports[0], nil, []json.RawMessage{hcm}, "{}")}
	})
	told := map[string]map[string][]string{}
	for kind, twin := range twins {
		exchangeRaw(t, twin.ports[0], "GET /logged HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
		told[kind] = map[string][]string{}
		if kind == "envoy" {
			webs[kind] = calls[kind]
		}
		for name, from := range map[string]*otlpLogs{"common": calls[kind], "plain": calls[kind], "web": webs[kind]} {
			body, attributes, resource := from.find(t, name+" ")
			told[kind][name] = append(append([]string{body}, attributes...), resource...)
		}
		eventually(t, "counters of "+kind, func(ctx context.Context) error {
			got, err := fetch(ctx, strict(t), "http://"+local(twin.admin)+"/stats?filter=^access_logs")
			if err != nil {
				return err
			}
			told[kind]["counted"] = strings.Split(strings.TrimSpace(got.body), "\n")
			if !strings.Contains(got.body, "own.logs_written: 1") {
				return fmt.Errorf("counted: %s", got.body)
			}
			return nil
		})
	}
	if diff := cmp.Diff(told["envoy"], told["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	t.Logf("%q", told["envoy"])
}
