package resource_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

func intention(t *testing.T, text string) *mesh.Intention {
	t.Helper()
	filter := &anypb.Any{}
	unmarshal(t, "test", []byte(text), filter)
	return resource.Intention(filter)
}

func TestIntention(t *testing.T) {
	t.Parallel()
	got := intention(t, `{"@type":"`+filters+`rbac.v3.RBAC","rules":{"policies":{
		"b":{"permissions":[{"any":true}],"principals":[{"any":true},{"authenticated":{}},{"authenticated":{"principalName":{"safeRegex":{"regex":"^spiffe://a$"}}}},
		 {"notId":{"header":{"name":"x-forwarded-client-cert","stringMatch":{"prefix":"By"}}}},{"orIds":{"ids":[{"any":true}]}},{"andIds":{"ids":[{"any":true}]}}]},
		"a":{"permissions":[{"andRules":{"rules":[{"urlPath":{"path":{"prefix":"/x"}}},{"notRule":{"header":{"name":":method","stringMatch":{"safeRegex":{"regex":"GET|PUT"}}}}}]}},
		 {"orRules":{"rules":[{"metadata":{"filter":"f","path":[{"key":"p"},{"key":"q"}],"value":{"stringMatch":{"exact":"v"}},"invert":true}}]}}],"principals":[{"any":true}]}}}}`)
	equal(t, &mesh.Intention{Policies: []mesh.IntentionPolicy{
		{
			Name: "a", Principals: []mesh.Principal{{Any: true}},
			Permissions: []mesh.Permission{
				{And: []mesh.Permission{
					{Path: &mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/x"}},
					{Not: &mesh.Permission{Header: &mesh.HeaderMatch{Name: ":method", Value: mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "GET|PUT"}}}},
				}},
				{Or: []mesh.Permission{{Metadata: &mesh.MetadataMatch{Filter: "f", Path: []string{"p", "q"}, Value: mesh.ValueMatch{String: mesh.StringMatch{Exact: "v"}}, Invert: true}}}},
			},
		},
		{
			Name: "b", Permissions: []mesh.Permission{{Any: true}},
			Principals: []mesh.Principal{
				{Any: true},
				{Authenticated: true},
				{Name: &mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "^spiffe://a$"}},
				{Not: &mesh.Principal{Header: &mesh.HeaderMatch{Name: "x-forwarded-client-cert", Value: mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "By"}}}},
				{Or: []mesh.Principal{{Any: true}}},
				{And: []mesh.Principal{{Any: true}}},
			},
		},
	}}, got)
}

// TestRefusedIntentions: one thing that is not understood denies all.
func TestRefusedIntentions(t *testing.T) {
	t.Parallel()
	policy := func(permission, principal string) string {
		return `"rules":{"policies":{"ok":{"permissions":[{"any":true}],"principals":[{"any":true}]},"p":{"permissions":[` + permission + `],"principals":[` + principal + `]}}}`
	}
	all := `{"any":true}`
	for _, tt := range []struct{ text, want string }{
		{`"statPrefix":"x"`, "no rules"},
		{`"matcher":{}`, "RBAC.matcher is not supported"},
		{policy("", all), "empty list of permissions"},
		{policy(all, ""), "empty list of principals"},
		{policy(`{"any":false}`, all), "any: false"},
		{policy(`{"andRules":{}}`, all), "empty list of permissions"},
		{policy(`{"uriTemplate":{"name":"x"}}`, all), "is not supported"},
		{policy(`{"matcher":{"name":"x"}}`, all), "is not supported"},
		{policy(`{"destinationPort":65536}`, all), "destination_port"},
		{policy(`{"destinationPortRange":{"start":10,"end":10}}`, all), "destination_port_range"},
		{policy(`{"destinationIp":{"addressPrefix":"x"}}`, all), "address range"},
		{policy(`{"urlPath":{"path":{"safeRegex":{"regex":"("}}}}`, all), "pattern"},
		{policy(`{"urlPath":{}}`, all), "string matcher of unknown kind"},
		{policy(all, `{"filterState":{"key":"k"}}`), "is not supported"},
		{policy(all, `{"filterState":{"key":"x"}}`), "is not supported"},
		{policy(all, `{"metadata":{"filter":"f","path":[{"key":"p"}],"value":{"listMatch":{}}}}`), "metadata f"},
		{policy(all, `{"metadata":{"filter":"f","path":[{"key":"p"}]}}`), "metadata f"},
		{policy(all, `{"metadata":{"filter":"f","path":[{"key":"p"}],"value":{"orMatch":{"valueMatchers":[{"nullMatch":{}}]}}}}`), "or_match"},
		{policy(all, `{"metadata":{"filter":"f","value":{"nullMatch":{}}}}`), "path"},
		{policy(all, `{"sourcedMetadata":{"metadataSource":"ROUTE"}}`), "source ROUTE"},
		{policy(all, `{}`), "is not supported"},
		{`"rules":{"policies":{"p":{"permissions":[` + all + `],"principals":[` + all + `],"condition":{}}}}`, "Policy.condition is not supported"},
	} {
		got := intention(t, `{"@type":"`+network+`rbac.v3.RBAC",`+tt.text+`}`)
		if !strings.Contains(got.Refusal, tt.want) || got.Policies != nil {
			t.Errorf("%s: got %+v, want refusal %q", tt.text, got, tt.want)
		}
	}
	if got := resource.Intention(&anypb.Any{TypeUrl: "x"}); got.Refusal == "" {
		t.Error("another filter is no intention")
	}
}

// TestGoldenRBAC reads the filters that Consul's golden files hold alone.
func TestGoldenRBAC(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(goldens(t), "rbac", "*.golden"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no golden files: %v", err)
	}
	for _, file := range files {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		var config *anypb.Any
		if strings.Contains(file, "--httpfilter") {
			f := &hcmv3.HttpFilter{}
			unmarshal(t, file, data, f)
			config = f.GetTypedConfig()
		} else {
			f := &listenerv3.Filter{}
			unmarshal(t, file, data, f)
			config = f.GetTypedConfig()
		}
		in := resource.Intention(config)
		if in.Refusal != "" {
			t.Errorf("%s: refused: %s", filepath.Base(file), in.Refusal)
		}
		if has := json.Valid(data) && strings.Contains(string(data), `"DENY"`); has != (in.Action == mesh.Deny) {
			t.Errorf("%s: action %d", filepath.Base(file), in.Action)
		}
	}
	t.Logf("%d files", len(files))
}
