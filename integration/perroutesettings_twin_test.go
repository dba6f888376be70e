package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authv3 "github.com/envoyproxy/go-control-plane/envoy/service/auth/v3"
	"google.golang.org/grpc"
)

// contextJudge lets everybody through, and has the application told of what it was told.
type contextJudge struct {
	authv3.UnimplementedAuthorizationServer
}

// Check implements the protocol.
func (contextJudge) Check(_ context.Context, req *authv3.CheckRequest) (*authv3.CheckResponse, error) {
	said := req.GetAttributes()
	var all []string
	for _, name := range slices.Sorted(maps.Keys(said.GetContextExtensions())) {
		all = append(all, name+"="+said.GetContextExtensions()[name])
	}
	// That it begins with a space where no context is told is nobody's trouble.
	which := fmt.Sprintf("%s body=%q %q", strings.Join(all, ","), said.GetRequest().GetHttp().GetBody(), said.GetRequest().GetHttp().GetRawBody())
	return &authv3.CheckResponse{HttpResponse: &authv3.CheckResponse_OkResponse{OkResponse: &authv3.OkHttpResponse{
		Headers: []*corev3.HeaderValueOption{{Header: &corev3.HeaderValue{Key: "x-which", Value: which}}},
	}}}, nil
}

// TestSettingsByRouteAsEnvoy compares what routes, virtual hosts, tables and weighted clusters say of ext_authz and jwt_authn:
// what a service is told, and what is required of tokens.
func TestSettingsByRouteAsEnvoy(t *testing.T) {
	t.Parallel()
	listener := listenAt(t, 0)
	judge := grpc.NewServer()
	authv3.RegisterAuthorizationServer(judge, contextJudge{})
	t.Cleanup(judge.Stop)
	go func() { _ = judge.Serve(listener) }()
	cluster := strings.TrimSuffix(string(clusterAt("judge", listener.Addr().String())), "}") + overHTTP2 + "}"

	const filter = "type.googleapis.com/envoy.extensions.filters.http."
	said := func(typ, config string) string { return fmt.Sprintf(`{"@type":%q%s}`, filter+typ, comma(config)) }
	asks := func(settings string) string {
		return said("ext_authz.v3.ExtAuthzPerRoute", `"check_settings":{`+settings+`}`)
	}
	context := func(pairs string) string { return asks(`"context_extensions":{` + pairs + `}`) }
	off := said("ext_authz.v3.ExtAuthzPerRoute", `"disabled":true`)
	route := func(path string, config ...string) string {
		return fmt.Sprintf(`{"match":{"prefix":%q},"route":{"cluster":"a"}%s}`, path, typedPerFilter(config...))
	}
	split := func(path, first, second string, config ...string) string {
		return fmt.Sprintf(`{"match":{"prefix":%q},"route":{"weighted_clusters":{"header_name":"x-number","clusters":[{"name":"a","weight":1%s},{"name":"b","weight":1%s}]}}%s}`,
			path, first, second, typedPerFilter(config...))
	}
	authz := func(more string) string {
		return `{"name":"authz","typed_config":{"@type":"` + filter + `ext_authz.v3.ExtAuthz","transport_api_version":"V3","grpc_service":{"envoy_grpc":{"cluster_name":"judge"},"timeout":"10s"}` + comma(more) + `}}`
	}
	routes := strings.Join([]string{
		route("/plain"), route("/context", "authz", context(`"b":"route","c":"route"`)), route("/off", "authz", off),
		route("/nobody", "authz", asks(`"disable_request_body_buffering":true`)), route("/body", "authz", asks(`"with_request_body":{"max_request_bytes":3,"allow_partial_message":true}`)),
		route("/raw", "authz", asks(`"with_request_body":{"max_request_bytes":90,"pack_as_bytes":true},"context_extensions":{"a":"route"}`)), route("/empty", "authz", asks("")),
		split("/split", typedPerFilter("authz", context(`"b":"target"`)), typedPerFilter("authz", off)), split("/both", "", typedPerFilter("authz", asks(`"disable_request_body_buffering":true`)), "authz", context(`"c":"route"`)),
	}, ",")
	hosts := `[{"name":"v","domains":["v"],"routes":[` + routes + `]},{"name":"h","domains":["h"]` + typedPerFilter("authz", context(`"a":"host","b":"host"`)) +
		`,"routes":[` + routes + `]},{"name":"o","domains":["o"]` + typedPerFilter("authz", off) + `,"routes":[` + routes + `]}]`

	i := newIssuer(t)
	jwt := func(providers, more string) string {
		return `{"name":"jwt","typed_config":{"@type":"` + jwtAny + `","providers":{` + providers + `},"requirement_map":{"token":{"provider_name":"p"},"maybe":{"allow_missing":{}},"none":{}}` + comma(more) + `}}`
	}
	provider := func(more string) string {
		return `"p":{"issuer":"one","local_jwks":{"inline_string":` + quoted(i.jwks(t, "es")) + `}` + comma(more) + `}`
	}
	requires := func(name string) string {
		return said("jwt_authn.v3.PerRouteConfig", `"requirement_name":"`+name+`"`)
	}
	named := strings.Join([]string{
		route("/plain"), route("/token", "jwt", requires("token")), route("/maybe", "jwt", requires("maybe")), route("/none", "jwt", requires("none")), route("/off", "jwt", said("jwt_authn.v3.PerRouteConfig", `"disabled":true`)),
		split("/split", typedPerFilter("jwt", requires("token")), typedPerFilter("jwt", requires("none"))),
	}, ",")
	claimed := `{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/","headers":[{"name":"x-claim","string_match":{"exact":"alice"}}]},"route":{"cluster":"a","prefix_rewrite":"/claimed"}},` + route("/") + `]}]}`
	const claim = `"claim_to_headers":[{"header_name":"x-claim","claim_name":"sub"}]`
	top := onTop(`{"provider_name":"p"}`)
	chains := []managerChain{
		{filters: authz(""), table: `{"virtual_hosts":` + hosts + `}`},
		{filters: authz(`"with_request_body":{"max_request_bytes":100}`), table: `{` + typedPerFilter("authz", context(`"a":"table","d":"table"`))[1:] + `,"virtual_hosts":` + hosts + `}`},
		{filters: jwt(provider(""), ""), table: `{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[` + named + `]}]}`},
		{filters: jwt(provider(""), top), table: `{"virtual_hosts":[{"name":"v","domains":["*"]` + typedPerFilter("jwt", requires("maybe")) + `,"routes":[` + named + `]}]}`},
		{filters: jwt(provider(claim), top), table: claimed},
		{filters: jwt(provider(claim+`,"clear_route_cache":true`), top), table: claimed},
		{filters: jwt(provider(`"payload_in_metadata":"m","clear_route_cache":true`), top), table: claimed},
	}
	w := newChainTwinsWith(t, []json.RawMessage{json.RawMessage(cluster)}, chains...)
	var queries []routeAsk
	for table := range 2 {
		for _, host := range []string{"v", "h", "o"} {
			for _, path := range []string{"/plain", "/context", "/off", "/nobody", "/body", "/raw", "/empty", "/split", "/both"} {
				for number := range 2 {
					queries = append(queries, routeAsk{table, "POST", host, path, []string{fmt.Sprintf("X-Number: %d", number)}, "hello"})
				}
			}
		}
	}
	tokens := []string{"", "Authorization: Bearer x", "Authorization: Bearer " + i.token(t, "es", nil), "Authorization: Bearer " + i.token(t, "es", map[string]any{"sub": "bob"})}
	for table := 2; table < len(chains); table++ {
		for _, path := range []string{"/plain", "/token", "/maybe", "/none", "/off", "/split"} {
			for _, token := range tokens {
				for number := range 2 {
					fields := []string{fmt.Sprintf("X-Number: %d", number)}
					if token != "" {
						fields = append(fields, token)
					}
					queries = append(queries, routeAsk{table, "GET", "h", path, fields, ""})
				}
			}
		}
	}
	w.same(t, queries)
}
