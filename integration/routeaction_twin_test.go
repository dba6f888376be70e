package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

// routeTwins are our proxy and Envoy with the same route tables, each on a listener of its own.
type routeTwins struct {
	all  map[string]*staticTwin
	apps *mirrorApp
	grpc *http.Transport // HTTP/2 without TLS
	// bodies compares what answers of the proxy's own look like, too.
	bodies bool
}

// managerChain is a connection manager: further fields of it, filters in front of the router, and a route table.
type managerChain struct{ manager, filters, table string }

// mirrorApp tells what it gets, and what copies of requests it has got.
type mirrorApp struct {
	mu     sync.Mutex // guards:
	calls  map[string]int
	copies map[string][]string
}

// ServeHTTP hangs at the first call of a path with "hang" in it.
func (a *mirrorApp) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	key := r.Header.Get("X-Twin")
	if strings.Contains(r.URL.Path, "missing") {
		w.WriteHeader(http.StatusNotFound)
		return
	}
	a.mu.Lock()
	a.calls[key+r.URL.Path]++
	n := a.calls[key+r.URL.Path]
	if strings.Contains(r.Host, "copy") || r.Header.Get("X-Copied") != "" && r.Header.Get("X-Envoy-Internal") != "" {
		a.copies[key] = append(a.copies[key], fmt.Sprintf("%s %s %s %q", r.Method, r.Host, r.RequestURI, body))
	}
	a.mu.Unlock()
	if strings.Contains(r.URL.Path, "hang") && n == 1 || strings.Contains(r.URL.Path, "ever") {
		<-r.Context().Done()
		return
	}
	_ = json.NewEncoder(w).Encode(seen{Name: r.Host, Method: r.Method, Host: r.Host, Path: r.RequestURI, Header: r.Header})
}

// newRouteTwins starts them with tables, as JSON without a name.
func newRouteTwins(t *testing.T, tables ...string) *routeTwins {
	t.Helper()
	var chains []managerChain
	for _, table := range tables {
		chains = append(chains, managerChain{table: table})
	}
	return newChainTwins(t, chains...)
}

func newChainTwins(t *testing.T, chains ...managerChain) *routeTwins {
	t.Helper()
	return newChainTwinsWith(t, nil, chains...)
}

// newChainTwinsWith is newChainTwins with more clusters.
func newChainTwinsWith(t *testing.T, more []json.RawMessage, chains ...managerChain) *routeTwins {
	t.Helper()
	w := &routeTwins{apps: &mirrorApp{calls: map[string]int{}, copies: map[string][]string{}}}
	w.grpc = &http.Transport{Protocols: &http.Protocols{}}
	w.grpc.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(w.grpc.CloseIdleConnections)
	app := httptest.NewServer(w.apps)
	t.Cleanup(app.Close)
	addr := app.Listener.Addr().String()
	named := strings.Replace(string(clusterAt("named", addr)), `"STATIC"`, `"STRICT_DNS","dns_lookup_family":"V4_ONLY"`, 1)
	named = strings.Replace(named, `"127.0.0.1"`, `"localhost"`, 1)
	ring := strings.Replace(string(clusterAt("ring", addr)), `"STATIC"`, `"STATIC","lb_policy":"RING_HASH"`, 1)
	w.all = staticTwins(t, harness.ForTest(t), len(chains), func(ports []int) (clusters, listeners []json.RawMessage) {
		for i, c := range chains {
			listeners = append(listeners, fmt.Appendf(nil, `{"name":"l%d","address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[{"name":"hcm",
				"typed_config":{"@type":%q,"stat_prefix":"h%d",%s"http_filters":[%s{"name":"router","typed_config":{"@type":%q}}],"route_config":{"validate_clusters":false,%s}}]}]}`,
				i, ports[i], hcmType, i, behind(c.manager), behind(c.filters), routerAny, c.table[1:]))
		}
		return append([]json.RawMessage{clusterAt("a", addr), clusterAt("b", addr), clusterAt("copies", addr), json.RawMessage(named), json.RawMessage(ring)}, more...), listeners
	})
	return w
}

// routeAsk is a request to a table; fields are "name: value".
type routeAsk struct {
	table              int
	method, host, path string
	fields             []string
	body               string
}

// String implements fmt.Stringer.
func (q routeAsk) String() string {
	return fmt.Sprintf("%d %s %s%s %q", q.table, q.method, q.host, q.path, q.fields)
}

// shownFields are those that are compared of what the application gets.
func shownFields() []string {
	return []string{
		"X-Forwarded-Host", "X-Envoy-Original-Host", "X-Envoy-Original-Path", "X-Envoy-Expected-Rq-Timeout-Ms", "Grpc-Timeout", "X-Envoy-Is-Timeout-Retry",
		"X-Envoy-Attempt-Count", "X-Add", "X-Lua", "X-Which", "X-Envoy-Downstream-Service-Cluster", "X-Envoy-Downstream-Service-Node", "User-Agent", "Via", "X-Forwarded-For", "X-Envoy-External-Address", "X-Envoy-Internal",
	}
}

// put makes the request to one of both, and tells what became of it.
func (w *routeTwins) put(t *testing.T, kind string, q routeAsk) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), q.method, "http://"+local(w.all[kind].ports[q.table])+q.path, strings.NewReader(q.body))
	must(t, err)
	req.Host = q.host
	req.Header.Set("X-Twin", kind)
	req.Header.Set("User-Agent", "twin")
	for _, f := range q.fields {
		name, value, _ := strings.Cut(f, ": ")
		if name == "User-Agent" {
			req.Header.Del(name) // "" sends none
		}
		req.Header.Add(name, value)
	}
	client := strict(t)
	if strings.HasPrefix(req.Header.Get("Content-Type"), "application/grpc") {
		client.Transport = w.grpc
	}
	got, err := send(client, req)
	if err != nil {
		return err.Error()
	}
	out := fmt.Sprintf("%d location=%q grpc=%q", got.status, got.header.Get("Location"), got.header.Get("Grpc-Status"))
	if cookie := got.header.Get("Set-Cookie"); cookie != "" {
		out += " cookie=" + regexp.MustCompile(`"[0-9a-f]+"`).ReplaceAllString(cookie, "N") // by the client's port
	}
	var s seen
	if w.bodies && !strings.HasPrefix(got.body, `{"Name"`) {
		out += fmt.Sprintf(" %q %q added=%q message=%q", strings.TrimSuffix(got.header.Get("Content-Type"), "; charset=utf-8"), strings.TrimSuffix(got.body, "\n"), got.header.Get("X-Added"), got.header.Get("Grpc-Message"))
	}
	if got.status == http.StatusOK && json.Unmarshal([]byte(got.body), &s) == nil {
		out += fmt.Sprintf(" %s %s %s", s.Method, s.Host, s.Path)
		for _, name := range shownFields() {
			if values := s.Header.Values(name); values != nil {
				out += fmt.Sprintf(" %s=%q", name, strings.Join(values, ","))
			}
		}
	}
	return strings.ReplaceAll(out, ownAddress(t), "127.0.0.1") // which Envoy tells in the place of a loopback address
}

// ownAddress is the first of the machine's that is no loopback address.
func ownAddress(t *testing.T) string {
	t.Helper()
	all, err := net.InterfaceAddrs()
	must(t, err)
	for _, a := range all {
		if prefix, ok := a.(*net.IPNet); ok && prefix.IP.To4() != nil && !prefix.IP.IsLoopback() {
			return prefix.IP.String()
		}
	}
	return "127.0.0.1"
}

// same compares what becomes of requests, and returns what Envoy made of them.
func (w *routeTwins) same(t *testing.T, asks []routeAsk) map[string]string {
	t.Helper()
	said := map[string]string{}
	for _, q := range asks {
		ours, theirs := w.put(t, "serai", q), w.put(t, "envoy", q)
		if ours != theirs {
			t.Errorf("%s:\nwe     %s\nEnvoy  %s", q, ours, theirs)
		}
		said[q.String()] = theirs
	}
	return said
}

// regexOf is a rewrite by a regular expression.
func regexOf(pattern, substitution string) string {
	return string(asJSON(map[string]any{"pattern": map[string]string{"regex": pattern}, "substitution": substitution}))
}

// TestRouteActionsAsEnvoy compares matches, rewrites, redirects, targets and timeouts of routes that only a patch or an escape
// hatch can ask for.
func TestRouteActionsAsEnvoy(t *testing.T) {
	t.Parallel()
	const template = "type.googleapis.com/envoy.extensions.path.match.uri_template.v3.UriTemplateMatchConfig"
	const rewrite = "type.googleapis.com/envoy.extensions.path.rewrite.uri_template.v3.UriTemplateRewriteConfig"
	route := func(match, action string) string { return fmt.Sprintf(`{"match":{%s},%s}`, match, action) }
	prefix := func(path, action string) string {
		return route(fmt.Sprintf(`"prefix":%q`, path), `"route":{`+action+`}`)
	}
	share := func(name string, weight int) string {
		return fmt.Sprintf(`{"name":"a","weight":%d,"request_headers_to_add":[{"header":{"key":"x-which","value":%q}}]}`, weight, name)
	}
	redirect := func(path, action string) string {
		return route(fmt.Sprintf(`"prefix":%q`, path), `"redirect":{`+action+`}`)
	}
	templated := func(text, action string) string {
		return route(fmt.Sprintf(`"path_match_policy":{"name":"t","typed_config":{"@type":%q,"path_template":%q}}`, template, text), action)
	}
	main := strings.Join([]string{
		prefix("/xfh/literal", `"cluster":"a","host_rewrite_literal":"new.example","append_x_forwarded_host":true`),
		prefix("/xfh/auto", `"cluster":"named","auto_host_rewrite":true,"append_x_forwarded_host":true`),
		prefix("/xfh/plain", `"cluster":"a","append_x_forwarded_host":true`),
		prefix("/host/header", `"cluster":"a","host_rewrite_header":"X-Host"`),
		prefix("/host/path", `"cluster":"a","prefix_rewrite":"/p","host_rewrite_path_regex":`+regexOf("^/host/path/([a-z]+)(/.*)?$", `\1.example`)),
		prefix("/cluster/404", `"cluster":"nowhere","cluster_not_found_response_code":"NOT_FOUND"`),
		prefix("/cluster/500", `"cluster":"nowhere","cluster_not_found_response_code":"INTERNAL_SERVER_ERROR"`),
		prefix("/cluster/503", `"cluster":"nowhere"`),
		prefix("/cluster/header", `"cluster_header":"X-Cluster","cluster_not_found_response_code":"NOT_FOUND"`),
		prefix("/cluster/host", `"cluster_header":":authority"`),
		prefix("/weighted/host", `"weighted_clusters":{"clusters":[{"name":"a","weight":1,"host_rewrite_literal":"w.example"}]}`),
		prefix("/weighted/both", `"host_rewrite_literal":"r.example","append_x_forwarded_host":true,"weighted_clusters":{"clusters":[{"name":"a","weight":1,"host_rewrite_literal":"w.example"}]}`),
		prefix("/weighted/number", `"weighted_clusters":{"header_name":"X-Number","clusters":[`+share("one", 1)+","+share("two", 2)+`]}`),
		prefix("/weighted/hash", `"hash_policy":[{"header":{"header_name":"X-Number"}}],"weighted_clusters":{"use_hash_policy":true,"clusters":[`+share("one", 50)+","+share("two", 50)+`]}`),
		prefix("/cookie", `"cluster":"ring","hash_policy":[{"cookie":{"name":"c","ttl":"60s","path":"/x","attributes":[{"name":"SameSite","value":"Strict"},{"name":"Secure"}]}}]`),
		prefix("/weighted/header", `"weighted_clusters":{"clusters":[{"cluster_header":"X-Cluster","weight":1}]}`),
		prefix("/stream/ever", `"cluster":"a","timeout":"0.1s","max_stream_duration":{"max_stream_duration":"0.4s"}`),
		prefix("/stream/zero", `"cluster":"a","timeout":"5s","max_stream_duration":{"max_stream_duration":"0s"}`),
		prefix("/stream/grpc", `"cluster":"a","max_stream_duration":{"grpc_timeout_header_max":"3s","grpc_timeout_header_offset":"1s"}`),
		prefix("/stream/none", `"cluster":"a","max_stream_duration":{"max_stream_duration":"20s","grpc_timeout_header_max":"0s"}`),
		prefix("/grpc/most", `"cluster":"a","timeout":"7s","max_grpc_timeout":"3s"`),
		prefix("/grpc/any", `"cluster":"a","timeout":"7s","max_grpc_timeout":"0s","grpc_timeout_offset":"1s"`),
		prefix("/retry/hang", `"cluster":"a","timeout":"5s","retry_policy":{"retry_on":"5xx","per_try_timeout":"2s","num_retries":2}`),
		redirect("/re/prefix", `"prefix_rewrite":"/new"`), redirect("/re/strip", `"path_redirect":"/x","strip_query":true`), redirect("/re/own", `"path_redirect":"/x?own","strip_query":true`),
		redirect("/re/only", `"strip_query":true,"response_code":"FOUND"`), redirect("/re/regex", `"host_redirect":"h.example","https_redirect":true,"regex_rewrite":`+regexOf("^/re/regex/([^/]+)/(.*)$", `/\2/\1`)),
		route(`"path":"/re/exact"`, `"redirect":{"prefix_rewrite":"/new"}`), route(`"path_separated_prefix":"/re/sep"`, `"redirect":{"prefix_rewrite":"/new"}`),
		route(`"prefix":"/m/grpc","grpc":{}`, `"direct_response":{"status":201}`), route(`"prefix":"/m/grpc"`, `"direct_response":{"status":202}`),
		route(`"prefix":"/m/none","runtime_fraction":{"default_value":{"numerator":0}}`, `"direct_response":{"status":201}`), route(`"prefix":"/m/none","runtime_fraction":{"default_value":{"numerator":100},"runtime_key":"x"}`, `"direct_response":{"status":202}`),
		route(`"prefix":"/m/cert","tls_context":{"presented":true}`, `"direct_response":{"status":201}`), route(`"prefix":"/m/cert","tls_context":{"validated":false}`, `"direct_response":{"status":202}`),
		route(`"prefix":"/m/range","headers":[{"name":"x-n","range_match":{"start":-1,"end":10}}]`, `"direct_response":{"status":201}`),
		route(`"prefix":"/m/range","headers":[{"name":"x-n","range_match":{"start":-1,"end":10},"invert_match":true}]`, `"direct_response":{"status":202}`),
		route(`"prefix":"/m/range","headers":[{"name":"x-m","range_match":{"start":0,"end":1},"treat_missing_header_as_empty":true,"invert_match":true}]`, `"direct_response":{"status":203}`),
		templated("/t/{id}/x/{file=**}", fmt.Sprintf(`"route":{"cluster":"a","path_rewrite_policy":{"name":"r","typed_config":{"@type":%q,"path_template_rewrite":"/new/{file}/of/{id}"}}}`, rewrite)),
		templated("/u/*/y", `"direct_response":{"status":201}`), templated("/u/**.m3u8", `"direct_response":{"status":202}`), templated("/v/{a=x/*}/{b}", `"direct_response":{"status":203}`),
	}, ",")
	w := newRouteTwins(t,
		`{"virtual_hosts":[{"name":"v","domains":["*"],"include_request_attempt_count":true,"include_is_timeout_retry_header":true,"routes":[`+main+`]}]}`,
		`{"ignore_port_in_host_matching":true,"ignore_path_parameters_in_path_matching":true,"request_headers_to_add":[{"header":{"key":"x-add","value":"table"}}],"virtual_hosts":[
			{"name":"x","domains":["x.example","[::1]"],"routes":[`+route(`"path":"/exact"`, `"route":{"cluster":"a","prefix_rewrite":"/new"}`)+`,`+prefix("/pre", `"cluster":"a","prefix_rewrite":"/new"`)+`,`+prefix("/", `"cluster":"a"`)+`]},
			{"name":"s","domains":["*.s.example"],"routes":[`+prefix("/", `"cluster":"a","host_rewrite_literal":"s"`)+`]},
			{"name":"p","domains":["p.*"],"routes":[`+prefix("/", `"cluster":"a","host_rewrite_literal":"p"`)+`]}]}`,
		`{"virtual_hosts":[{"name":"all","domains":["all.example"],"require_tls":"ALL","routes":[`+prefix("/", `"cluster":"a"`)+`]},
			{"name":"external","domains":["external.example:1"],"require_tls":"EXTERNAL_ONLY","routes":[`+prefix("/a", `"cluster":"a"`)+`]}]}`,
	)
	var asks []routeAsk
	for _, path := range []string{"/xfh/literal", "/xfh/auto", "/xfh/plain"} {
		asks = append(asks, routeAsk{0, "GET", "old.example", path, nil, ""}, routeAsk{0, "GET", "old.example:1", path, []string{"X-Forwarded-Host: first"}, ""},
			routeAsk{0, "GET", "old.example", path, []string{"X-Forwarded-Host: first,old.example"}, ""}, routeAsk{0, "GET", "old.example", path, []string{"X-Forwarded-Host: a", "X-Forwarded-Host: b"}, ""})
	}
	asks = append(asks, routeAsk{0, "GET", "h", "/host/header", nil, ""}, routeAsk{0, "GET", "h", "/host/header?x", []string{"X-Host: new.example:1"}, ""})
	for _, path := range []string{"/host/path/abc/d?e=f", "/host/path/abc"} {
		asks = append(asks, routeAsk{0, "GET", "h", path, nil, ""})
	}
	for _, fields := range [][]string{nil, {"X-Cluster: a"}, {"X-Cluster: nowhere"}, {"X-Cluster: b", "X-Cluster: nowhere"}} {
		for _, path := range []string{"/cluster/404", "/cluster/500", "/cluster/503", "/cluster/header", "/weighted/header"} {
			asks = append(asks, routeAsk{0, "GET", "h", path, fields, ""})
		}
	}
	asks = append(asks, routeAsk{0, "GET", "a", "/cluster/host", nil, ""}, routeAsk{0, "GET", "nowhere", "/cluster/host", nil, ""},
		routeAsk{0, "GET", "h", "/weighted/host", nil, ""}, routeAsk{0, "GET", "h", "/weighted/both", nil, ""}, routeAsk{0, "GET", "h", "/stream/ever", nil, ""}, routeAsk{0, "GET", "h", "/stream/zero", nil, ""})
	asks = append(asks, routeAsk{0, "GET", "h", "/cookie", nil, ""}, routeAsk{0, "GET", "h", "/cookie", []string{"Cookie: c=1"}, ""})
	for n := range 40 {
		asks = append(asks, routeAsk{0, "GET", "h", "/weighted/hash", []string{fmt.Sprint("X-Number: ", n)}, ""})
	}
	for _, n := range []string{"0", "1", "2", "3", " 4 ", "18446744073709551615"} {
		asks = append(asks, routeAsk{0, "GET", "h", "/weighted/number", []string{"X-Number: " + n}, ""})
	}
	grpc := "Content-Type: application/grpc"
	for _, path := range []string{"/stream/zero", "/stream/grpc", "/stream/none", "/grpc/most", "/grpc/any", "/grpc/any/ever"} {
		for _, timeout := range []string{"", "4S", "2500m", "1H", "20S", "4000000u", "123456789m", "x", "99999999S", "15000000000n"} {
			if strings.HasSuffix(path, "ever") && timeout != "2500m" {
				continue
			}
			fields := []string{"Grpc-Timeout: " + timeout}
			if timeout == "" {
				fields = nil
			}
			asks = append(asks, routeAsk{0, "POST", "h", path, append(fields, grpc), ""})
		}
	}
	asks = append(asks, routeAsk{0, "GET", "h", "/stream/grpc/ever", []string{"Grpc-Timeout: 1H"}, ""}, routeAsk{0, "POST", "h", "/stream/grpc/ever", []string{"Grpc-Timeout: 1H", grpc}, ""}, routeAsk{0, "GET", "h", "/retry/hang", nil, ""})
	for _, path := range []string{"/re/prefix", "/re/prefix/a?b", "/re/prefixed", "/re/strip?q", "/re/own?q", "/re/only/a?q", "/re/regex/a/b/c?d", "/re/regex/a", "/re/exact?q", "/re/sep/a?q", "/re/sep"} {
		asks = append(asks, routeAsk{0, "GET", "h:8080", path, nil, ""})
	}
	for _, kind := range []string{"application/grpc", "application/grpc+proto", "application/grpc-web", "application/json"} {
		asks = append(asks, routeAsk{0, "POST", "h", "/m/grpc", []string{"Content-Type: " + kind}, ""})
	}
	asks = append(asks, routeAsk{0, "GET", "h", "/m/none", nil, ""}, routeAsk{0, "GET", "h", "/m/cert", nil, ""}, routeAsk{0, "GET", "h", "/m/range", nil, ""})
	for _, n := range []string{"0", "-1", "-2", "9", "10", " 5 ", "+5", "05", "5x", "0x5", "9223372036854775808", "1.0", "--1"} {
		asks = append(asks, routeAsk{0, "GET", "h", "/m/range", []string{"X-N: " + n}, ""}, routeAsk{0, "GET", "h", "/m/range", []string{"X-M: " + n}, ""})
	}
	asks = append(asks, routeAsk{0, "GET", "h", "/m/range", []string{"X-N: 1", "X-N: 2"}, ""})
	for _, path := range []string{"/t/1/x/a/b?q", "/t/1/x/", "/t/1/x", "/t//x/a", "/u/a/y", "/u/a/b/y", "/u//y", "/u/a.m3u8", "/u/a/b/c.m3u8", "/u/.m3u8", "/u/a%20b/y", "/u/a*b/y", "/v/x/1/2", "/v/y/1/2", "/v/x/1"} {
		asks = append(asks, routeAsk{0, "GET", "h", path, nil, ""})
	}
	for _, host := range []string{"x.example", "X.Example:80", "[::1]:80", "[::1]", "a.s.example:1", "p.q:1", "y"} {
		for _, path := range []string{"/exact", "/exact;a=b", "/exact;a/b?c", "/pre/a;b/c", "/pre;a", "/p"} {
			asks = append(asks, routeAsk{1, "GET", host, path, nil, ""})
		}
	}
	for _, host := range []string{"all.example", "external.example:1"} {
		for _, path := range []string{"/a?b=c", "/z"} {
			asks = append(asks, routeAsk{2, "GET", host, path, nil, ""}, routeAsk{2, "GET", host, path, []string{"X-Forwarded-Proto: https"}, ""}, routeAsk{2, "GET", host, path, []string{"X-Envoy-Internal: true"}, ""})
		}
	}
	said := w.same(t, asks)
	for ask, want := range map[string]string{
		`0 GET old.example/xfh/literal []`: `200 location="" grpc="" GET new.example /xfh/literal X-Forwarded-Host="old.example"`,
		`0 GET h/stream/ever []`:           "504",
		`0 GET h/retry/hang []`:            `X-Envoy-Is-Timeout-Retry="true"`,
		`2 GET all.example/a?b=c []`:       "301",
	} {
		if !strings.Contains(said[ask], want) {
			t.Errorf("%s: Envoy says %q", ask, said[ask])
		}
	}
}

// TestMirrorsAsEnvoy compares the copies of requests that other clusters get.
func TestMirrorsAsEnvoy(t *testing.T) {
	t.Parallel()
	one := `"request_mirror_policies":[{"cluster":"copies"}]`
	route := func(path, more string) string {
		return fmt.Sprintf(`{"match":{"prefix":%q},"route":{"cluster":"a"%s}}`, path, more)
	}
	w := newRouteTwins(t, `{`+one+`,"virtual_hosts":[{"name":"v","domains":["v.copy","v.copy:80"],`+strings.ReplaceAll(one, `"copies"`, `"copies","disable_shadow_host_suffix_append":true`)+`,"routes":[
		`+route("/own", `,"prefix_rewrite":"/new","request_mirror_policies":[{"cluster":"copies"},{"cluster":"nowhere"},{"cluster_header":"X-Mirror"}]`)+`,
		`+route("/none", `,"request_mirror_policies":[{"cluster":"copies","runtime_fraction":{"default_value":{"numerator":0}}}]`)+`,`+route("/", "")+`]},
		{"name":"t","domains":["*"],"routes":[`+route("/", "")+`]}]}`)
	var asks []routeAsk
	for _, host := range []string{"v.copy", "v.copy:80", "t.copy", "t.copy:80"} {
		for _, path := range []string{"/own/a?b", "/none", "/other"} {
			asks = append(asks, routeAsk{0, "GET", host, path, nil, ""}, routeAsk{0, "POST", host, path, []string{"X-Mirror: b"}, "body"},
				routeAsk{0, "PUT", host, path, []string{"X-Mirror: nowhere"}, strings.Repeat("x", 100_000)})
		}
	}
	w.same(t, asks)
	all := func(kind string) []string {
		w.apps.mu.Lock()
		defer w.apps.mu.Unlock()
		got := slices.Clone(w.apps.copies[kind])
		slices.Sort(got)
		return got
	}
	// Of each request the application itself is asked, too.
	want := 0
	for _, q := range asks {
		want += 2
		switch {
		case strings.HasPrefix(q.path, "/own") && strings.HasPrefix(q.host, "v."):
			if len(q.fields) > 0 && q.fields[0] == "X-Mirror: b" {
				want++
			}
		case q.path == "/none" && strings.HasPrefix(q.host, "v."):
			want--
		}
	}
	for _, kind := range kinds() {
		eventually(t, "the copies of "+kind, func(context.Context) error {
			if n := len(all(kind)); n != want {
				return fmt.Errorf("%d of %d", n, want)
			}
			return nil
		})
	}
	if diff := cmp.Diff(all("envoy"), all("serai")); diff != "" {
		t.Errorf("-envoy +serai:\n%s", diff)
	}
}
