package rbac_test

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
)

const (
	domain  = "11111111-2222-3333-4444-555555555555.consul"
	anyone  = "spiffe://" + domain + "/ns/default/dc/dc1/svc/"
	pattern = "^spiffe://" + domain + "/ns/default/dc/[^/]+/svc/"
)

func id(tb testing.TB, service string) spiffe.ID {
	tb.Helper()
	parsed, err := spiffe.Parse(anyone + service)
	if err != nil {
		tb.Fatal(err)
	}
	return parsed
}

func regex(s string) *mesh.StringMatch { return &mesh.StringMatch{Kind: mesh.MatchRegex, Regex: s} }

func service(name string) mesh.Principal { return mesh.Principal{Name: regex(pattern + name + "$")} }

func allow(policies ...mesh.IntentionPolicy) *mesh.Intention {
	return &mesh.Intention{Policies: policies}
}

func deny(policies ...mesh.IntentionPolicy) *mesh.Intention {
	return &mesh.Intention{Action: mesh.Deny, Policies: policies}
}

func policy(name string, permission mesh.Permission, principal mesh.Principal) mesh.IntentionPolicy {
	return mesh.IntentionPolicy{
		Name: name, Permissions: []mesh.Permission{permission}, Principals: []mesh.Principal{principal},
	}
}

func request(method, path string) *wire.Request {
	return &wire.Request{Method: method, Scheme: "http", Authority: "api", Path: path}
}

func claims(namespace, provider, key, value string) *wire.Metadata {
	m := &wire.Metadata{}
	m.Set(namespace, provider, map[string]any{key: value})
	return m
}

func TestDecide(t *testing.T) {
	t.Parallel()
	all, web := mesh.Permission{Any: true}, service("web")
	prefix := mesh.Permission{Path: &mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/admin"}}
	get := mesh.Permission{Header: &mesh.HeaderMatch{Name: ":method", Value: *regex("GET|HEAD")}}
	issuer := mesh.Permission{Metadata: &mesh.MetadataMatch{
		Filter: "jwt", Path: []string{"okta", "iss"}, Value: mesh.ValueMatch{String: mesh.StringMatch{Exact: "me"}},
	}}
	tests := []struct {
		name       string
		intentions []*mesh.Intention
		peer       string
		request    *wire.Request
		metadata   *wire.Metadata
		want       bool
		policy     string
	}{
		{name: "no filter", peer: "web", want: true},
		{name: "allow without policies", intentions: []*mesh.Intention{allow()}, peer: "web"},
		{name: "deny without policies", intentions: []*mesh.Intention{deny()}, peer: "web", want: true},
		{name: "refused", intentions: []*mesh.Intention{{Action: mesh.Deny, Refusal: "x"}}, peer: "web", policy: rbac.Refused},
		{name: "allowed", intentions: []*mesh.Intention{allow(policy("p", all, web))}, peer: "web", want: true, policy: "p"},
		{name: "not allowed", intentions: []*mesh.Intention{allow(policy("p", all, web))}, peer: "web2"},
		{name: "no longer name", intentions: []*mesh.Intention{allow(policy("p", all, web))}, peer: "x/svc/web"},
		{name: "nobody", intentions: []*mesh.Intention{allow(policy("p", all, web))}},
		{name: "nobody by any", intentions: []*mesh.Intention{allow(policy("p", all, mesh.Principal{Any: true}))}, want: true, policy: "p"},
		{name: "nobody authenticated", intentions: []*mesh.Intention{allow(policy("p", all, mesh.Principal{Authenticated: true}))}},
		{name: "authenticated", intentions: []*mesh.Intention{allow(policy("p", all, mesh.Principal{Authenticated: true}))}, peer: "x", want: true, policy: "p"},
		{name: "denied", intentions: []*mesh.Intention{deny(policy("p", all, web))}, peer: "web", policy: "p"},
		{name: "all must allow", intentions: []*mesh.Intention{allow(policy("p", all, web)), deny(policy("q", all, web))}, peer: "web", policy: "q"},
		{
			name:       "wildcard but one",
			intentions: []*mesh.Intention{allow(policy("p", all, mesh.Principal{And: []mesh.Principal{service("[^/]+"), {Not: &web}}}))},
			peer:       "web",
		},
		{
			name:       "wildcard",
			intentions: []*mesh.Intention{allow(policy("p", all, mesh.Principal{And: []mesh.Principal{service("[^/]+"), {Not: &web}}}))},
			peer:       "db", want: true, policy: "p",
		},
		{
			name:       "or",
			intentions: []*mesh.Intention{allow(policy("p", all, mesh.Principal{Or: []mesh.Principal{service("db"), web}}))},
			peer:       "web", want: true, policy: "p",
		},
		{name: "path", intentions: []*mesh.Intention{allow(policy("p", prefix, web))}, peer: "web", request: request("GET", "/admin/x?y"), want: true, policy: "p"},
		{name: "path in query", intentions: []*mesh.Intention{allow(policy("p", prefix, web))}, peer: "web", request: request("GET", "/?/admin")},
		{name: "method", intentions: []*mesh.Intention{allow(policy("p", get, web))}, peer: "web", request: request("HEAD", "/"), want: true, policy: "p"},
		{name: "longer method", intentions: []*mesh.Intention{allow(policy("p", get, web))}, peer: "web", request: request("GETX", "/")},
		{name: "http allow on tcp", intentions: []*mesh.Intention{allow(policy("p", prefix, web))}, peer: "web"},
		{name: "http allow on tcp by not", intentions: []*mesh.Intention{allow(policy("p", mesh.Permission{Not: &prefix}, web))}, peer: "web"},
		{name: "http deny on tcp", intentions: []*mesh.Intention{deny(policy("p", prefix, web))}, peer: "web", policy: "p"},
		{name: "http deny on tcp for another", intentions: []*mesh.Intention{deny(policy("p", prefix, web))}, peer: "db", want: true},
		{name: "claim", intentions: []*mesh.Intention{allow(policy("p", issuer, web))}, peer: "web", request: request("GET", "/"), metadata: claims("jwt", "okta", "iss", "me"), want: true, policy: "p"},
		{name: "other claim", intentions: []*mesh.Intention{allow(policy("p", issuer, web))}, peer: "web", request: request("GET", "/"), metadata: claims("jwt", "okta", "iss", "you")},
		{name: "no claims", intentions: []*mesh.Intention{allow(policy("p", issuer, web))}, peer: "web", request: request("GET", "/")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			p, err := rbac.Compile(tt.intentions)
			if err != nil {
				t.Fatal(err)
			}
			peer := &wire.Peer{}
			if tt.peer != "" && !strings.Contains(tt.peer, "/") {
				peer.ID = id(t, tt.peer)
			}
			got, name := p.Decide(rbac.Input{Peer: peer, Request: tt.request, Metadata: tt.metadata})
			if got != tt.want || name != tt.policy {
				t.Errorf("got %v by %q, want %v by %q", got, name, tt.want, tt.policy)
			}
		})
	}
}

func TestForwardedPrincipal(t *testing.T) {
	t.Parallel()
	xfcc := mesh.Principal{Header: &mesh.HeaderMatch{
		Name:  "x-forwarded-client-cert",
		Value: *regex(`^[^,]+;URI=` + strings.TrimPrefix(pattern, "^") + `web(?:,.*)?$`),
	}}
	p, err := rbac.Compile([]*mesh.Intention{allow(policy("p", mesh.Permission{Any: true}, xfcc))})
	if err != nil {
		t.Fatal(err)
	}
	for value, want := range map[string]bool{
		"By=spiffe://x/gateway/mesh/dc/dc2;Hash=ab;URI=" + anyone + "web":        true,
		"By=spiffe://x;Hash=ab;URI=" + anyone + "web,By=y":                       true,
		"By=spiffe://x;Hash=ab;URI=" + anyone + "web2":                           false,
		"By=spiffe://x;URI=" + anyone + "db,By=spiffe://x;URI=" + anyone + "web": false,
		"By=spiffe://x;Hash=ab;URI=" + anyone + "web;DNS=web.svc":                false,
		"": false,
	} {
		req := request("GET", "/")
		req.Header.Add("x-forwarded-client-cert", value)
		if got, _ := p.Decide(rbac.Input{Peer: &wire.Peer{}, Request: req}); got != want {
			t.Errorf("%q: got %v, want %v", value, got, want)
		}
	}
}

func TestNameOfCertificate(t *testing.T) {
	t.Parallel()
	uri := &url.URL{Scheme: "https", Host: "uri"}
	tests := []struct {
		cert x509.Certificate
		want string
	}{
		{x509.Certificate{URIs: []*url.URL{uri}, DNSNames: []string{"dns"}, Subject: pkix.Name{CommonName: "cn"}}, "https://uri dns CN=cn"},
		{x509.Certificate{DNSNames: []string{"dns"}, Subject: pkix.Name{CommonName: "cn"}}, "dns CN=cn"},
		{x509.Certificate{Subject: pkix.Name{CommonName: "cn"}}, "CN=cn"},
	}
	for _, tt := range tests {
		for _, name := range []string{"https://uri", "dns", "CN=cn"} {
			p, err := rbac.Compile([]*mesh.Intention{
				allow(policy("p", mesh.Permission{Any: true}, mesh.Principal{Name: &mesh.StringMatch{Exact: name}})),
			})
			if err != nil {
				t.Fatal(err)
			}
			if got, _ := p.Decide(rbac.Input{Peer: &wire.Peer{Certificate: &tt.cert}}); got != slices.Contains(strings.Fields(tt.want), name) {
				t.Errorf("certificate named %s is %s: got %v", tt.want, name, got)
			}
		}
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	all := mesh.Principal{Any: true}
	for want, in := range map[string]mesh.IntentionPolicy{
		"nothing is asked for": policy("p", mesh.Permission{}, all),
		"nobody is named":      policy("p", mesh.Permission{Any: true}, mesh.Principal{}),
		"empty list of perm":   policy("p", mesh.Permission{And: []mesh.Permission{}}, all),
		"empty list of prin":   {Permissions: []mesh.Permission{{Any: true}}},
		"pattern":              policy("p", mesh.Permission{Path: regex("(")}, all),
	} {
		if _, err := rbac.Compile([]*mesh.Intention{allow(in)}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func typical(tb testing.TB) (*rbac.Policy, rbac.Input) {
	tb.Helper()
	web := service("web")
	p, err := rbac.Compile([]*mesh.Intention{allow(
		policy("consul-intentions-layer7-0", mesh.Permission{And: []mesh.Permission{
			{Path: &mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/v1/"}},
			{Header: &mesh.HeaderMatch{Name: ":method", Value: *regex("GET|POST")}},
			{Header: &mesh.HeaderMatch{Name: "x-tenant", Present: true}},
		}}, mesh.Principal{And: []mesh.Principal{service("[^/]+"), {Not: &mesh.Principal{Name: regex(pattern + "db$")}}}}),
		policy("consul-intentions-layer4", mesh.Permission{Any: true}, mesh.Principal{Or: []mesh.Principal{service("a"), service("b"), web}}),
	)})
	if err != nil {
		tb.Fatal(err)
	}
	req := request("POST", "/v1/x?y=z")
	req.Header.Add("x-tenant", "t")
	return p, rbac.Input{Peer: &wire.Peer{ID: id(tb, "web")}, Request: req}
}

func TestDecideAllocatesNothing(t *testing.T) {
	p, in := typical(t)
	var allowed bool
	if got := testing.AllocsPerRun(100, func() { allowed, _ = p.Decide(in) }); got != 0 {
		t.Errorf("got %v allocations per decision, want none", got)
	}
	if !allowed {
		t.Error("not allowed")
	}
	in.Request.Method = "PUT" // falls through to the second policy
	if got := testing.AllocsPerRun(100, func() { allowed, _ = p.Decide(in) }); got != 0 {
		t.Errorf("second policy: got %v allocations per decision, want none", got)
	}
}

func BenchmarkDecide(b *testing.B) {
	p, in := typical(b)
	b.ReportAllocs()
	for b.Loop() {
		p.Decide(in)
	}
}

// remote_ip is the client's, source_ip that of the peer.
func TestRemote(t *testing.T) {
	t.Parallel()
	client, peer := netip.MustParsePrefix("1.2.3.0/24"), netip.MustParsePrefix("10.0.0.0/8")
	from := mesh.Permission{Any: true}
	for _, row := range []struct {
		principal mesh.Principal
		remote    string
		want      bool
	}{
		{mesh.Principal{Remote: &client}, "1.2.3.4:0", true},
		{mesh.Principal{Remote: &peer}, "1.2.3.4:0", false},
		{mesh.Principal{Remote: &peer}, "", true},
		{mesh.Principal{Source: &peer}, "1.2.3.4:0", true},
		{mesh.Principal{Source: &client}, "1.2.3.4:0", false},
	} {
		p, err := rbac.Compile([]*mesh.Intention{allow(policy("p", from, row.principal))})
		if err != nil {
			t.Fatal(err)
		}
		in := rbac.Input{Peer: &wire.Peer{Addr: netip.MustParseAddrPort("10.1.1.1:5")}}
		if row.remote != "" {
			in.Remote = netip.MustParseAddrPort(row.remote)
		}
		if got, _ := p.Decide(in); got != row.want {
			t.Errorf("%+v from %s: %t", row.principal, row.remote, got)
		}
	}
}
