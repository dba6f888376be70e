package resource_test

import (
	"strings"
	"testing"
	"time"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

func route(t *testing.T, text string) *mesh.Route {
	t.Helper()
	r, _, err := resource.Route(bytesOf(t, text, &routev3.RouteConfiguration{}))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// rule is one rule in a table of its own.
func rule(t *testing.T, text string) *mesh.Rule {
	t.Helper()
	return route(t, `{"virtualHosts":[{"domains":["*"],"routes":[`+text+`]}]}`).VirtualHosts[0].Rules[0]
}

func TestRoute(t *testing.T) {
	t.Parallel()
	got := route(t, `{"name":"r","validateClusters":true,"virtualHosts":[{"name":"v","domains":["API.example","*.X"],"requestHeadersToRemove":["X-Gone"],
		"responseHeadersToAdd":[{"header":{"key":"X-A","value":"a%%"}},{"header":{"key":"X-B","value":"b"},"appendAction":"OVERWRITE_IF_EXISTS_OR_ADD"},
		{"header":{"key":"X-C","value":"c"},"append":false},{"header":{"key":"X-D"}},{"header":{"key":"X-E"},"keepEmptyValue":true,"appendAction":"ADD_IF_ABSENT"}],
		"routes":[{"name":"one","match":{"safeRegex":{"regex":"/v[0-9]"},"caseSensitive":false,
		 "headers":[{"name":"X-Debug","presentMatch":true,"invertMatch":true},{"name":":method","stringMatch":{"safeRegex":{"regex":"GET|PUT"}}},{"name":"x","stringMatch":{"suffix":"z","ignoreCase":true}},{"name":"y"}],
		 "queryParameters":[{"name":"q","stringMatch":{"exact":"1"}},{"name":"p","presentMatch":true}]},
		 "route":{"weightedClusters":{"clusters":[{"name":"a","weight":9000,"requestHeadersToAdd":[{"header":{"key":"k","value":"v"}}]},{"name":"b","weight":999}]},"timeout":"0s","idleTimeout":"0s",
		  "retryPolicy":{"retryOn":"5xx, connect-failure","retriableStatusCodes":[418],"perTryTimeout":"2s"},"hostRewriteLiteral":"h",
		  "hashPolicy":[{"header":{"headerName":"X-H"},"terminal":true},{"cookie":{"name":"c","ttl":"0s","path":"/"}},{"queryParameter":{"name":"q"}},{"connectionProperties":{"sourceIp":true}}]}}]}]}`)
	equal(t, &mesh.Route{Name: "r", ValidateClusters: true, VirtualHosts: []*mesh.VirtualHost{{
		Name: "v", Domains: []string{"api.example", "*.x"},
		Edit: mesh.HeaderEdit{
			RequestRemove: []string{"x-gone"},
			ResponseSet: []mesh.HeaderValue{
				{Name: "x-a", Value: "a%"},
				{Name: "x-b", Value: "b", Append: mesh.OverwriteOrAdd},
				{Name: "x-c", Value: "c", Append: mesh.OverwriteOrAdd},
				{Name: "x-e", KeepEmpty: true, Append: mesh.AddIfAbsent},
			},
		},
		Rules: []*mesh.Rule{{
			Name: "one",
			Match: mesh.Match{
				Regex: "/v[0-9]", IgnoreCase: true,
				Headers: []mesh.HeaderMatch{
					{Name: "X-Debug", Present: true, Invert: true},
					{Name: ":method", Value: mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "GET|PUT"}},
					{Name: "x", Value: mesh.StringMatch{Kind: mesh.MatchSuffix, Suffix: "z", IgnoreCase: true}},
					{Name: "y", Present: true},
				},
				Query: []mesh.QueryMatch{{Name: "q", Value: mesh.StringMatch{Exact: "1"}}, {Name: "p", Present: true}},
			},
			Targets: []mesh.Target{
				{Cluster: "a", Weight: 9000, Edit: mesh.HeaderEdit{RequestSet: []mesh.HeaderValue{{Name: "k", Value: "v"}}}},
				{Cluster: "b", Weight: 999},
			},
			HasIdleTimeout: true, HostRewrite: "h",
			Retry: &mesh.Retry{On: mesh.Retry5xx | mesh.RetryConnectFailure, Codes: []int{418}, Retries: 1, PerTry: 2 * time.Second},
			Hash: []mesh.HashPolicy{
				{Header: "x-h", Terminal: true},
				{Cookie: &mesh.HashCookie{Name: "c", Path: "/", HasTTL: true}},
				{Query: "q"},
				{SourceIP: true},
			},
		}},
	}}}, got)
}

func TestTrap10RouteTimeouts(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]time.Duration{"": 15 * time.Second, `,"timeout":"0s"`: 0, `,"timeout":"33s"`: 33 * time.Second} {
		got := rule(t, `{"match":{"prefix":"/"},"route":{"cluster":"c"`+text+`}}`)
		if got.Timeout != want || got.HasIdleTimeout || got.Refusal != "" {
			t.Errorf("%s: got %+v", text, got)
		}
	}
}

func TestRewrites(t *testing.T) {
	t.Parallel()
	regex := func(pattern, substitution string) string {
		return `"regexRewrite":{"pattern":{"regex":"` + pattern + `"},"substitution":"` + substitution + `"}`
	}
	tests := []struct {
		text string
		want *mesh.RegexRewrite
	}{
		{regex(`^/admin(/?)(.*)`, `/\\2`), &mesh.RegexRewrite{StripPrefix: "/admin"}},
		{regex(`^/v1\\.0/\\+(/?)(.*)`, `/\\2`), &mesh.RegexRewrite{StripPrefix: "/v1.0/+"}},
		{regex(`^/v1.0(/?)(.*)`, `/\\2`), &mesh.RegexRewrite{Pattern: `^/v1.0(/?)(.*)`, Substitution: `/\2`}},
		{regex(`^/a\\d(/?)(.*)`, `/\\2`), &mesh.RegexRewrite{Pattern: `^/a\d(/?)(.*)`, Substitution: `/\2`}},
		{regex(`^/admin(/?)(.*)`, `/x/\\2`), &mesh.RegexRewrite{Pattern: `^/admin(/?)(.*)`, Substitution: `/x/\2`}},
	}
	for _, tt := range tests {
		got := rule(t, `{"match":{"prefix":"/"},"route":{"cluster":"c",`+tt.text+`}}`)
		equal(t, tt.want, got.RegexRewrite)
		if got.HasPrefixRewrite || got.Refusal != "" {
			t.Errorf("got %+v", got)
		}
	}
	if got := rule(t, `{"match":{"prefix":"/"},"route":{"cluster":"c","prefixRewrite":"/x"}}`); got.PrefixRewrite != "/x" || !got.HasPrefixRewrite {
		t.Errorf("got %+v", got)
	}
}

func TestAnswersWithoutUpstream(t *testing.T) {
	t.Parallel()
	got := rule(t, `{"match":{"path":"/x"},"redirect":{"httpsRedirect":true,"hostRedirect":"h","portRedirect":8443,"pathRedirect":"/y","responseCode":"PERMANENT_REDIRECT"}}`)
	equal(t, &mesh.Redirect{Scheme: "https", Host: "h", Path: "/y", Port: 8443, Status: 308}, got.Redirect)
	got = rule(t, `{"match":{"pathSeparatedPrefix":"/x"},"directResponse":{"status":404,"body":{"inlineString":"no"}}}`)
	equal(t, &mesh.Rule{Match: mesh.Match{PathPrefix: "/x"}, Direct: &mesh.DirectResponse{Status: 404, Body: "no"}}, got)
}

// TestRefusedRules: a rule that is not understood takes at least what it may be
// meant for, and refuses it.
func TestRefusedRules(t *testing.T) {
	t.Parallel()
	tests := []struct {
		text, want string
		match      mesh.Match
	}{
		{`{"match":{"prefix":"/a","filterState":[{}]},"route":{"cluster":"c"}}`, "RouteMatch.filter_state is not supported", mesh.Match{Prefix: "/a"}},
		{`{"match":{"safeRegex":{"regex":"("}},"route":{"cluster":"c"}}`, "pattern", mesh.Match{Prefix: "/"}},
		{`{"match":{"pathMatchPolicy":{}},"route":{"cluster":"c"}}`, `path_match_policy of type "" is not supported`, mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/","headers":[{"name":"x","rangeMatch":{"start":"1","end":"1"}}]},"route":{"cluster":"c"}}`, `header "x"`, mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"},"route":{}}`, "route without a cluster", mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"},"route":{"clusterSpecifierPlugin":"x"}}`, "cluster_specifier_plugin is not supported", mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"},"route":{"weightedClusters":{"clusters":[{"name":"a","weight":0}]}}}`, "without a weight", mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"},"route":{"cluster":"c","regexRewrite":{"pattern":{"regex":"("}}}}`, "regex_rewrite", mesh.Match{Prefix: "/"}},

		{`{"match":{"prefix":"/"},"route":{"cluster":"c"},"requestHeadersToAdd":[{"header":{"key":"k","value":"%NOPE%"}}]}`, "no such command operator", mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"},"route":{"cluster":"c","hashPolicy":[{"filterState":{"key":"k"}}]}}`, "hash_policy", mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"},"redirect":{"regexRewrite":{"pattern":{"regex":"("}}}}`, "redirect: pattern", mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"},"nonForwardingAction":{}}`, "is not supported", mesh.Match{Prefix: "/"}},
		{`{"match":{"prefix":"/"}}`, "is not supported", mesh.Match{Prefix: "/"}},
	}
	for _, tt := range tests {
		got := rule(t, tt.text)
		if !strings.Contains(got.Refusal, tt.want) || got.Targets != nil || got.Redirect != nil {
			t.Errorf("%s: got %+v, want refusal %q", tt.text, got, tt.want)
		}
		equal(t, tt.match, got.Match)
	}
	all := route(t, `{"internalOnlyHeaders":["x"],"virtualHosts":[{"domains":["a"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c"}}]}]}`)
	host := route(t, `{"virtualHosts":[{"domains":["a"],"rateLimits":[{}],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c"}}]}]}`)
	for want, r := range map[string]*mesh.Route{"internal_only_headers": all, "rate_limits": host} {
		if got := r.VirtualHosts[0].Rules[0].Refusal; !strings.Contains(got, want) {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

// Consul rounds the shares of a splitter down: they may sum up to 9,999, and then
// there is no share that belongs to nobody.
func TestTrap13WeightsBelowTheirTotal(t *testing.T) {
	t.Parallel()
	got := rule(t, `{"match":{"prefix":"/"},"route":{"weightedClusters":{"totalWeight":10000,"clusters":[
		{"name":"a","weight":3333},{"name":"b","weight":3333},{"name":"c","weight":3333}]}}}`)
	if got.Refusal != "" || len(got.Targets) != 3 {
		t.Fatalf("got %+v", got)
	}
	seen := map[string]int{}
	for range 3000 {
		target := mesh.Choose(got.Targets)
		if target == nil {
			t.Fatal("a request belongs to nobody")
		}
		seen[target.Cluster]++
	}
	for name, n := range seen {
		if n < 800 || n > 1200 {
			t.Errorf("%s got %d of 3000", name, n)
		}
	}
}
