package integration_test

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// sortedFields are fields as "name: value", but for what cannot be the same for both.
func sortedFields(h http.Header) []string {
	var all []string
	number := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}|127\.0\.0\.1:\d+`)
	for name, values := range h {
		switch name {
		case "Date", "X-Envoy-Upstream-Service-Time":
			values = []string{"T"}
		}
		for _, value := range values {
			all = append(all, name+": "+number.ReplaceAllString(value, "N"))
		}
	}
	slices.Sort(all)
	return all
}

// settings are header values to add: each is "name value", the second word of name says what is done where it is there.
func settings(all ...[3]string) string {
	var list []map[string]any
	for _, s := range all {
		list = append(list, map[string]any{"header": map[string]string{"key": s[0], "value": s[1]}, "append_action": s[2], "keep_empty_value": strings.HasPrefix(s[0], "x-keep")})
	}
	return string(asJSON(list))
}

// TestHeaderValuesAsEnvoy compares what applications and clients see of header values of every place, order and kind.
func TestHeaderValuesAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-A", "app")
		w.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(w).Encode(heard{r.Method, r.RequestURI, r.Host, r.Header})
	}))
	t.Cleanup(app.Close)
	const add, absent, set, if1 = "APPEND_IF_EXISTS_OR_ADD", "ADD_IF_ABSENT", "OVERWRITE_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS"
	level := func(name string) string {
		return fmt.Sprintf(`"request_headers_to_add":%s,"response_headers_to_add":%s`,
			settings([3]string{"x-order", name, add}, [3]string{"x-last", name, set}, [3]string{"x-first", name, absent}),
			settings([3]string{"x-order", name, add}, [3]string{"x-last", name, set}, [3]string{"x-first", name, absent}))
	}
	kindsOf := settings(
		[3]string{"x-a", "added", add}, [3]string{"x-b", "over", set}, [3]string{"x-c", "none", absent}, [3]string{"x-a", "not", absent}, [3]string{"x-d", "not", if1}, [3]string{"x-e", "yes", if1},
		[3]string{"x-f", "1", add}, [3]string{"x-f", "2", set}, [3]string{"x-f", "3", absent}, [3]string{"x-empty", "", add}, [3]string{"x-keep", "", add}, [3]string{"x-keep2", "%REQ(nope)%", add},
		[3]string{"x-path", "%REQ(:PATH)% %PROTOCOL% %REQ(x-a)%", add}, [3]string{"x-nothing", "%REQ(nope)%", add}, [3]string{"x-some", "a%REQ(nope)%b", add}, [3]string{"x-percent", "100%%", add},
		[3]string{"x-remote", "%DOWNSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %DOWNSTREAM_LOCAL_ADDRESS_WITHOUT_PORT%", add}, [3]string{"x-old", `%DYNAMIC_METADATA(["a","b"])%|%PER_REQUEST_STATE(x)%|`, add},
		[3]string{"x-route", "%ROUTE_NAME% %RESPONSE_CODE% %UPSTREAM_CLUSTER%", add}, [3]string{"x-removed", "back", add}, [3]string{"x-id", "%REQ(x-request-id)% %STREAM_ID%", add},
	)
	answers := settings(
		[3]string{"x-code", "%RESPONSE_CODE% %RESP(:STATUS)% %RESP(x-a)% %REQ(:PATH)% %RESPONSE_FLAGS%", add}, [3]string{"x-host", "%UPSTREAM_HOST% %UPSTREAM_CLUSTER% %RESPONSE_CODE_DETAILS%", add},
		[3]string{"x-a", "over", set}, [3]string{"server", "mine", set},
	)
	twins := staticTwins(t, env, 3, func(ports []int) (clusters, listeners []json.RawMessage) {
		front := func(port int, config string) json.RawMessage {
			return fmt.Appendf(nil, `{"name":"l%d","address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[{"name":"hcm",
				"typed_config":{"@type":%q,"stat_prefix":"h","http_filters":[{"name":"router","typed_config":{"@type":%q}}],"route_config":%s}}]}]}`, port, port, hcmType, routerAny, config)
		}
		levels := func(specific bool) string {
			return fmt.Sprintf(`{"name":"t","validate_clusters":false,"most_specific_header_mutations_wins":%t,%s,"virtual_hosts":[{"name":"v","domains":["*"],%s,"routes":[
				{"name":"weighted","match":{"prefix":"/weighted"},%s,"route":{"weighted_clusters":{"clusters":[{"name":"app","weight":1,%s}]}}},
				{"name":"one","match":{"prefix":"/one"},%s,"route":{"cluster":"app"}},{"name":"none","match":{"prefix":"/none"},%s,"route":{"cluster":"nowhere"}},
				{"name":"direct","match":{"prefix":"/direct"},%s,"direct_response":{"status":200}}]}]}`, specific, level("table"), level("host"), level("rule"), level("target"), level("rule"), level("rule"), level("rule"))
		}
		kinds := fmt.Sprintf(`{"name":"t","virtual_hosts":[{"name":"v","domains":["*"],"include_request_attempt_count":true,"include_attempt_count_in_response":true,"routes":[
			{"name":"r","match":{"prefix":"/kinds/"},"request_headers_to_add":%s,"request_headers_to_remove":["x-removed","x-gone"],"response_headers_to_add":%s,
			"route":{"cluster":"app","prefix_rewrite":"/","host_rewrite_literal":"other"}}]}]}`, kindsOf, answers)
		return []json.RawMessage{clusterAt("app", app.Listener.Addr().String())}, []json.RawMessage{front(ports[0], levels(false)), front(ports[1], levels(true)), front(ports[2], kinds)}
	})
	type seen struct{ Up, Down []string }
	got := map[string]map[string]seen{}
	for kind, twin := range twins {
		got[kind] = map[string]seen{}
		for n, paths := range [][]string{{"/weighted", "/one", "/none", "/direct"}, {"/weighted", "/one", "/none", "/direct"}, {"/kinds/x?y"}} {
			for _, path := range paths {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+net.JoinHostPort("127.0.0.1", fmt.Sprint(twin.ports[n]))+path, http.NoBody)
				must(t, err)
				req.Host = "web.example"
				for name, value := range map[string]string{"x-a": "came", "x-b": "came", "x-e": "came", "x-removed": "came", "x-gone": "came"} {
					req.Header.Set(name, value)
				}
				resp, err := http.DefaultClient.Do(req)
				must(t, err)
				var s seen
				var h heard
				if json.NewDecoder(resp.Body).Decode(&h) == nil {
					s.Up = append(sortedFields(h.Header), h.URI, h.Host)
				}
				must(t, resp.Body.Close())
				for _, own := range []string{"Content-Length", "Content-Type", "Transfer-Encoding"} { // of texts of our own
					resp.Header.Del(own)
				}
				s.Down = sortedFields(resp.Header)
				got[kind][fmt.Sprint(n, path)] = s
			}
		}
	}
	if diff := cmp.Diff(got["envoy"], got["serai"]); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
	t.Logf("%q", got["envoy"]["2/kinds/x?y"])
}
