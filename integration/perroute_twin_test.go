package integration_test

import (
	"fmt"
	"strings"
	"testing"
)

// TestFiltersByRouteAsEnvoy compares filters that routes, virtual hosts and tables leave out, enable, or have otherwise.
func TestFiltersByRouteAsEnvoy(t *testing.T) {
	t.Parallel()
	const http = "type.googleapis.com/envoy.extensions.filters.http."
	const off = `{"@type":"type.googleapis.com/envoy.config.route.v3.FilterConfig","disabled":true}`
	const on = `{"@type":"type.googleapis.com/envoy.config.route.v3.FilterConfig","config":{}}`
	named := func(name, typ, more, config string) string {
		return fmt.Sprintf(`{"name":%q%s,"typed_config":{"@type":%q%s}}`, name, more, http+typ, comma(config))
	}
	denies := func(header string) string {
		return `"rules":{"action":"DENY","policies":{"p":{"permissions":[{"header":{"name":"` + header + `","present_match":true}}],"principals":[{"any":true}]}}}`
	}
	lua := func(value string) string {
		return `function envoy_on_request(h) h:headers():add("x-lua", "` + value + `") end`
	}
	code := func(value string) string { return fmt.Sprintf(`{"inline_string":%q}`, lua(value)) }
	takes := func(header string) string {
		return `"request_rules":[{"header":"` + header + `","on_header_present":{"metadata_namespace":"n","key":"k"}}]`
	}
	filters := strings.Join([]string{
		named("deny", "rbac.v3.RBAC", "", denies("x-deny")),
		named("h2m", "header_to_metadata.v3.Config", "", takes("x-in")),
		named("check", "rbac.v3.RBAC", `,"disabled":true`, `"rules":{"policies":{"p":{"permissions":[{"metadata":{"filter":"n","path":[{"key":"k"}],"value":{"string_match":{"exact":"v"}}}}],"principals":[{"any":true}]}}}`),
		named("lua", "lua.v3.Lua", "", `"default_source_code":`+code("base")+`,"source_codes":{"other":`+code("other")+`}`),
	}, ",")
	perRoute := func(typ, config string) string { return fmt.Sprintf(`{"@type":%q%s}`, http+typ, comma(config)) }
	otherwise := perRoute("rbac.v3.RBACPerRoute", `"rbac":{`+denies("x-other")+`}`)
	paths := []string{}
	route := func(path string, config ...string) string {
		paths = append(paths, path)
		return fmt.Sprintf(`{"match":{"prefix":%q},"route":{"cluster":"a"}%s}`, path, typedPerFilter(config...))
	}
	routes := strings.Join([]string{
		route("/off", "deny", off), route("/otherwise", "deny", otherwise), route("/empty", "deny", perRoute("rbac.v3.RBACPerRoute", "")),
		route("/wrapped", "deny", `{"@type":"type.googleapis.com/envoy.config.route.v3.FilterConfig","config":`+otherwise+`}`),
		route("/check/on", "check", on), route("/check/other", "check", otherwise), route("/check/both", "deny", off, "check", otherwise),
		route("/h2m", "h2m", perRoute("header_to_metadata.v3.Config", takes("x-in2")), "check", on),
		route("/lua/off", "lua", perRoute("lua.v3.LuaPerRoute", `"disabled":true`)), route("/lua/named", "lua", perRoute("lua.v3.LuaPerRoute", `"name":"other"`)),
		route("/lua/own", "lua", perRoute("lua.v3.LuaPerRoute", `"source_code":`+code("own"))), route("/nowhere", "not in the chain", off), route("/back", "deny", on, "lua", on), route("/"),
	}, ",")
	w := newChainTwins(t,
		managerChain{filters: filters, table: `{"virtual_hosts":[{"name":"v","domains":["v"],"routes":[` + routes + `]},{"name":"h","domains":["h"]` + typedPerFilter("deny", off, "lua", perRoute("lua.v3.LuaPerRoute", `"name":"other"`)) + `,"routes":[` + routes + `]}]}`},
		managerChain{filters: filters, table: `{` + typedPerFilter("deny", otherwise, "check", on)[1:] + `,"virtual_hosts":[{"name":"v","domains":["v"],"routes":[` + routes + `]},{"name":"h","domains":["h"]` + typedPerFilter("deny", off, "check", off) + `,"routes":[` + routes + `]}]}`},
	)
	var asks []routeAsk
	for table := range 2 {
		for _, host := range []string{"v", "h", "nobody"} {
			for _, path := range paths {
				for _, fields := range [][]string{nil, {"X-Deny: 1"}, {"X-Other: 1"}, {"X-In: v"}, {"X-In2: v"}, {"X-In: v", "X-Other: 1"}} {
					asks = append(asks, routeAsk{table, "GET", host, path, fields, ""})
				}
			}
		}
	}
	w.same(t, asks)
}

// typedPerFilter is a field with a comma before it: names of filters and what is said about each.
func typedPerFilter(config ...string) string {
	var all []string
	for i := 0; i < len(config); i += 2 {
		all = append(all, fmt.Sprintf("%q:%s", config[i], config[i+1]))
	}
	if all == nil {
		return ""
	}
	return `,"typed_per_filter_config":{` + strings.Join(all, ",") + `}`
}

// TestRBACAddressesAsEnvoy compares who is let through by addresses, as proxies before tell them and as they are.
func TestRBACAddressesAsEnvoy(t *testing.T) {
	t.Parallel()
	var chains []managerChain
	for _, manager := range []string{"", `"use_remote_address":true`, `"use_remote_address":true,"xff_num_trusted_hops":1`} {
		for _, kind := range []string{"remote_ip", "direct_remote_ip", "source_ip"} {
			for _, prefix := range []string{"1.2.3.0", "127.0.0.0"} {
				chains = append(chains, managerChain{
					manager: manager, filters: httpFilter(rbacAny, fmt.Sprintf(`"rules":{"policies":{"p":{"permissions":[{"any":true}],"principals":[{%q:{"address_prefix":%q,"prefix_len":24}}]}}}`, kind, prefix)),
					table: `{"virtual_hosts":[{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":200}}]}]}`,
				})
			}
		}
	}
	w := newChainTwins(t, chains...)
	var asks []routeAsk
	for i := range chains {
		for _, fields := range [][]string{nil, {"X-Forwarded-For: 1.2.3.4"}, {"X-Forwarded-For: 1.2.3.4,127.0.0.9"}, {"X-Forwarded-For: 5.6.7.8, 1.2.3.255"}} {
			asks = append(asks, routeAsk{i, "GET", "h", "/", fields, ""})
		}
	}
	w.same(t, asks)
}
