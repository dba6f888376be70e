package integration_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestFiltersKeepTheRouteAsEnvoy compares which route a request takes whose head filters change: that of the head as it
// came, unless a filter has it chosen anew. Each route answers with a status of its own.
func TestFiltersKeepTheRouteAsEnvoy(t *testing.T) {
	t.Parallel()
	i := newIssuer(t)
	const http = "type.googleapis.com/envoy.extensions.filters.http."
	provider := func(more string) string {
		return httpFilter(jwtAny, `"providers":{"one":{"issuer":"one","local_jwks":{"inline_string":`+quoted(i.jwks(t, "es"))+`}`+comma(more)+`}},`+onTop(`{"provider_name":"one"}`))
	}
	lua := func(code string) string {
		return httpFilter(http+"lua.v3.Lua", `"default_source_code":{"inline_string":`+quoted(code)+`}`)
	}
	const role, payload, clear = `"claim_to_headers":[{"header_name":"x-role","claim_name":"sub"}]`, `"payload_in_metadata":"p"`, `"clear_route_cache":true`
	change := lua(`function envoy_on_request(h) h:headers():add("x-script", "1") end`)
	idle := lua(`function envoy_on_request(h) h:headers():get("x-script") end`)
	version := httpFilter(h2mAny, `"request_rules":[{"header":"x-version","on_header_present":{"metadata_namespace":"n","key":"k"},"remove":true}]`)
	has := func(header string, status int) string {
		return fmt.Sprintf(`{"match":{"prefix":"/","headers":[{"name":%q,"present_match":true}]},"direct_response":{"status":%d,"body":{"inline_string":"by %[1]s"}}}`, header, status)
	}
	table := `{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[` + strings.Join([]string{
		has("x-role", 201), has("x-script", 202), has("x-version", 203),
		`{"match":{"prefix":"/","query_parameters":[{"name":"access_token","present_match":true}]},"direct_response":{"status":206}}`,
		has("authorization", 205),
		`{"match":{"prefix":"/","headers":[{"name":"content-type","string_match":{"exact":"application/x-protobuf"}}]},"direct_response":{"status":207,"body":{"inline_string":"by protobuf"}}}`,
		`{"match":{"prefix":"/","headers":[{"name":"content-type","string_match":{"exact":"application/grpc"}}]},"direct_response":{"status":208,"body":{"inline_string":"by grpc"}}}`,
		`{"match":{"prefix":"/"},"direct_response":{"status":209}}`,
	}, ",") + `]}]}`
	var chains []managerChain
	for _, filters := range [][]string{
		{provider("")},
		{provider(role)},
		{provider(role + "," + clear)},
		{provider(clear)},
		{provider(payload + "," + clear)},
		{provider(`"forward":true,` + role + "," + clear)},
		{provider(`"forward_payload_header":"x-role",` + clear)},
		{provider(`"claim_to_headers":[{"header_name":"x-role","claim_name":"none"}],` + clear)},
		{version},
		{change},
		{idle},
		{provider(""), idle},
		{provider(""), change},
		{change, provider(role)},
		{provider(role), change},
		{version, idle},
		{version, change},
		{httpFilter(http+"grpc_http1_bridge.v3.Config", `"upgrade_protobuf_to_grpc":true,"ignore_query_parameters":true`)},
	} {
		chains = append(chains, managerChain{filters: strings.Join(filters, ","), table: table})
	}
	w := newChainTwins(t, chains...)
	w.bodies = true
	token := i.token(t, "es", nil)
	var asks []routeAsk
	for n := range chains {
		for _, fields := range [][]string{nil, {"Authorization: Bearer " + token}, {"X-Version: 1"}, {"X-Version: 1", "Authorization: Bearer " + token}, {"X-Role: 1"}} {
			asks = append(asks, routeAsk{n, "GET", "h", "/", fields, ""})
		}
		asks = append(asks, routeAsk{n, "GET", "h", "/?access_token=" + token, nil, ""},
			routeAsk{n, "POST", "h", "/a/b", []string{"Content-Type: application/x-protobuf"}, "m"}, routeAsk{n, "POST", "h", "/a/b?access_token=" + token, []string{"Content-Type: application/x-protobuf"}, "m"})
	}
	said := w.same(t, asks)
	if first := said[asks[1].String()]; !strings.Contains(first, "205") {
		t.Errorf("Envoy does not keep a route: %s", first)
	}
}
