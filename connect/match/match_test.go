package match_test

import (
	"testing"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

func TestString(t *testing.T) {
	t.Parallel()
	tests := []struct {
		m    mesh.StringMatch
		s    string
		want bool
	}{
		{mesh.StringMatch{}, "", true},
		{mesh.StringMatch{}, "a", false},
		{mesh.StringMatch{Exact: "a"}, "a", true},
		{mesh.StringMatch{Exact: "a"}, "A", false},
		{mesh.StringMatch{Exact: "aB", IgnoreCase: true}, "Ab", true},
		{mesh.StringMatch{Exact: "k", IgnoreCase: true}, "\u212a", false},
		{mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/a"}, "/a/b", true},
		{mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/a"}, "/", false},
		{mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: "/a", IgnoreCase: true}, "/Ab", true},
		{mesh.StringMatch{Kind: mesh.MatchSuffix, Suffix: ".x"}, "a.x", true},
		{mesh.StringMatch{Kind: mesh.MatchSuffix, Suffix: ".x"}, "x", false},
		{mesh.StringMatch{Kind: mesh.MatchSuffix, Suffix: ".x", IgnoreCase: true}, "a.X", true},
		{mesh.StringMatch{Kind: mesh.MatchContains, Contains: "b"}, "abc", true},
		{mesh.StringMatch{Kind: mesh.MatchContains, Contains: "B"}, "abc", false},
		{mesh.StringMatch{Kind: mesh.MatchContains, Contains: "B", IgnoreCase: true}, "abc", true},
		{mesh.StringMatch{Kind: mesh.MatchContains, Contains: "BCD", IgnoreCase: true}, "abc", false},
		{mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "GET|POST"}, "POST", true},
		{mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "GET|POST"}, "POSTED", false},
		{mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "a+", IgnoreCase: true}, "A", false},
	}
	for _, tt := range tests {
		m, err := match.String(tt.m)
		if err != nil {
			t.Fatalf("%+v: %v", tt.m, err)
		}
		if got := m.Match(tt.s); got != tt.want {
			t.Errorf("%+v matches %q: got %v, want %v", tt.m, tt.s, got, tt.want)
		}
	}
	if _, err := match.String(mesh.StringMatch{Kind: 99}); err == nil {
		t.Error("unknown kind: no error")
	}
}

func TestRegexMatchesInFull(t *testing.T) {
	t.Parallel()
	const service = `^spiffe://11111111.consul/ns/default/dc/[^/]+/svc/web$`
	const anyDomain = `^spiffe://[^/]+.[^/]+/gateway/mesh/dc/[^/]+$`
	tests := []struct {
		pattern, s string
		want       bool
	}{
		{service, "spiffe://11111111.consul/ns/default/dc/dc1/svc/web", true},
		{service, "spiffe://11111111.consul/ns/default/dc/dc1/svc/web2", false},
		{service, "spiffe://11111111.consul/ns/default/dc/dc1/x/svc/web", false},
		{service, "spiffe://11111111.consul/ns/default/dc//svc/web", false},
		{service, "spiffe://11111111Xconsul/ns/default/dc/dc1/svc/web", true}, // the dot is Consul's
		{service, "spiffe://11111111\nconsul/ns/default/dc/dc1/svc/web", false},
		{service, "xspiffe://11111111.consul/ns/default/dc/dc1/svc/web", false},
		{service, "spiffe://11111111.consul/ns/default/dc/dc1/svc/web\n", false},
		{service, "", false},
		{anyDomain, "spiffe://a.consul/gateway/mesh/dc/dc1", true},
		{anyDomain, "spiffe://a.consul/gateway/mesh/dc/", false},
		{"", "", true},
		{"", "a", false},
		{"a|ab", "ab", true},
		{"GET|", "", true},
		{".*", "a\nb", false},
		{"[^/]+", "ab", true},
		{"[^/]+", "a/b", false},
		{"[^/]+x", "ax", true},
		{"[^/]+/x", "a/x", true},
		{"/v[0-9]+/.*", "/v1/x", true},
		{"/v[0-9]+/.*", "/a/v1/x", false},
		{`\Qa.b`, "a.b", true},
		{`\Qa.b`, "axb", false},
		{"(?i)abc", "ABC", true},
		{"(?m)^a$", "a\nb", false},
		{"(?s).*", "a\nb", true},
		{"é.x", "éüx", true},
	}
	for _, tt := range tests {
		p, err := match.Regex(tt.pattern)
		if err != nil {
			t.Fatalf("%s: %v", tt.pattern, err)
		}
		if got := p.Match(tt.s); got != tt.want {
			t.Errorf("%s matches %q: got %v, want %v", tt.pattern, tt.s, got, tt.want)
		}
	}
	for _, bad := range []string{"a)|(b", "(", "a**", `a\`, "[z-a]"} {
		if _, err := match.Regex(bad); err == nil {
			t.Errorf("%q: no error", bad)
		}
	}
}

func TestHeader(t *testing.T) {
	t.Parallel()
	req := &wire.Request{Method: "GET", Scheme: "http", Authority: "h.example", Path: "/p?q=1"}
	req.Header.Add("x-a", "a")
	req.Header.Add("x-a", "b")
	req.Header.Add("x-empty", "")
	exact := func(s string) mesh.StringMatch { return mesh.StringMatch{Exact: s} }
	tests := []struct {
		m    mesh.HeaderMatch
		want bool
	}{
		{mesh.HeaderMatch{Name: "X-A", Value: exact("a,b")}, true},
		{mesh.HeaderMatch{Name: "x-a", Value: exact("a")}, false},
		{mesh.HeaderMatch{Name: "x-a", Value: exact("a"), Invert: true}, true},
		{mesh.HeaderMatch{Name: "x-none", Value: exact("a"), Invert: true}, false},
		{mesh.HeaderMatch{Name: "x-none", Value: exact("a"), Invert: true, TreatMissingAsEmpty: true}, true},
		{mesh.HeaderMatch{Name: "x-none", Value: exact(""), TreatMissingAsEmpty: true}, true},
		{mesh.HeaderMatch{Name: "x-none", Value: exact("")}, false},
		{mesh.HeaderMatch{Name: "x-empty", Value: exact("")}, true},
		{mesh.HeaderMatch{Name: "x-empty", Present: true}, true},
		{mesh.HeaderMatch{Name: "x-none", Present: true}, false},
		{mesh.HeaderMatch{Name: "x-none", Present: true, Invert: true}, true},
		{mesh.HeaderMatch{Name: "x-a", Present: true, Invert: true}, false},
		{mesh.HeaderMatch{Name: ":method", Value: exact("GET")}, true},
		{mesh.HeaderMatch{Name: ":path", Value: exact("/p?q=1")}, true},
		{mesh.HeaderMatch{Name: ":scheme", Value: exact("http")}, true},
		{mesh.HeaderMatch{Name: ":authority", Value: exact("h.example")}, true},
		{mesh.HeaderMatch{Name: "host", Value: exact("h.example")}, true},
		{mesh.HeaderMatch{Name: "upgrade", Present: true}, false},
		{mesh.HeaderMatch{Name: "content-length", Present: true}, false},
	}
	for _, tt := range tests {
		m, err := match.Header(tt.m)
		if err != nil {
			t.Fatalf("%+v: %v", tt.m, err)
		}
		if got := m.Match(req); got != tt.want {
			t.Errorf("%+v: got %v, want %v", tt.m, got, tt.want)
		}
	}
	if _, err := match.Header(mesh.HeaderMatch{Present: true}); err == nil {
		t.Error("no name: no error")
	}
	req.Body, req.ContentLength, req.Upgrade = wire.NewBytes([]byte("xx")), 2, "websocket"
	for name, want := range map[string]string{"content-length": "2", "upgrade": "websocket"} {
		if got, ok := match.Value(req, name); !ok || got != want {
			t.Errorf("%s: got %q, %v, want %q", name, got, ok, want)
		}
	}
}

func TestQuery(t *testing.T) {
	t.Parallel()
	exact := func(s string) mesh.StringMatch { return mesh.StringMatch{Exact: s} }
	tests := []struct {
		m     mesh.QueryMatch
		query string
		want  bool
	}{
		{mesh.QueryMatch{Name: "v", Value: exact("1")}, "v=1", true},
		{mesh.QueryMatch{Name: "v", Value: exact("1")}, "a=2&v=1", true},
		{mesh.QueryMatch{Name: "v", Value: exact("1")}, "v=2&v=1", false},
		{mesh.QueryMatch{Name: "v", Value: exact("")}, "v", true},
		{mesh.QueryMatch{Name: "v", Value: exact("")}, "", false},
		{mesh.QueryMatch{Name: "v", Present: true}, "w&v", true},
		{mesh.QueryMatch{Name: "v", Present: true}, "vv=1", false},
		{mesh.QueryMatch{Name: "v", Value: exact("a b")}, "v=a%20b", false},
		{mesh.QueryMatch{Name: "v", Value: mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "a|ab"}}, "v=ab", true},
	}
	for _, tt := range tests {
		m, err := match.Query(tt.m)
		if err != nil {
			t.Fatalf("%+v: %v", tt.m, err)
		}
		if got := m.Match(tt.query); got != tt.want {
			t.Errorf("%+v in %q: got %v, want %v", tt.m, tt.query, got, tt.want)
		}
	}
	if _, err := match.Query(mesh.QueryMatch{}); err == nil {
		t.Error("no name: no error")
	}
}

// FuzzRegex holds the shortcuts to the engine's own verdict.
func FuzzRegex(f *testing.F) {
	f.Add("^a/[^/]+/b$", "a/x/b")
	f.Add("GET|POST", "POST")
	f.Add(`\Qa`, "a")
	f.Fuzz(func(t *testing.T, pattern, s string) {
		fast, err := match.Regex(pattern)
		if err != nil {
			return
		}
		// One more empty group is no shape that has a shortcut.
		slow, err := match.Regex("(?:" + pattern + "|" + pattern + "){1}()")
		if err != nil {
			return // \Q without \E, or too large
		}
		if got, want := fast.Match(s), slow.Match(s); got != want {
			t.Errorf("%q matches %q: got %v, want %v", pattern, s, got, want)
		}
	})
}

func BenchmarkRegexSPIFFE(b *testing.B) {
	p, err := match.Regex(`^spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/[^/]+/svc/web$`)
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !p.Match("spiffe://11111111-2222-3333-4444-555555555555.consul/ns/default/dc/dc1/svc/web") {
			b.Fatal("no match")
		}
	}
}

func TestReplaceEach(t *testing.T) {
	t.Parallel()
	for _, pattern := range []string{`a(b*)c?`, `a*`, `^a`, `x`, `(.)(.)`, `.*b(.*)`, `$`, `(é)|a`} {
		var all []*match.Rewriter
		for _, substitution := range []string{``, `\0`, `<\0>`, `$1`} {
			r, err := match.Rewrite(mesh.RegexRewrite{Pattern: pattern, Substitution: substitution})
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, r)
		}
		for _, text := range []string{"", "a", "abbc", "xaxbxc", "aaa", "abcabc", "é a é", "\xff\xfea"} {
			for i, got := range match.ReplaceEach(all, text) {
				if want := all[i].Replace(text); got != want {
					t.Errorf("%q in %q by rewriter %d: %q, want %q", pattern, text, i, got, want)
				}
			}
		}
	}
}
