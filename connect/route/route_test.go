package route_test

import (
	"fmt"
	"math"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

func compile(tb testing.TB, r *mesh.Route) *route.Table {
	tb.Helper()
	table, err := route.Compile(r)
	if err != nil {
		tb.Fatal(err)
	}
	return table
}

// rules makes a table of one virtual host.
func rules(tb testing.TB, all ...*mesh.Rule) *route.Table {
	tb.Helper()
	return compile(tb, &mesh.Route{Name: "r", VirtualHosts: []*mesh.VirtualHost{{Name: "v", Domains: []string{"*"}, Rules: all}}})
}

func named(name string, m mesh.Match) *mesh.Rule { return &mesh.Rule{Name: name, Match: m} }

func request(path string) *wire.Request {
	return &wire.Request{Method: "GET", Scheme: "http", Authority: "example.com", Path: path}
}

// matched is the name of the rule that matches, "" for none.
func matched(table *route.Table, req *wire.Request) string {
	if rule := table.Match(&wire.Exchange{}, req); rule != nil {
		return rule.Name
	}
	return ""
}

func TestDomains(t *testing.T) {
	t.Parallel()
	domains := []string{
		"*", "example.com", "example.com:8080", "*.example.com", "*-x.example.com", "*.a.example.com", "www.*", "www.a.*", "[::1]:80", "UPPER.example",
	}
	r := &mesh.Route{}
	for _, domain := range domains {
		r.VirtualHosts = append(r.VirtualHosts, &mesh.VirtualHost{
			Name: domain, Domains: []string{domain}, Rules: []*mesh.Rule{named(domain, mesh.Match{Prefix: "/"})},
		})
	}
	table := compile(t, r)
	for authority, want := range map[string]string{
		"example.com":        "example.com",
		"EXAMPLE.Com":        "example.com",
		"example.com:8080":   "example.com:8080",
		"example.com:80":     "*",
		"b.example.com":      "*.example.com",
		"a.example.com":      "*.example.com",
		"b.a.example.com":    "*.a.example.com",
		"B.A.Example.com":    "*.a.example.com",
		".example.com":       "*",
		"b-x.example.com":    "*-x.example.com",
		"www.example.com":    "*.example.com", // suffixes come before prefixes
		"www.org":            "www.*",
		"www.a.org":          "www.a.*",
		"www.":               "*",
		"[::1]:80":           "[::1]:80",
		"upper.example":      "UPPER.example",
		"":                   "*",
		"*":                  "*",
		"other":              "*",
		"example.com.":       "*",
		"b.example.com:8080": "*",
	} {
		req := request("/")
		req.Authority = authority
		if got := matched(table, req); got != want {
			t.Errorf("%q: %q, want %q", authority, got, want)
		}
	}
	without := compile(t, &mesh.Route{VirtualHosts: r.VirtualHosts[1:]})
	req := request("/")
	req.Authority = "other"
	if got := matched(without, req); got != "" {
		t.Errorf("an unknown host is served by %q", got)
	}
	if rule := compile(t, &mesh.Route{}).Match(&wire.Exchange{}, req); rule != nil {
		t.Error("an empty table matches")
	}
}

func TestPaths(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		match   mesh.Match
		yes, no []string
	}{
		{"prefix", mesh.Match{Prefix: "/a"}, []string{"/a", "/a/", "/ab", "/a?x", "/a/b?x"}, []string{"/", "/b", "/A", "/?/a", "*", ""}},
		{"prefix /", mesh.Match{Prefix: "/"}, []string{"/", "/a", "//"}, []string{"*", ""}},
		{"empty", mesh.Match{}, []string{"/", "/a?x", "*", ""}, nil},
		{"prefix, any case", mesh.Match{Prefix: "/aK", IgnoreCase: true}, []string{"/ak", "/AK/b", "/Akx"}, []string{"/a\u212a", "/a"}},
		{"path", mesh.Match{Path: "/a"}, []string{"/a", "/a?x"}, []string{"/a/", "/ab", "/A", "/"}},
		{"path, any case", mesh.Match{Path: "/aK", IgnoreCase: true}, []string{"/Ak", "/ak?X"}, []string{"/a\u212a", "/ak/"}},
		{"segments", mesh.Match{PathPrefix: "/a"}, []string{"/a", "/a/", "/a/b", "/a?x", "/a//b"}, []string{"/ab", "/", "/A", "/a%2Fb"}},
		{"segments with a slash", mesh.Match{PathPrefix: "/a/"}, []string{"/a", "/a/", "/a/b"}, []string{"/ab"}},
		{"all segments", mesh.Match{PathPrefix: "/"}, []string{"/", "/a", "//"}, []string{"*"}},
		{"segments, any case", mesh.Match{PathPrefix: "/a", IgnoreCase: true}, []string{"/A", "/A/b"}, []string{"/Ab"}},
		{"regex", mesh.Match{Regex: "/[0-9]+"}, []string{"/1", "/12?x"}, []string{"/", "/1/", "/a/1", "/12a"}},
		{"regex of alternatives", mesh.Match{Regex: "/a|/b"}, []string{"/a", "/b?/c"}, []string{"/ab", "/b/c", "x/b"}},
	}
	for _, tt := range tests {
		table := rules(t, named("yes", tt.match))
		for _, path := range tt.yes {
			if matched(table, request(path)) == "" {
				t.Errorf("%s: %q does not match", tt.name, path)
			}
		}
		for _, path := range tt.no {
			if matched(table, request(path)) != "" {
				t.Errorf("%s: %q matches", tt.name, path)
			}
		}
	}
}

func TestFirstRuleWins(t *testing.T) {
	t.Parallel()
	exact := func(s string) mesh.StringMatch { return mesh.StringMatch{Exact: s} }
	table := rules(t,
		named("canary", mesh.Match{Prefix: "/", Headers: []mesh.HeaderMatch{{Name: "X-Canary", Value: exact("yes")}, {Name: ":method", Value: exact("GET")}}}),
		named("v2", mesh.Match{Prefix: "/", Query: []mesh.QueryMatch{{Name: "v", Value: exact("2")}, {Name: "debug", Present: true}}}),
		named("admin", mesh.Match{Prefix: "/admin"}),
		named("rest", mesh.Match{Prefix: "/"}),
		named("never", mesh.Match{Path: "/never"}),
	)
	with := func(path, method string, fields ...string) *wire.Request {
		req := request(path)
		req.Method = method
		for i := 0; i < len(fields); i += 2 {
			req.Header.Add(fields[i], fields[i+1])
		}
		return req
	}
	tests := []struct {
		req  *wire.Request
		want string
	}{
		{with("/", "GET", "x-canary", "yes"), "canary"},
		{with("/admin?v=2&debug", "GET", "x-canary", "yes"), "canary"},
		{with("/", "POST", "x-canary", "yes"), "rest"},
		{with("/", "GET", "x-canary", "yes", "x-canary", "no"), "rest"},
		{with("/admin?debug=0&v=2", "GET"), "v2"},
		{with("/admin?v=2", "GET"), "admin"},
		{with("/admin?v=1&v=2&debug", "GET"), "admin"},
		{with("/never", "GET"), "rest"},
	}
	for _, tt := range tests {
		if got := matched(table, tt.req); got != tt.want {
			t.Errorf("%s %s: %q, want %q", tt.req.Method, tt.req.Path, got, tt.want)
		}
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	rewrite := func(pattern, substitution string) *mesh.Rule {
		return &mesh.Rule{Match: mesh.Match{Prefix: "/"}, RegexRewrite: &mesh.RegexRewrite{Pattern: pattern, Substitution: substitution}}
	}
	tests := []struct {
		name    string
		domains []string
		rule    *mesh.Rule
		want    string
	}{
		{"regex", []string{"*"}, named("", mesh.Match{Regex: "("}), "rule 0"},
		{"header", []string{"*"}, named("", mesh.Match{Headers: []mesh.HeaderMatch{{}}}), "without a name"},
		{"query", []string{"*"}, named("", mesh.Match{Query: []mesh.QueryMatch{{}}}), "without a name"},
		{"rewrite", []string{"*"}, rewrite("(", ""), "regex_rewrite"},
		{"group that is not there", []string{"*"}, rewrite("(a)", `\2`), "1 groups"},
		{"backslash at the end", []string{"*"}, rewrite("a", `x\`), "ends with a backslash"},
		{"unknown escape", []string{"*"}, rewrite("a", `\n`), "followed by 'n'"},
		{"domain twice", []string{"a", "A"}, named("", mesh.Match{}), `"a" occurs twice`},
		{"suffix twice", []string{"*.a", "*.A"}, named("", mesh.Match{}), "occurs twice"},
		{"prefix twice", []string{"a.*", "A.*"}, named("", mesh.Match{}), "occurs twice"},
		{"all twice", []string{"*", "*"}, named("", mesh.Match{}), "occurs twice"},
	}
	for _, tt := range tests {
		_, err := route.Compile(&mesh.Route{Name: "r", VirtualHosts: []*mesh.VirtualHost{{Name: "v", Domains: tt.domains, Rules: []*mesh.Rule{tt.rule}}}})
		if err == nil || !strings.Contains(err.Error(), tt.want) || !strings.Contains(err.Error(), `virtual host "v"`) {
			t.Errorf("%s: got error %v, want one with %q", tt.name, err, tt.want)
		}
	}
}

func TestTarget(t *testing.T) {
	t.Parallel()
	targets := func(weights ...uint32) *route.Rule {
		t.Helper()
		rule := named("", mesh.Match{})
		for i, w := range weights {
			rule.Targets = append(rule.Targets, mesh.Target{Cluster: fmt.Sprint(i), Weight: w})
		}
		return rules(t, rule).Match(&wire.Exchange{}, request("/"))
	}
	if targets().Target() != nil || targets(0, 0).Target() != nil {
		t.Error("a target where there is none")
	}
	if targets(0).Target() == nil {
		t.Error("one target needs no weight")
	}
	const n = 100000
	for _, weights := range [][]uint32{{9000, 1000}, {1, 1, 1}, {0, 5, 0}, {10000, 1}} {
		rule, counts, total := targets(weights...), map[string]int{}, 0.0
		for range n {
			counts[rule.Target().Cluster]++
		}
		for _, w := range weights {
			total += float64(w)
		}
		for i, w := range weights {
			p := float64(w) / total
			// Six standard deviations: wrong once in 500 million runs.
			margin := 6 * math.Sqrt(n*p*(1-p))
			if got := float64(counts[fmt.Sprint(i)]); math.Abs(got-n*p) > margin {
				t.Errorf("%v: target %d got %v of %d, want %.0f", weights, i, got, n, n*p)
			}
		}
	}
}

func consul(tb testing.TB) (*route.Table, *wire.Request) {
	tb.Helper()
	var all []*mesh.Rule
	for i := range 20 {
		all = append(all, named(fmt.Sprint(i), mesh.Match{
			PathPrefix: fmt.Sprintf("/service/%d", i), Headers: []mesh.HeaderMatch{{Name: "x-version", Value: mesh.StringMatch{Exact: "1"}}},
			Query: []mesh.QueryMatch{{Name: "q", Present: true}},
		}))
	}
	all = append(all, named("regex", mesh.Match{Regex: "/v[0-9]+/users/[^/]+"}))
	req := request("/v1/users/somebody?q=1")
	req.Header.Add("x-version", "1")
	return compile(tb, &mesh.Route{VirtualHosts: []*mesh.VirtualHost{
		{Domains: []string{"other.com", "*.example.com"}},
		{Domains: []string{"example.com", "example.com:8080"}, Rules: all},
	}}), req
}

func TestMatchAllocates(t *testing.T) {
	table, req := consul(t)
	if n := testing.AllocsPerRun(100, func() { table.Match(&wire.Exchange{}, req).Target() }); n != 0 {
		t.Errorf("a match allocates %v times", n)
	}
}

func BenchmarkMatch(b *testing.B) {
	table, req := consul(b)
	b.ReportAllocs()
	for b.Loop() {
		if table.Match(&wire.Exchange{}, req) == nil {
			b.Fatal("no match")
		}
	}
}

func BenchmarkMatchOne(b *testing.B) {
	table, req := rules(b, named("one", mesh.Match{Prefix: "/"})), request("/a?b")
	b.ReportAllocs()
	for b.Loop() {
		if table.Match(&wire.Exchange{}, req) == nil {
			b.Fatal("no match")
		}
	}
}
