package integration_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// TestZipkinOptionsAsEnvoy has both tell when things happened, take traces of W3C and hand them on in both ways, and find their
// collector by a service of HTTP.
func TestZipkinOptionsAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _ = json.NewEncoder(w).Encode(r.Header) }))
	t.Cleanup(app.Close)
	const tracing = `{"verbose":true,"random_sampling":{"value":100},"provider":{"name":"zipkin","typed_config":{"@type":"type.googleapis.com/envoy.config.trace.v3.ZipkinConfig",
		"collector_service":{"http_uri":{"uri":"http://zipkin.example/api/v2/spans","cluster":"zipkin","timeout":"1s"},"request_headers_to_add":[{"header":{"key":"x-token","value":"t"}}]},
		"collector_endpoint_version":"HTTP_JSON","trace_id_128bit":true,"shared_span_context":%t%s}}}`
	collectors := map[string]*zipkin{}
	twins := staticTwins(t, env, 3, func(ports []int) (clusters, listeners []json.RawMessage) {
		kind, z := kinds()[len(collectors)], newZipkin(t)
		collectors[kind] = z
		const both = `,"trace_context_option":"USE_B3_WITH_W3C_PROPAGATION"`
		return []json.RawMessage{clusterAt("zipkin", z.Listener.Addr().String()), clusterAt("app", app.Listener.Addr().String())}, []json.RawMessage{
			tracedListener("out", "OUTBOUND", ports[0], "app", fmt.Sprintf(tracing, true, both)), tracedListener("in", "INBOUND", ports[1], "app", fmt.Sprintf(tracing, true, both)),
			tracedListener("b3", "OUTBOUND", ports[2], "app", fmt.Sprintf(tracing, true, "")),
		}
	})
	const trace, span = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
	callers := map[string][]string{
		"root": nil, "w3c": {"traceparent: 00-" + trace + "-" + span + "-01"}, "unsampled": {"traceparent: 00-" + trace + "-" + span + "-00"},
		"b3": {"x-b3-traceid: 64fe8b2a57d3eff7", "x-b3-spanid: e457b5a2e4d86bd1", "x-b3-sampled: 1"}, "broken": {"traceparent: 00-xyz"},
		"b3 first": {"x-b3-traceid: 64fe8b2a57d3eff7", "x-b3-spanid: e457b5a2e4d86bd1", "x-b3-sampled: 1", "traceparent: 00-" + trace + "-" + span + "-00"},
	}
	answers := map[string]http.Header{} // all asks come first, since collectors are told in batches
	each := func(do func(kind, caller, path string, port int)) {
		for kind, twin := range twins {
			for n, name := range []string{"out", "in", "only"} {
				for caller := range callers {
					do(kind, caller, "/"+name+"/"+strings.ReplaceAll(caller, " ", "_"), twin.ports[n])
				}
			}
		}
	}
	each(func(kind, caller, path string, port int) {
		answers[kind+path] = askForFields(t, port, path, callers[caller]...)
	})
	told := map[string]map[string]string{"envoy": {}, "serai": {}}
	each(func(kind, caller, path string, _ int) {
		heard := answers[kind+path]
		id, parent := heard.Get("X-B3-Spanid"), heard.Get("Traceparent")
		known := func(text string) string { // identifiers that are new have no name but this
			for _, c := range [][2]string{{heard.Get("X-B3-Traceid"), "TRACE"}, {id, "SPAN"}} { // a root's trace ends as its span
				if !slices.ContainsFunc(callers[caller], func(f string) bool { return strings.Contains(f, c[0]) }) {
					text = strings.ReplaceAll(text, c[0], c[1])
				}
			}
			return text
		}
		all := fmt.Sprint(known(heard.Get("X-B3-Traceid")), len(heard.Get("X-B3-Traceid")), " ", known(id), " ", heard.Get("X-B3-Parentspanid"), " ", heard.Get("X-B3-Sampled"), " ", known(parent))
		if heard.Get("X-B3-Sampled") == "1" {
			s := collectors[kind].find(t, "http://web.example"+path)
			all += fmt.Sprint(" told ", known(s.TraceID), known(s.ID), s.ParentID, s.Shared)
			for _, note := range s.Notes {
				if note.Value != "ss" && note.Value != "cr" { // by which Envoy says again what kind a span is, and when it ended
					all += " " + note.Value
				}
				if note.At < 1e15 {
					t.Errorf("%s: %s at %d", kind, note.Value, note.At)
				}
			}
		}
		told[kind][path] = all
	})
	if diff := cmp.Diff(told["envoy"], told["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	t.Logf("%q", told["envoy"])
}
