package resource_test

import (
	"strings"
	"testing"

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
		{`{"@type":"` + http + `ext_authz.v3.ExtAuthzPerRoute","checkSettings":{}}`, mesh.FilterOverride{Refusal: "check_settings is not supported"}},
		{`{"@type":"` + http + `jwt_authn.v3.PerRouteConfig","disabled":true}`, mesh.FilterOverride{Disabled: true, Filter: &mesh.HTTPFilter{JWT: &mesh.JWT{}}}},
		{`{"@type":"` + http + `jwt_authn.v3.PerRouteConfig","requirementName":"r"}`, mesh.FilterOverride{Refusal: "requirement_name is not supported"}},
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
