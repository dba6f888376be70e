package integration_test

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/integration/harness"
)

const (
	luaAny    = "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua"
	authzAny  = "type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
	healthAny = "type.googleapis.com/envoy.extensions.filters.http.health_check.v3.HealthCheck"
	bridgeAny = "type.googleapis.com/envoy.extensions.filters.http.grpc_http1_bridge.v3.Config"
	statsAny  = "type.googleapis.com/envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
	lambdaAny = "type.googleapis.com/envoy.extensions.filters.http.aws_lambda.v3.Config"
)

// script is a lua filter.
func script(code string) string {
	return httpFilter(luaAny, `"default_source_code":{"inline_string":`+string(asJSON(code))+`}`)
}

// sees is a script that notes in a field of the response what it sees of it, behind what others have noted.
func sees(name string) string {
	return script(fmt.Sprintf(`function envoy_on_response(handle)
		local body = handle:body()
		local text = ""
		if body and body:length() > 0 then
			text = (handle:headers():get("content-type") or "-") .. ":" .. body:getBytes(0, body:length()):gsub("%%s+$", "")
		end
		local m = handle:streamInfo():dynamicMetadata():get("n")
		local h = handle:headers()
		h:add("x-seen", %q .. "|" .. h:get(":status") .. "|" .. (h:get("grpc-status") or "-") .. "|" .. (m and m["k"] or "-") .. "|" .. text)
	end`, name))
}

// keeps is a filter that makes metadata of a field of the response.
func keeps(field string) string {
	return httpFilter(h2mAny, fmt.Sprintf(`"response_rules":[{"header":%q,"on_header_present":{"metadata_namespace":"n","key":"k"},"on_header_missing":{"metadata_namespace":"n","key":"k","value":"none"}}]`, field))
}

// localReplies are the chains by name: what makes the answer, between filters that see responses.
func localReplies() map[string]string {
	deny := httpFilter(rbacAny, `"rules":{"action":"DENY","policies":{"p":{"permissions":[{"any":true}],"principals":[{"any":true}]}}}`)
	authz := func(cluster, rest string) string {
		return httpFilter(authzAny, fmt.Sprintf(`"http_service":{"server_uri":{"uri":"http://authz","cluster":%q,"timeout":"20s"},"authorization_response":{"allowed_client_headers":{"patterns":[{"exact":"x-why"},{"exact":"x-route"},{"exact":"content-type"},{"exact":"grpc-status"}]},
			"allowed_client_headers_on_success":{"patterns":[{"exact":"x-why"}]}},"authorization_request":{"allowed_headers":{"patterns":[{"exact":"x-ask"}]}}}%s`, cluster, rest))
	}
	return map[string]string{
		"none":    "",
		"short":   "",
		"rbac":    deny,
		"authz":   authz("authz", ""),
		"down":    authz("down", `,"status_on_error":{"code":"ServiceUnavailable"}`),
		"lua":     script(`function envoy_on_request(handle) handle:respond({[":status"]="418",["x-why"]={"a","b"},["x-route"]="lua"}, "short") end`),
		"empty":   script(`function envoy_on_request(handle) handle:respond({[":status"]="204"}) end`),
		"typed":   script(`function envoy_on_request(handle) handle:respond({[":status"]="200",["content-type"]="application/json"}, "{}") end`),
		"boom":    script(`function envoy_on_response(handle) error("oh") end`) + "," + deny,
		"jwt":     httpFilter(jwtAny, `"providers":{"p":{"issuer":"i","local_jwks":{"inline_string":"{\"keys\":[{\"kty\":\"oct\",\"k\":\"AAAA\",\"alg\":\"HS256\"}]}"}}},"rules":[{"match":{"prefix":"/"},"requires":{"provider_name":"p"}}]`),
		"health":  httpFilter(healthAny, `"pass_through_mode":false,"headers":[{"name":":path","string_match":{"prefix":"/"}}]`),
		"inner":   keeps("x-why") + "," + sees("i") + "," + deny,
		"stats":   httpFilter(statsAny, `"stats_for_all_methods":true`) + "," + httpFilter(bridgeAny, "") + "," + deny,
		"granted": authz("authz", "") + "," + deny,
		"behind":  deny + "," + httpFilter(statsAny, `"stats_for_all_methods":true`) + "," + httpFilter(bridgeAny, ""),
		"mapped":  deny,
		"direct":  "",
		"lambda":  deny + "," + httpFilter(lambdaAny, `"arn":"arn:aws:lambda:us-east-1:1:function:f","credentials":{"access_key_id":"a","secret_access_key":"b"}`),
	}
}

// TestLocalRepliesAsEnvoy has us and Envoy answer by ourselves, for every reason there is, between filters that see
// responses, on a route that changes them.
func TestLocalRepliesAsEnvoy(t *testing.T) {
	t.Parallel()
	env := harness.ForTest(t)
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // or the end of the client is not seen
		if r.URL.Path == "/slow" {
			<-r.Context().Done()
		}
		_, _ = io.WriteString(w, "app")
	}))
	t.Cleanup(app.Close)
	decides := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("X-Why", "because")
		switch ask := r.Header.Get("X-Ask"); ask {
		case "allow":
			w.Header().Del("Content-Type")
		case "own":
			w.Header().Set("X-Route", "authz")
			w.Header().Set("Content-Type", "application/json")
			w.Header().Set("Grpc-Status", "9")
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = io.WriteString(w, "{}")
		case "bare":
			w.Header()["Content-Type"] = nil
			w.WriteHeader(http.StatusForbidden)
		default:
			w.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(w, "denied")
		}
	}))
	t.Cleanup(decides.Close)
	port, err := env.Port()
	must(t, err)
	nobody := local(port)
	chains := localReplies()
	names := slices.Sorted(maps.Keys(chains))
	const add, set = "APPEND_IF_EXISTS_OR_ADD", "OVERWRITE_IF_EXISTS_OR_ADD"
	edits := func(name string) string {
		return fmt.Sprintf(`"response_headers_to_add":%s,"response_headers_to_remove":["x-gone"]`, settings([3]string{"x-route", name, add}, [3]string{"x-details", "%RESPONSE_CODE_DETAILS%", add}, [3]string{"x-flags", "%RESPONSE_FLAGS%", set}))
	}
	routes := fmt.Sprintf(`{"name":"t","validate_clusters":false,%s,"virtual_hosts":[{"name":"v","domains":["app.example"],"include_attempt_count_in_response":true,%s,"routes":[
		{"match":{"prefix":"/none"},%s,"route":{"cluster":"nowhere"}},{"match":{"prefix":"/empty"},%s,"route":{"cluster":"empty"}},
		{"match":{"prefix":"/down"},%s,"route":{"cluster":"down"}},{"match":{"prefix":"/slow"},%s,"route":{"cluster":"app","timeout":"0.2s"}},
		{"match":{"prefix":"/idle"},%s,"route":{"cluster":"app","timeout":"0s","idle_timeout":"0.2s","prefix_rewrite":"/slow"}},
		{"match":{"prefix":"/weighted"},%s,"route":{"weighted_clusters":{"clusters":[{"name":"down","weight":1,%s}]}}},
		{"match":{"prefix":"/direct"},%s,"direct_response":{"status":404,"body":{"inline_string":"direct"}}},
		{"match":{"prefix":"/json"},"response_headers_to_add":%s,"direct_response":{"status":200,"body":{"inline_string":"{}"}}},
		{"match":{"prefix":"/away"},%s,"redirect":{"host_redirect":"other"}},{"match":{"prefix":"/app"},%s,"route":{"cluster":"app"}}]}]}`,
		edits("table"), edits("host"), edits("none"), edits("empty"), edits("down"), edits("slow"), edits("idle"), edits("rule"), edits("target"), edits("direct"),
		settings([3]string{"content-type", "application/json", add}), edits("away"), edits("app"))
	mapped := `{"mappers":[
		{"filter":{"status_code_filter":{"comparison":{"op":"EQ","value":{"default_value":403,"runtime_key":"x"}}}},"status_code":401,` + `"headers_to_add":[{"header":{"key":"x-why","value":"%RESPONSE_CODE%"}}]},
		{"filter":{"status_code_filter":{"comparison":{"op":"EQ","value":{"default_value":404,"runtime_key":"x"}}}},"status_code":410,"body":{"inline_string":"gone"},"body_format_override":{"json_format":{"text":"%LOCAL_REPLY_BODY%"}}},
		{"filter":{"status_code_filter":{"comparison":{"op":"EQ","value":{"default_value":302,"runtime_key":"x"}}}},"body":{"inline_string":"elsewhere"}}],
		"body_format":{"text_format_source":{"inline_string":"%RESPONSE_CODE%:%LOCAL_REPLY_BODY%"}}}`
	twins := staticTwins(t, env, len(names), func(ports []int) (clusters, listeners []json.RawMessage) {
		for n, name := range names {
			filters := behind(strings.Join(slices.DeleteFunc([]string{sees("a"), chains[name], keeps("x-seen"), sees("b")}, func(s string) bool { return s == "" }), ","))
			slashes, longest, more := "REJECT_REQUEST", "600s", ""
			switch name {
			case "mapped", "direct":
				more = `"local_reply_config":` + mapped + ","
			case "lua":
				slashes = "UNESCAPE_AND_REDIRECT"
			case "short":
				longest = "0.1s"
			}
			listeners = append(listeners, fmt.Appendf(nil, `{"name":%q,"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}},"filter_chains":[{"filters":[{"name":"hcm",
				"typed_config":{"@type":%q,"stat_prefix":%q,"normalize_path":true,"path_with_escaped_slashes_action":%q,"common_http_protocol_options":{"max_stream_duration":%q},%s
				"http_filters":[%s{"name":"router","typed_config":{"@type":%q}}],"route_config":%s}}]}]}`, name, ports[n], hcmType, name, slashes, longest, more, filters, routerAny, routes))
		}
		return []json.RawMessage{
			clusterAt("app", app.Listener.Addr().String()), clusterAt("authz", decides.Listener.Addr().String()), clusterAt("down", nobody),
			json.RawMessage(`{"name":"empty","connect_timeout":"1s","load_assignment":{"cluster_name":"empty"}}`),
		}, listeners
	})
	var all []string
	for _, kind := range []string{"", "application/grpc", "application/grpc+proto", "application/grpc;x", "application/grpc-web", "application/x-protobuf"} {
		for _, line := range []string{
			"POST /app", "HEAD /app", "GET /app%2fx", "GET /unknown", "GET /none", "GET /empty", "GET /down", "GET /slow", "GET /idle", "GET /weighted", "GET /direct", "HEAD /direct", "GET /json", "GET /away",
		} {
			all = append(all, request(line, "Content-Type: "+kind))
		}
	}
	for _, fields := range [][]string{{"X-Ask: allow"}, {"X-Ask: own"}, {"X-Ask: bare"}, {"Host: other"}, {"Upgrade: x", "Connection: upgrade"}} {
		all = append(all, request("GET /app", fields...), request("GET /app", append(fields, "Content-Type: application/grpc")...))
	}
	for n, name := range names {
		for _, line := range all {
			if strings.Contains(line, "Upgrade") && name != "none" {
				continue // which Envoy refuses before its filters, and we behind ours
			}
			if name == "short" && !lasts(line) {
				continue // what is answered at all may be answered too late
			}
			ours, theirs := answerOf(t, local(twins["serai"].ports[n]), line), answerOf(t, local(twins["envoy"].ports[n]), line)
			if diff := cmp.Diff(theirs, ours); diff != "" {
				t.Errorf("%s: %q: -envoy +serai:\n%s", name, line, diff)
			}
		}
		for _, path := range []string{"/app", "/unknown", "/down", "/slow", "/weighted", "/direct", "/away"} {
			for _, kind := range []string{"application/grpc", "text/plain"} {
				if name == "short" && !lasts(path) {
					continue
				}
				ours, theirs := answerOver2(t, local(twins["serai"].ports[n]), path, kind), answerOver2(t, local(twins["envoy"].ports[n]), path, kind)
				if diff := cmp.Diff(theirs, ours); diff != "" {
					t.Errorf("%s: %q of %s over HTTP/2: -envoy +serai:\n%s", name, path, kind, diff)
				}
			}
		}
	}
}

// lasts tells of what is never answered by the application.
func lasts(request string) bool {
	return strings.Contains(request, "/slow") || strings.Contains(request, "/idle")
}

// answerOver2 is answerOf for a POST over HTTP/2.
func answerOver2(t *testing.T, addr, path, kind string) []string {
	t.Helper()
	transport := &http.Transport{Protocols: &http.Protocols{}}
	transport.Protocols.SetUnencryptedHTTP2(true)
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+path, strings.NewReader("x"))
	must(t, err)
	req.Host = "app.example"
	req.Header.Set("Content-Type", kind)
	resp, err := transport.RoundTrip(req)
	must(t, err)
	body, err := io.ReadAll(resp.Body)
	must(t, err)
	must(t, resp.Body.Close())
	resp.Header.Del("Content-Length")
	return compared(resp.Header, resp.StatusCode, string(body))
}

// answerOf asks at an address, and returns the head and body of the answer, but for what cannot be the same.
func answerOf(t *testing.T, addr, request string) []string {
	t.Helper()
	r := (&twin{}).raw(t, addr, request)
	if r.status == 0 {
		return []string{r.body}
	}
	for _, own := range []string{"Content-Length", "Transfer-Encoding", "Connection"} {
		r.header.Del(own)
	}
	return compared(r.header, r.status, r.body)
}

// compared is a response as it is compared.
func compared(h http.Header, status int, body string) []string {
	why := regexp.MustCompile(`( |%20)or( |%20)disconnect[^|"]*`)
	all := append(sortedFields(h), fmt.Sprint(status), strings.TrimSpace(body))
	for i, line := range all {
		for _, text := range []string{ // of which Envoy says nothing
			"escaped slash in the path", "Not Found", "Service Unavailable", "upgrade not allowed",
		} {
			line = strings.ReplaceAll(strings.ReplaceAll(line, "text/plain:"+text, ""), text, "")
		}
		line = why.ReplaceAllString(line, "")                                           // why is told in our log
		all[i] = strings.Replace(line, "Location: http://app.example", "Location: ", 1) // ours names the host
	}
	if all[len(all)-1] == "" {
		all = slices.DeleteFunc(all, func(line string) bool { return line == "Content-Type: text/plain" || line == "Grpc-Message: " })
	}
	return all
}
