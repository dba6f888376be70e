package stack_test

import (
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// The route of a request is that of the head as it came: filters that change it choose no
// other, unless they are to. The answer of each route is its status.
func TestFiltersKeepTheRoute(t *testing.T) {
	t.Parallel()
	okta := newIssuer(t)
	token := okta.bearer(t, `{"iss":"me","role":"admin"}`)
	jwt := func(change func(p *mesh.JWTProvider)) mesh.HTTPFilter {
		p := &mesh.JWTProvider{Issuer: "me", Keys: okta.jwks}
		change(p)
		return mesh.HTTPFilter{JWT: &mesh.JWT{
			Providers: map[string]*mesh.JWTProvider{"okta": p},
			Rules:     []mesh.JWTRule{{Match: mesh.Match{Prefix: "/"}, Requires: &mesh.JWTRequirement{Provider: "okta"}}},
		}}
	}
	script := func(code string) mesh.HTTPFilter { return mesh.HTTPFilter{Lua: &mesh.Lua{Code: code}} }
	role := []mesh.ClaimHeader{{Header: "x-role", Claim: "role"}}
	has := func(name string, status int) *mesh.Rule {
		return &mesh.Rule{
			Match: mesh.Match{Prefix: "/", Headers: []mesh.HeaderMatch{{Name: name, Present: true}}}, Direct: &mesh.DirectResponse{Status: status},
		}
	}
	table := &mesh.Route{Name: "r", VirtualHosts: []*mesh.VirtualHost{{Name: "v", Domains: []string{"*"}, Rules: []*mesh.Rule{
		has("x-role", 201), has("x-script", 202), has("x-version", 203), has("authorization", 204),
		{Match: mesh.Match{Prefix: "/"}, Direct: &mesh.DirectResponse{Status: 205}},
	}}}}
	version := mesh.HTTPFilter{Metadata: &mesh.HeaderToMetadata{Request: []mesh.MetadataRule{
		{Header: "x-version", Remove: true, Present: &mesh.MetadataValue{Namespace: "consul", Key: "version"}},
	}}}
	change := script(`function envoy_on_request(h) h:headers():add("x-script", "1") end`)
	idle := script(`function envoy_on_request(h) h:headers():get("x-script") end`)
	for name, tt := range map[string]struct {
		filters []mesh.HTTPFilter
		fields  []string
		want    int
	}{
		"a token that is taken away": {[]mesh.HTTPFilter{jwt(func(*mesh.JWTProvider) {})}, []string{"authorization", token}, 204},
		"a claim":                    {[]mesh.HTTPFilter{jwt(func(p *mesh.JWTProvider) { p.ClaimHeaders = role })}, []string{"authorization", token}, 204},
		"a claim that is to choose":  {[]mesh.HTTPFilter{jwt(func(p *mesh.JWTProvider) { p.ClaimHeaders, p.ClearRoute = role, true })}, []string{"authorization", token}, 201},
		"a claim that is not there": {[]mesh.HTTPFilter{jwt(func(p *mesh.JWTProvider) {
			p.ClaimHeaders, p.ClearRoute = []mesh.ClaimHeader{{Header: "x-role", Claim: "none"}}, true
		})}, []string{"authorization", token}, 204},
		"metadata that is to choose":          {[]mesh.HTTPFilter{jwt(func(p *mesh.JWTProvider) { p.PayloadMetadata, p.ClearRoute = "payload", true })}, []string{"authorization", token}, 205},
		"a field that becomes metadata":       {[]mesh.HTTPFilter{version}, []string{"x-version", "1"}, 203},
		"a script":                            {[]mesh.HTTPFilter{change}, nil, 202},
		"a script that changes nothing":       {[]mesh.HTTPFilter{jwt(func(*mesh.JWTProvider) {}), idle}, []string{"authorization", token}, 204},
		"a script after a token":              {[]mesh.HTTPFilter{jwt(func(*mesh.JWTProvider) {}), change}, []string{"authorization", token}, 202},
		"a script that changes, then a token": {[]mesh.HTTPFilter{change, jwt(func(p *mesh.JWTProvider) { p.ClaimHeaders = role })}, []string{"authorization", token}, 202},
	} {
		h := &mesh.HTTP{Filters: tt.filters, Route: table}
		resp, err := compile(t, h, clusters(t, nil)).Serve(exchange(&wire.Peer{}), request("GET", "/", tt.fields...))
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if resp.Status != tt.want {
			t.Errorf("%s: route %d, want %d", name, resp.Status, tt.want)
		}
		if tt.filters[len(tt.filters)-1].Lua != nil || tt.filters[0].Lua != nil {
			continue // scripts are not run to explain
		}
		e, err := stack.Explain(h, nil, clusters(t, nil), stack.Place{}, &wire.Peer{}, request("GET", "/", tt.fields...))
		if err != nil {
			t.Fatal(err)
		}
		if e.Answer == nil || e.Answer.Status != tt.want {
			t.Errorf("%s is explained as %+v", name, e.Answer)
		}
		for _, r := range e.Rules {
			if r.Chosen != (r.Number+201 == tt.want) {
				t.Errorf("%s is explained as %+v", name, r)
			}
		}
	}
}
