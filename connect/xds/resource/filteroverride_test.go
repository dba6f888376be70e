package resource_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
)

func TestFilterOverrides(t *testing.T) {
	t.Parallel()
	const http = "type.googleapis.com/envoy.extensions.filters.http."
	wrapped := func(more string) string {
		return `{"@type":"type.googleapis.com/envoy.config.route.v3.FilterConfig"` + more + `}`
	}
	for _, row := range []struct {
		config string
		want   mesh.FilterOverride
	}{
		{wrapped(`,"disabled":true`), mesh.FilterOverride{Disabled: true}},
		{wrapped(`,"config":{}`), mesh.FilterOverride{}},
		{wrapped(`,"config":{"@type":"` + http + `lua.v3.LuaPerRoute","disabled":true}`), mesh.FilterOverride{Disabled: true, Filter: &mesh.HTTPFilter{Lua: &mesh.Lua{}}}},
		{wrapped(`,"config":{"@type":"` + http + `router.v3.Router"}`), mesh.FilterOverride{Refusal: "is not supported"}},
		{`{"@type":"` + http + `router.v3.Router"}`, mesh.FilterOverride{Refusal: "is not supported"}},
		{`{"@type":"` + http + `lua.v3.LuaPerRoute","name":"n"}`, mesh.FilterOverride{Filter: &mesh.HTTPFilter{Lua: &mesh.Lua{Named: "n"}}}},
		{`{"@type":"` + http + `lua.v3.LuaPerRoute","sourceCode":{"inlineString":"x"}}`, mesh.FilterOverride{Filter: &mesh.HTTPFilter{Lua: &mesh.Lua{Code: "x"}}}},
		{`{"@type":"` + http + `lua.v3.LuaPerRoute","sourceCode":{"filename":"/x"}}`, mesh.FilterOverride{Refusal: "source_code"}},
		{`{"@type":"` + http + `lua.v3.LuaPerRoute"}`, mesh.FilterOverride{Refusal: "nothing is said"}},
		{`{"@type":"` + http + `rbac.v3.RBACPerRoute"}`, mesh.FilterOverride{Disabled: true, Filter: &mesh.HTTPFilter{Intention: &mesh.Intention{}}}},
		{`{"@type":"` + http + `rbac.v3.RBACPerRoute","rbac":{"rules":{"action":"DENY"}}}`, mesh.FilterOverride{Filter: &mesh.HTTPFilter{Intention: &mesh.Intention{Action: mesh.Deny}}}},
		{`{"@type":"` + http + `rbac.v3.RBACPerRoute","rbac":{"matcher":{}}}`, mesh.FilterOverride{Refusal: "matcher is not supported"}},
		{`{"@type":"` + http + `ext_authz.v3.ExtAuthzPerRoute","disabled":true}`, mesh.FilterOverride{Disabled: true, Filter: &mesh.HTTPFilter{ExtAuthz: &mesh.ExtAuthz{}}}},
		{`{"@type":"` + http + `ext_authz.v3.ExtAuthzPerRoute","checkSettings":{"disableRequestBodyBuffering":true}}`, mesh.FilterOverride{Filter: &mesh.HTTPFilter{ExtAuthz: &mesh.ExtAuthz{NoBody: true}}}},
		{`{"@type":"` + http + `ext_authz.v3.ExtAuthzPerRoute","checkSettings":{"withRequestBody":{"maxRequestBytes":9}}}`, mesh.FilterOverride{Filter: &mesh.HTTPFilter{ExtAuthz: &mesh.ExtAuthz{Body: &mesh.AuthzBody{Max: 9}}}}},
		{`{"@type":"` + http + `ext_authz.v3.ExtAuthzPerRoute","checkSettings":{"withRequestBody":{"maxRequestBytes":9},"disableRequestBodyBuffering":true}}`, mesh.FilterOverride{Refusal: "with_request_body beside"}},
		{`{"@type":"` + http + `ext_authz.v3.ExtAuthzPerRoute","checkSettings":{"withRequestBody":{}}}`, mesh.FilterOverride{Refusal: "max_request_bytes"}},
		{`{"@type":"` + http + `ext_authz.v3.ExtAuthzPerRoute"}`, mesh.FilterOverride{Refusal: "neither disabled nor check_settings"}},
		{`{"@type":"` + http + `jwt_authn.v3.PerRouteConfig","disabled":true}`, mesh.FilterOverride{Disabled: true, Filter: &mesh.HTTPFilter{JWT: &mesh.JWT{}}}},
		{`{"@type":"` + http + `jwt_authn.v3.PerRouteConfig","requirementName":"r"}`, mesh.FilterOverride{Filter: &mesh.HTTPFilter{JWT: &mesh.JWT{Requirement: "r"}}}},
		{`{"@type":"` + http + `jwt_authn.v3.PerRouteConfig"}`, mesh.FilterOverride{Refusal: "neither disabled nor a requirement_name"}},
		{`{"@type":"` + http + `header_to_metadata.v3.Config"}`, mesh.FilterOverride{Filter: &mesh.HTTPFilter{Metadata: &mesh.HeaderToMetadata{}}}},
	} {
		got := rule(t, `{"match":{"prefix":"/"},"route":{"cluster":"c"},"typedPerFilterConfig":{"f":`+row.config+`}}`)
		o := got.Filters["f"]
		if o == nil || got.Refusal != "" {
			t.Fatalf("%s: %+v", row.config, got)
		}
		if row.want.Refusal != "" && strings.Contains(o.Refusal, row.want.Refusal) {
			continue
		}
		equal(t, &row.want, o)
	}
	if got := rule(t, `{"match":{"prefix":"/"},"route":{"cluster":"c"},"typedPerFilterConfig":{"f":`+wrapped(`,"isOptional":true,"config":{"@type":"`+http+`router.v3.Router"}`)+`}}`); got.Filters["f"] != nil {
		t.Errorf("%+v", got.Filters["f"])
	}
}

// A service is told the context of the table, the virtual host, the route and the weighted cluster, of which the most specific
// counts; what else is said is not shared.
func TestFilterOverrideContexts(t *testing.T) {
	t.Parallel()
	says := func(context string) string {
		return `"typedPerFilterConfig":{"f":{"@type":"type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute",` + context + `}}`
	}
	context := func(pairs string) string { return says(`"checkSettings":{"contextExtensions":{` + pairs + `}}`) }
	r := route(t, `{`+context(`"a":"table","b":"table"`)+`,"virtualHosts":[{"domains":["x"],`+context(`"b":"host"`)+`,"routes":[
			{"match":{"prefix":"/"},`+says(`"checkSettings":{"disableRequestBodyBuffering":true}`)+`,"route":{"weightedClusters":{"clusters":[{"name":"c","weight":1,`+context(`"c":"target"`)+`},{"name":"d","weight":1}]}}}]},
		{"domains":["y"],`+says(`"disabled":true`)+`,"routes":[{"match":{"prefix":"/"},`+context(`"c":"rule"`)+`,"route":{"cluster":"c"}}]}]}`)
	told := func(filters map[string]*mesh.FilterOverride) map[string]string {
		t.Helper()
		if o := filters["f"]; o != nil && o.Filter != nil && o.Filter.ExtAuthz != nil {
			return o.Filter.ExtAuthz.Context
		}
		return nil
	}
	x, y := r.VirtualHosts[0], r.VirtualHosts[1]
	for _, row := range []struct {
		name string
		got  map[string]*mesh.FilterOverride
		want map[string]string
	}{
		{"table", r.Filters, map[string]string{"a": "table", "b": "table"}},
		{"host", x.Filters, map[string]string{"a": "table", "b": "host"}},
		{"rule", x.Rules[0].Filters, map[string]string{"a": "table", "b": "host"}},
		{"target", x.Rules[0].Targets[0].Filters, map[string]string{"a": "table", "b": "host", "c": "target"}},
		{"other target", x.Rules[0].Targets[1].Filters, nil},
		{"disabled host", y.Filters, nil},
		{"rule below a disabled host", y.Rules[0].Filters, map[string]string{"a": "table", "b": "table", "c": "rule"}},
	} {
		if diff := cmp.Diff(row.want, told(row.got)); diff != "" {
			t.Errorf("%s: %s", row.name, diff)
		}
	}
	if !x.Rules[0].Filters["f"].Filter.ExtAuthz.NoBody || x.Rules[0].Targets[0].Filters["f"].Filter.ExtAuthz.NoBody || !y.Filters["f"].Disabled {
		t.Error("bodies and switches are shared, or lost")
	}
}
