package integration_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// asksMetadata is an RBAC filter that lets through what has a value in metadata.
func asksMetadata(namespace, path, value string) string {
	var steps []string
	for step := range strings.SplitSeq(path, "/") {
		steps = append(steps, `{"key":"`+step+`"}`)
	}
	return httpFilter(rbacAny, `"rules":{"policies":{"p":{"permissions":[{"metadata":{"filter":"`+namespace+`","path":[`+
		strings.Join(steps, ",")+`],"value":`+value+`}}],"principals":[{"any":true}]}}}`)
}

// TestHeaderToMetadataAsEnvoy has an RBAC filter tell what became of header fields and cookies.
func TestHeaderToMetadataAsEnvoy(t *testing.T) {
	t.Parallel()
	const own = "envoy.filters.http.header_to_metadata"
	rule := func(what, rest string) string {
		return httpFilter(h2mAny, `"requestRules":[{`+what+`,`+rest+`}]`)
	}
	chain := func(filter, namespace, path, value string) chainSpec {
		return chainSpec{filters: filter + "," + asksMetadata(namespace, path, value)}
	}
	exact := func(s string) string { return `{"stringMatch":{"exact":"` + s + `"}}` }
	present := `{"presentMatch":true}`
	w := newTwin(t, map[string]chainSpec{
		"plain":   chain(rule(`"header":"X-In"`, `"onHeaderPresent":{"key":"k"}`), own, "k", exact("v")),
		"present": chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k"},"remove":true`), "n", "k", present),
		"absent":  chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k"}`), "n", "k", `{"presentMatch":false}`),
		"missing": chain(rule(`"header":"x-in"`, `"onHeaderMissing":{"metadataNamespace":"n","key":"k","value":"none"},"remove":true`), "n", "k", exact("none")),
		"const":   chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k","value":"fix"}`), "n", "k", exact("fix")),
		"number":  chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k","type":"NUMBER"}`), "n", "k", `{"doubleMatch":{"range":{"start":1,"end":10}}}`),
		"exactly": chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k","type":"NUMBER"}`), "n", "k", `{"doubleMatch":{"exact":2}}`),
		"base64":  chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k","encode":"BASE64"}`), "n", "k", exact("v")),
		"proto":   chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k","encode":"BASE64","type":"PROTOBUF_VALUE"}`), "n", "k", `{"orMatch":{"valueMatchers":[{"nullMatch":{}},{"boolMatch":true},`+exact("v")+`]}}`),
		"list":    chain(rule(`"header":"x-in"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k","encode":"BASE64","type":"PROTOBUF_VALUE"}`), "n", "k", `{"listMatch":{"oneOf":`+exact("v")+`}}`),
		"cookie":  chain(rule(`"cookie":"c"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k"},"onHeaderMissing":{"metadataNamespace":"n","key":"k","value":"none"}`), "n", "k", `{"orMatch":{"valueMatchers":[`+exact("v")+`,`+exact("none")+`]}}`),
		"method":  chain(rule(`"header":":method"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k"}`), "n", "k", exact("GET")),
		"path":    chain(rule(`"header":":path"`, `"onHeaderPresent":{"metadataNamespace":"n","key":"k","regexValueRewrite":{"pattern":{"regex":"^/([a-z]+)/.*"},"substitution":"<\\1>"}}`), "n", "k", exact("<a>")),
		"consul": chain(rule(`"header":"x-forwarded-client-cert"`, `"onHeaderPresent":{"metadataNamespace":"consul","key":"trust-domain","regexValueRewrite":{"pattern":{"regex":".*URI=spiffe://([^/]+.[^/]+)(?:/ap/([^/]+))?/ns/([^/]+)/dc/([^/]+)/svc/([^/;,]+).*"},"substitution":"\\1"}}`),
			"consul", "trust-domain", exact("td.consul")),
	})
	for name := range w.chains {
		if name == "consul" {
			continue // which drops the field without mTLS
		}
		for _, value := range []string{"v", "V", "", " v ", "1", "2", "9.99", "10", "1e0", "0x1p1", "0x2", "0X2", "-0x2", "0x", "x2", "+2", "2 ", " 2", "nan", "inf", "1_0", "2.0.0", "dg==", "dg", "dg=", "d g", "GgF2", "CAA", "IAE=", "MgUKAxoBdg==", "/////w==", "none", "fix", strings.Repeat("v", 8191), strings.Repeat("v", 8192)} {
			w.ask(t, name, request("GET /a/b", "X-In: "+value, "Cookie: c="+value))
		}
		w.ask(t, name, request("GET /a/b"))
		w.ask(t, name, request("POST /a", "Content-Length: 0"))
		w.ask(t, name, request("GET /a/b", "X-In: v", "x-in: v"))
		w.ask(t, name, request("GET /a/b", "X-In: d", "x-in: g=="))
		for _, cookie := range []string{"c=v", "c=v; d=e", "d=e; c=v", "d=e;c=v", `c="v"`, `c="v`, "c", "C=v", "cc=v", "c=", "c=x; c=v", "c=v; c=x", " c = v "} {
			w.ask(t, name, request("GET /a/b", "Cookie: "+cookie))
		}
	}
	for _, xfcc := range []string{"By=x;URI=spiffe://td.consul/ns/default/dc/dc1/svc/web", "Hash=1", ""} {
		w.ask(t, "consul", request("GET /", "X-Forwarded-Client-Cert: "+xfcc))
	}
}

// TestRBACStatsAsEnvoy counts what is allowed and denied, in earnest and in the shadow, under the same names.
func TestRBACStatsAsEnvoy(t *testing.T) {
	t.Parallel()
	under := func(prefix string) string {
		return `{"policies":{"p":{"permissions":[{"urlPath":{"path":{"prefix":"` + prefix + `"}}}],"principals":[{"any":true}]}}}`
	}
	denied := func(prefix string) string { return `{"action":"DENY",` + under(prefix)[1:] }
	w := newTwin(t, map[string]chainSpec{
		"plain":  {filters: httpFilter(rbacAny, `"rules":`+under("/a"))},
		"named":  {filters: httpFilter(rbacAny, `"rulesStatPrefix":"mine","shadowRulesStatPrefix":"dark","rules":`+under("/a")+`,"shadowRules":`+denied("/a/x"))},
		"dotted": {filters: httpFilter(rbacAny, `"rulesStatPrefix":"mine.","rules":`+under("/a"))},
		"shadow": {filters: httpFilter(rbacAny, `"shadowRules":`+under("/a"))},
		"told":   {filters: httpFilter(rbacAny, `"shadowRulesStatPrefix":"dark_","shadowRules":`+under("/a")) + "," + asksMetadata("envoy.filters.http.rbac", "dark_shadow_engine_result", `{"stringMatch":{"exact":"allowed"}}`)},
		"whose":  {filters: httpFilter(rbacAny, `"shadowRules":`+under("/a")) + "," + asksMetadata("envoy.filters.http.rbac", "shadow_effective_policy_id", `{"stringMatch":{"exact":"p"}}`)},
		"log":    {filters: httpFilter(rbacAny, `"rules":{"action":"LOG",`+under("/a")[1:]) + "," + asksMetadata("envoy.common", "access_log_hint", `{"boolMatch":true}`)},
		"empty":  {filters: httpFilter(rbacAny, `"rules":{}`)}, // trap 8
		"dempty": {filters: httpFilter(rbacAny, `"rules":{"action":"DENY"}`)},
	})
	for name := range w.chains {
		for _, path := range []string{"/a", "/a/x", "/b", "/a?b", "/"} {
			w.ask(t, name, request("GET "+path))
		}
	}
	w.sameStats(t, "http.plain.rbac.allowed", "http.plain.rbac.denied", "http.named.rbac.mine.allowed", "http.named.rbac.dark.shadow_denied", "http.named.rbac.dark.shadow_allowed",
		"http.dotted.rbac.mine.denied", "http.shadow.rbac.shadow_allowed", "http.shadow.rbac.shadow_denied", "http.told.rbac.dark_.shadow_denied", "http.log.rbac.allowed",
		"http.empty.rbac.denied", "http.dempty.rbac.allowed")
}

// call makes a call of gRPC over HTTP/2 to both, and complains if they differ.
func (w *twin) call(t *testing.T, chain, path string, fields []string, body string) {
	t.Helper()
	transport := &http.Transport{Protocols: &http.Protocols{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	var answers []string
	for _, addr := range []string{w.chains[chain].ours, w.chains[chain].theirs} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, strings.NewReader(body))
		must(t, err)
		for _, field := range fields {
			name, value, _ := strings.Cut(field, ": ")
			req.Header.Set(name, value)
		}
		resp, err := transport.RoundTrip(req)
		must(t, err)
		text, err := io.ReadAll(resp.Body)
		must(t, err)
		resp.Body.Close()
		answers = append(answers, fmt.Sprintf("%d %q %s%s %s%s", resp.StatusCode, text, resp.Header.Get("Grpc-Status"), resp.Trailer.Get("Grpc-Status"),
			resp.Header.Get("Grpc-Message"), resp.Trailer.Get("Grpc-Message")))
	}
	if answers[0] != answers[1] {
		t.Errorf("%s: we answer %s, Envoy %s", path, answers[0], answers[1])
	}
}

// TestGRPCStatsAsEnvoy counts the same calls of gRPC under the same names. In front of it stands what Consul puts there
// (trap 14): grpc_stats and the bridge before RBAC.
func TestGRPCStatsAsEnvoy(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	server := &http.Server{ReadHeaderTimeout: patience, Protocols: &http.Protocols{}, Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = http.MaxBytesReader(rw, r.Body, 1<<20).Read(make([]byte, 1<<20))
		rw.Header().Set("Content-Type", "application/grpc")
		status := r.Header.Get("X-Status")
		if r.Header.Get("X-Only") != "" {
			rw.Header().Set("Grpc-Status", status)
			return
		}
		rw.Header().Set("Trailer", "Grpc-Status")
		_, _ = rw.Write([]byte("\x00\x00\x00\x00\x03abc\x00\x00\x00\x00\x00"))
		rw.Header().Set("Grpc-Status", status)
	})}
	server.Protocols.SetUnencryptedHTTP2(true)
	go func() { _ = server.Serve(listener) }()
	t.Cleanup(func() { server.Close() })
	addr, _ := listener.Addr().(*net.TCPAddr)
	cluster := fmt.Sprintf(`{"name":"echo","type":"STATIC","connectTimeout":"5s","typedExtensionProtocolOptions":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicitHttpConfig":{"http2ProtocolOptions":{}}}},
		"loadAssignment":{"clusterName":"echo","endpoints":[{"lbEndpoints":[{"endpoint":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}}}}]}]}}`, addr.Port)
	stats := func(config string) string {
		return httpFilter("type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig", config)
	}
	bridge := httpFilter("type.googleapis.com/envoy.extensions.filters.http.grpc_http1_bridge.v3.Config", "")
	deny := httpFilter(rbacAny, `"rules":{"action":"DENY","policies":{"p":{"permissions":[{"urlPath":{"path":{"prefix":"/s.Deny/"}}}],"principals":[{"any":true}]}}}`)
	w := newTwin(t, map[string]chainSpec{
		// Envoy counts a bridged call twice: by the head that the bridge has made, and by the trailers.
		"bridged": {filters: bridge + "," + deny, cluster: "echo"},
		"all":     {filters: stats(`"statsForAllMethods":true`) + "," + bridge + "," + deny, cluster: "echo"},
		"few":     {filters: stats(`"individualMethodStatsAllowlist":{"services":[{"name":"few.S","methodNames":["Yes"]}]}`) + "," + bridge + "," + deny, cluster: "echo"},
		"plain":   {filters: stats(`"statsForAllMethods":true,"replaceDotsInGrpcServiceName":true,"enableUpstreamStats":true`) + "," + bridge + "," + deny, cluster: "echo"},
		"unset":   {filters: stats("") + "," + bridge + "," + deny, cluster: "echo"},
	}, cluster)
	frame := "\x00\x00\x00\x00\x02hi"
	for chain, paths := range map[string][]string{
		"all":   {"/a.S/M", "/a.S/M?q", "/s.Deny/M", "/a.S", "/a/b/c"},
		"few":   {"/few.S/Yes", "/few.S/No"},
		"plain": {"/plain.S/M"},
		"unset": {"/unset.S/M"},
	} {
		for _, path := range paths {
			for _, fields := range [][]string{{"X-Status: 0"}, {"X-Status: 5"}, {"X-Status: 16", "X-Only: 1"}, {"X-Status: 0", "X-Only: 1"}} {
				body := frame + frame + frame
				fields = append(fields, "Content-Type: application/grpc", fmt.Sprintf("Content-Length: %d", len(body)))
				w.ask(t, "bridged", request("POST "+path, fields...)+body)
				w.call(t, chain, path, fields, body)
			}
		}
		w.ask(t, chain, request("POST "+paths[0], "Content-Type: application/json", "X-Status: 0"))
	}
	w.sameStats(t, "cluster.echo.grpc.a.S.M.success", "cluster.echo.grpc.a.S.M.failure", "cluster.echo.grpc.a.S.M.total", "cluster.echo.grpc.a.S.M.0", "cluster.echo.grpc.a.S.M.5",
		"cluster.echo.grpc.a.S.M.16", "cluster.echo.grpc.a.S.M.request_message_count", "cluster.echo.grpc.a.S.M.response_message_count",
		"cluster.echo.grpc.s.Deny.M.failure", "cluster.echo.grpc.s.Deny.M.7", "cluster.echo.grpc.s.Deny.M.total",
		"cluster.echo.grpc.few.S.Yes.total", "cluster.echo.grpc.few.S.Yes.request_message_count", "cluster.echo.grpc.total", "cluster.echo.grpc.request_message_count",
		"cluster.echo.grpc.plain_S.M.success")
}
