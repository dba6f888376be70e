package integration_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
)

// startFromBootstrap starts a sidecar of either kind from the bootstrap that `consul connect envoy` writes.
func (w *world) startFromBootstrap(t *testing.T, kind string, i *instance) {
	t.Helper()
	if kind == "envoy" {
		w.start(t, kind, i)
		return
	}
	file := filepath.Join(w.env.Dir(), i.id+".json")
	must(t, os.WriteFile(file, w.bootstrap(t, i), 0o600))
	var err error
	i.sidecar, err = w.env.Serai([]string{"connect", "-c", file})
	must(t, err)
}

// consulLine waits for the line of an access log in Consul's default format about a path, and masks what cannot be the
// same for two proxies.
func consulLine(t *testing.T, i *instance, path string) (line map[string]any, masked map[string]any) {
	t.Helper()
	eventually(t, "a line about "+path, func(context.Context) error {
		for text := range strings.SplitSeq(i.sidecar.Log(), "\n") {
			var fields map[string]any
			if strings.HasPrefix(text, "{") && json.Unmarshal([]byte(text), &fields) == nil && fields["path"] == path {
				line = fields
				return nil
			}
		}
		return errors.New("none")
	})
	masked = maps.Clone(line)
	for name, value := range masked {
		switch value := value.(type) {
		case float64:
			if name == "duration" {
				masked[name] = "N"
			}
		case string:
			value = regexp.MustCompile(`\d{4}-\d\d-\d\dT[0-9:.]+Z|127\.0\.0\.1:\d+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b`).ReplaceAllString(value, "M")
			if name == "upstream_service_time" && value != "" {
				value = "N"
			}
			masked[name] = value
		}
	}
	return line, masked
}

// TestConsulAccessLogsAndTraces asks for access logs and traces as users of Consul do, in proxy-defaults, and has sidecars
// of both kinds call the same service through ours: their logs say the same, and each trace spans two sidecars.
func TestConsulAccessLogsAndTraces(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	z := newZipkin(t)
	address := z.Listener.Addr().String()
	provider := `{"name":"envoy.tracers.zipkin","typedConfig":{"@type":"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig","collector_cluster":"zipkin",
		"collector_endpoint_version":"HTTP_JSON","collector_endpoint":"/api/v2/spans","shared_span_context":false}}`
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ProxyConfigEntry{
		Kind: consulapi.ProxyDefaults, Name: consulapi.ProxyConfigGlobal,
		AccessLogs: &consulapi.AccessLogsConfig{Enabled: true},
		Config: map[string]any{
			"protocol":                         "http",
			"envoy_tracing_json":               `{"http":` + provider + `}`,
			"envoy_listener_tracing_json":      `{"@type":"` + hcmType + `.Tracing","random_sampling":{"value":100},"provider":` + provider + `}`,
			"envoy_extra_static_clusters_json": string(clusterAt("zipkin", address)),
		},
	}))
	w.allow(t, "web", "api")
	api := w.register(t, "api-1", "api")
	w.startFromBootstrap(t, "serai", api)
	webs := map[string]*instance{}
	for _, kind := range kinds() {
		webs[kind] = w.register(t, "web-"+kind, "web", "api")
		w.startFromBootstrap(t, kind, webs[kind])
	}
	for _, i := range []*instance{api, webs["serai"], webs["envoy"]} {
		sidecarReady(t, i)
	}
	lines := map[string]map[string]any{}
	for kind, web := range webs {
		waitStatus(t, web.url("api", "/x/up"), http.StatusOK)
		path := "/x/asked-by-" + kind
		waitStatus(t, web.url("api", path), http.StatusOK)
		line, masked := consulLine(t, web, path)
		if len(line) != 24 {
			t.Errorf("%s: %d fields: %v", kind, len(line), line)
		}
		masked["path"] = "PATH"
		lines[kind] = masked
		theirs, _ := consulLine(t, api, path)
		if theirs["request_id"] != line["request_id"] || theirs["response_code"] != 200.0 || theirs["upstream_cluster"] != "local_app" {
			t.Errorf("%s: %v, and the sidecar of api: %v", kind, line, theirs)
		}
		// Both sidecars tell the collector of the same trace.
		eventually(t, "two spans of "+path, func(context.Context) error {
			z.mu.Lock()
			defer z.mu.Unlock()
			var kinds []string
			traces := map[string]bool{}
			for _, s := range z.spans {
				if strings.HasSuffix(s.Tags["http.url"], path) {
					kinds, traces[s.TraceID] = append(kinds, s.Kind+" "+s.Local.Service), true
				}
			}
			slices.Sort(kinds)
			if want := []string{"CLIENT web", "SERVER api"}; !slices.Equal(kinds, want) || len(traces) != 1 {
				return fmt.Errorf("%v in %d traces", kinds, len(traces))
			}
			return nil
		})
	}
	if diff := cmp.Diff(lines["envoy"], lines["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	t.Logf("%v", lines["envoy"])
}
