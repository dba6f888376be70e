package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
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

// zipkin is a collector of Zipkin's API that keeps what it gets.
type zipkin struct {
	*httptest.Server

	mu    sync.Mutex
	spans []zipkinSpan
}

type zipkinSpan struct {
	TraceID  string `json:"traceId"`
	ID       string `json:"id"`
	ParentID string `json:"parentId"`
	Kind     string `json:"kind"`
	Name     string `json:"name"`
	Shared   bool   `json:"shared"`
	Duration int64  `json:"duration"`
	Local    struct {
		Service string `json:"serviceName"`
		IPv4    string `json:"ipv4"`
	} `json:"localEndpoint"`
	Notes []struct {
		At    int64  `json:"timestamp"`
		Value string `json:"value"`
	} `json:"annotations"`
	Tags map[string]string `json:"tags"`
}

func newZipkin(t *testing.T) *zipkin {
	t.Helper()
	z := &zipkin{}
	z.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		var spans []zipkinSpan
		if err == nil {
			err = json.Unmarshal(body, &spans)
		}
		if err != nil || r.URL.Path != "/api/v2/spans" {
			http.Error(w, "no spans", http.StatusBadRequest)
			return
		}
		z.mu.Lock()
		defer z.mu.Unlock()
		z.spans = append(z.spans, spans...)
		w.WriteHeader(http.StatusAccepted)
	}))
	t.Cleanup(z.Close)
	return z
}

// find waits for the span of a URL.
func (z *zipkin) find(t *testing.T, url string) zipkinSpan {
	t.Helper()
	var found zipkinSpan
	eventually(t, "a span of "+url, func(context.Context) error {
		z.mu.Lock()
		defer z.mu.Unlock()
		i := slices.IndexFunc(z.spans, func(s zipkinSpan) bool { return s.Tags["http.url"] == url })
		if i < 0 {
			return fmt.Errorf("%d spans, none of them it", len(z.spans))
		}
		found = z.spans[i]
		return nil
	})
	return found
}

// tracedListener is a listener whose connection manager traces.
func tracedListener(name, direction string, port int, cluster, tracing string) json.RawMessage {
	return fmt.Appendf(nil, `{"name":%q,"traffic_direction":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[{"name":"hcm",
		"typed_config":{"@type":%q,"stat_prefix":%q,"tracing":%s,"http_filters":[{"name":"router","typed_config":{"@type":%q}}],
		"route_config":{"name":"r","virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":%q}}]}]}}}]}]}`,
		name, direction, port, hcmType, name, tracing, routerAny, cluster)
}

// TestZipkinAsEnvoy has both trace the same requests, and one hand traces on to the other.
func TestZipkinAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/fail") {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		_ = json.NewEncoder(w).Encode(r.Header)
	}))
	t.Cleanup(app.Close)
	const tracing = `{"random_sampling":{"value":%d},"custom_tags":[{"tag":"lit","literal":{"value":"1"}},{"tag":"env","environment":{"name":"SERAI_NO_SUCH","default_value":"d"}},
		{"tag":"head","request_header":{"name":"X-A","default_value":"none"}}],"provider":{"name":"zipkin","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
		"collector_cluster":"zipkin","collector_endpoint":"/api/v2/spans","collector_endpoint_version":"HTTP_JSON","shared_span_context":%t}}}`
	collectors := map[string]*zipkin{}
	inbound := ""
	twins := staticTwins(t, env, 4, func(ports []int) (clusters, listeners []json.RawMessage) {
		kind, z := kinds()[len(collectors)], newZipkin(t)
		collectors[kind] = z
		if inbound == "" {
			inbound = local(ports[1]) // ours, which is first: both send to it
		}
		clusters = []json.RawMessage{
			clusterAt("zipkin", z.Listener.Addr().String()), clusterAt("app", app.Listener.Addr().String()), clusterAt("next", inbound),
		}
		return clusters, []json.RawMessage{
			tracedListener("out", "OUTBOUND", ports[0], "app", fmt.Sprintf(tracing, 100, true)),
			tracedListener("in", "INBOUND", ports[1], "app", fmt.Sprintf(tracing, 100, true)),
			tracedListener("through", "OUTBOUND", ports[2], "next", fmt.Sprintf(tracing, 100, true)),
			tracedListener("never", "OUTBOUND", ports[3], "app", fmt.Sprintf(tracing, 0, false)),
		}
	})
	ask := func(port int, path string, fields ...string) http.Header {
		t.Helper()
		return askForFields(t, port, path, fields...)
	}
	parent := []string{"x-b3-traceid: 64fe8b2a57d3eff7", "x-b3-spanid: e457b5a2e4d86bd1", "x-b3-parentspanid: 05e3ac9a4f6e3b90", "x-b3-sampled: 1", "x-a: b"}
	told := map[string]map[string]any{}
	for kind, twin := range twins {
		z := collectors[kind]
		told[kind] = map[string]any{}
		for n, name := range []string{"out", "in"} {
			for path, fields := range map[string][]string{"/root": nil, "/root/fail": nil, "/child": parent} {
				path = "/" + name + path
				heard := ask(twin.ports[n], path, fields...)
				s := z.find(t, "http://web.example"+path)
				if s.TraceID != heard.Get("X-B3-Traceid") || s.ID != heard.Get("X-B3-Spanid") || heard.Get("X-B3-Sampled") != "1" || s.ParentID != heard.Get("X-B3-Parentspanid") {
					t.Errorf("%s: %s: told %+v, handed on %v", kind, path, s, heard)
				}
				if n := len(s.Tags["guid:x-request-id"]); n != 36 || s.Tags["guid:x-request-id"][14] != '9' {
					t.Errorf("%s: %s: %s", kind, path, s.Tags["guid:x-request-id"])
				}
				if fields == nil {
					if s.ID != s.TraceID {
						t.Errorf("%s: a root is called %s in %s", kind, s.ID, s.TraceID)
					}
					s.TraceID, s.ID = "ROOT", "ROOT"
				} else if name == "out" {
					s.ID = "NEW"
				}
				for _, own := range []string{"guid:x-request-id", "serai.proxy_us", "serai.upstream_us"} {
					delete(s.Tags, own)
				}
				s.Duration, s.Local.IPv4 = 0, "" // Envoy tells the machine's address, we the listener's
				s.Notes = nil                    // that are Envoy's word for kind and end
				told[kind][path] = s
			}
		}
		heard := ask(twin.ports[3], "/never")
		if heard.Get("X-B3-Sampled") != "0" || heard.Get("X-B3-Traceid") == "" {
			t.Errorf("%s: of what is not sampled is handed on %v", kind, heard)
		}
		told[kind]["never"] = slices.Sorted(maps.Keys(ask(twin.ports[3], "/never")))
	}
	if diff := cmp.Diff(told["envoy"], told["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	// Envoy calls, we are called: one span of two sides.
	ask(twins["envoy"].ports[2], "/both")
	client, server := collectors["envoy"].find(t, "http://web.example/both"), collectors["serai"].find(t, "http://web.example/both")
	if client.TraceID != server.TraceID || client.ID != server.ID || client.Kind != "CLIENT" || server.Kind != "SERVER" || !server.Shared {
		t.Errorf("Envoy tells %+v, we tell %+v", client, server)
	}
	for kind, z := range collectors {
		z.mu.Lock()
		if slices.ContainsFunc(z.spans, func(s zipkinSpan) bool { return strings.HasSuffix(s.Tags["http.url"], "/never") }) {
			t.Errorf("%s has told of what is not sampled", kind)
		}
		z.mu.Unlock()
	}
}
