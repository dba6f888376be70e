package route_test

import (
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

// rewritten is the path that a rule makes.
func rewritten(t *testing.T, rule *mesh.Rule, path string) string {
	t.Helper()
	req := request(path)
	compiled := rules(t, rule).Match(&wire.Exchange{}, req)
	if compiled == nil {
		t.Fatalf("%q does not match", path)
	}
	compiled.Rewrite(req)
	return req.Path
}

func TestPrefixRewrite(t *testing.T) {
	t.Parallel()
	tests := []struct {
		match         mesh.Match
		to            string
		path, rewrite string
	}{
		{mesh.Match{Prefix: "/a"}, "/b", "/a/c?x=/a", "/b/c?x=/a"},
		{mesh.Match{Prefix: "/a"}, "/b", "/abc", "/bbc"},
		{mesh.Match{Prefix: "/a/"}, "/", "/a/c", "/c"},
		{mesh.Match{Prefix: "/a"}, "/", "/a", "/"},
		{mesh.Match{Prefix: "/a"}, "/", "/a/c", "//c"}, // as Envoy
		{mesh.Match{Prefix: "/a/"}, "", "/a/c", "/c"},
		{mesh.Match{Prefix: "/a"}, "", "/a/c", "/c"},
		{mesh.Match{Prefix: "/a"}, "", "/a?x", "/?x"},
		{mesh.Match{Prefix: "/"}, "/b/", "/c", "/b/c"},
		{mesh.Match{Prefix: "/A", IgnoreCase: true}, "/b", "/a/C", "/b/C"},
		{mesh.Match{PathPrefix: "/a"}, "/b", "/a/c", "/b/c"},
		{mesh.Match{PathPrefix: "/a/"}, "/b", "/a/c", "/b/c"},
		{mesh.Match{Path: "/a"}, "/b", "/a?x", "/b?x"},
		{mesh.Match{Regex: "/.*"}, "/b", "/a/c?x", "/b?x"},
	}
	for _, tt := range tests {
		rule := &mesh.Rule{Match: tt.match, HasPrefixRewrite: true, PrefixRewrite: tt.to}
		if got := rewritten(t, rule, tt.path); got != tt.rewrite {
			t.Errorf("%+v to %q: %q becomes %q, want %q", tt.match, tt.to, tt.path, got, tt.rewrite)
		}
	}
}

func TestRegexRewrite(t *testing.T) {
	t.Parallel()
	tests := []struct{ pattern, substitution, path, rewrite string }{
		{`^/service/([^/]+)(/.*)$`, `\2/instance/\1`, "/service/foo/v1/api?q=/x", "/v1/api/instance/foo?q=/x"},
		{`one`, `two`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz"},
		{`^(.*?)one(.*)$`, `\1two\2`, "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz"},
		{`(?i)/xxx/`, `/yyy/`, "/aaa/XxX/bbb", "/aaa/yyy/bbb"},
		{`a`, `[\0]`, "/a", "/[a]"},
		{`(a)`, `\1\1$1${1}`, "/a", "/aa$1${1}"},
		{`a`, `\\1`, "/a", `/\1`},
		{`none`, `x`, "/a?b", "/a?b"},
		{`^/(.*)`, `\1`, "/a", "/a"}, // stays a path
		{`.*`, ``, "/a?b", "/?b"},
		{`^`, `/b`, "/a", "/b/a"},
		{`/`, `-`, "/a/b", "/-a-b"},
	}
	for _, tt := range tests {
		rule := &mesh.Rule{RegexRewrite: &mesh.RegexRewrite{Pattern: tt.pattern, Substitution: tt.substitution}}
		if got := rewritten(t, rule, tt.path); got != tt.rewrite {
			t.Errorf("%s to %s: %q becomes %q, want %q", tt.pattern, tt.substitution, tt.path, got, tt.rewrite)
		}
	}
}

// The shortcut for what Consul writes is what the expression does.
func TestStripPrefix(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(1, 2))
	parts := []string{"/", "/", "/admin", "admin", "Admin", ".", "a.b", "(", "%2F", "?", "x", "/admin/", "//", "\\", "$1", "\xff", "é"}
	for _, prefix := range []string{"/admin", "/admin/", "/", "/a.b", "/a/b(c)", "/admin?x", "/é"} {
		pattern := "^" + regexp.QuoteMeta(prefix) + "(/?)(.*)"
		strip := rules(t, &mesh.Rule{RegexRewrite: &mesh.RegexRewrite{StripPrefix: prefix}}).Match(&wire.Exchange{}, request("/"))
		regex := rules(t, &mesh.Rule{RegexRewrite: &mesh.RegexRewrite{Pattern: pattern, Substitution: `/\2`}}).Match(&wire.Exchange{}, request("/"))
		for range 3000 {
			var b strings.Builder
			b.WriteString([]string{"/", "", prefix, prefix, prefix}[random.IntN(5)])
			for range random.IntN(5) {
				b.WriteString(parts[random.IntN(len(parts))])
			}
			path := b.String()
			if !strings.HasPrefix(path, "/") {
				continue
			}
			got, want := request(path), request(path)
			strip.Rewrite(got)
			regex.Rewrite(want)
			if got.Path != want.Path {
				t.Fatalf("%s: %q becomes %q, but %s says %q", prefix, path, got.Path, pattern, want.Path)
			}
		}
	}
}

func TestHostRewrite(t *testing.T) {
	t.Parallel()
	req := request("/a")
	host := rules(t, &mesh.Rule{HostRewrite: "other"}).Match(&wire.Exchange{}, req).NewHost(req)
	if host != "other" {
		t.Errorf("%q", host)
	}
}

func TestAnswer(t *testing.T) {
	t.Parallel()
	type answer struct {
		Status   int
		Location string
	}
	tests := []struct {
		name     string
		redirect mesh.Redirect
		scheme   string
		host     string
		path     string
		want     answer
	}{
		{"nothing", mesh.Redirect{}, "http", "h", "/a?b", answer{301, "http://h/a?b"}},
		{"status", mesh.Redirect{Status: 308}, "http", "h", "/", answer{308, "http://h/"}},
		{"scheme", mesh.Redirect{Scheme: "https"}, "http", "h", "/a?b", answer{301, "https://h/a?b"}},
		{"scheme drops its port", mesh.Redirect{Scheme: "https"}, "http", "h:80", "/", answer{301, "https://h/"}},
		{"scheme keeps another port", mesh.Redirect{Scheme: "https"}, "http", "h:8080", "/", answer{301, "https://h:8080/"}},
		{"same scheme keeps its port", mesh.Redirect{Scheme: "http"}, "http", "h:80", "/", answer{301, "http://h:80/"}},
		{"from https", mesh.Redirect{Scheme: "http"}, "https", "h:443", "/", answer{301, "http://h/"}},
		{"host", mesh.Redirect{Host: "other"}, "http", "h:80", "/a", answer{301, "http://other/a"}},
		{"host with a port", mesh.Redirect{Host: "other:80", Scheme: "https"}, "http", "h", "/a", answer{301, "https://other:80/a"}},
		{"port", mesh.Redirect{Port: 8443}, "http", "h:80", "/", answer{301, "http://h:8443/"}},
		{"port and scheme", mesh.Redirect{Port: 8443, Scheme: "https"}, "http", "h", "/", answer{301, "https://h:8443/"}},
		{"port of an IPv6 address", mesh.Redirect{Port: 1}, "http", "[::1]:80", "/", answer{301, "http://[::1]:1/"}},
		{"port for an IPv6 address without", mesh.Redirect{Port: 1}, "http", "[::1]", "/", answer{301, "http://[::1]:1/"}},
		{"scheme of an IPv6 address", mesh.Redirect{Scheme: "https"}, "http", "[::80]", "/", answer{301, "https://[::80]/"}},
		{"path keeps the query", mesh.Redirect{Path: "/new"}, "http", "h", "/a?b?c", answer{301, "http://h/new?b?c"}},
		{"path with its own query", mesh.Redirect{Path: "/new?x"}, "http", "h", "/a?b", answer{301, "http://h/new?x"}},
		{"OPTIONS *", mesh.Redirect{Scheme: "https"}, "http", "h", "*", answer{301, "https://h/"}},
	}
	for _, tt := range tests {
		rule := rules(t, &mesh.Rule{Redirect: &tt.redirect}).Match(&wire.Exchange{}, request("/"))
		resp := rule.Answer(&wire.Exchange{}, &wire.Request{Scheme: tt.scheme, Authority: tt.host, Path: tt.path})
		if diff := cmp.Diff(tt.want, answer{resp.Status, resp.Header.Get("location")}); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
	direct := rules(t, &mesh.Rule{Direct: &mesh.DirectResponse{Status: 418, Body: "teapot"}}).Match(&wire.Exchange{}, request("/")).Answer(&wire.Exchange{}, request("/"))
	if direct.Status != 418 || direct.ContentLength != 6 {
		t.Errorf("%+v", direct)
	}
	if resp := rules(t, &mesh.Rule{}).Match(&wire.Exchange{}, request("/")).Answer(&wire.Exchange{}, request("/")); resp != nil {
		t.Errorf("%+v", resp)
	}
}

// FuzzRewrite looks for results that are no path.
func FuzzRewrite(f *testing.F) {
	f.Add("/service/([^/]+)(/.*)", `\2/\1`, "/service/foo/v1?q")
	f.Add("^/a(/?)(.*)", `/\2`, "/a/b")
	f.Add(`(\d)+`, `$\\\0`, "/1")
	f.Fuzz(func(t *testing.T, pattern, substitution, path string) {
		r := &mesh.Rule{RegexRewrite: &mesh.RegexRewrite{Pattern: pattern, Substitution: substitution}}
		table, err := route.Compile(&mesh.Route{VirtualHosts: []*mesh.VirtualHost{{Domains: []string{"*"}, Rules: []*mesh.Rule{r}}}})
		if err != nil {
			return
		}
		req := request(path)
		query := req.Query()
		table.Match(&wire.Exchange{}, req).Rewrite(req)
		if !strings.HasPrefix(req.Path, "/") || !strings.HasSuffix(req.Path, query) {
			t.Errorf("%q becomes %q", path, req.Path)
		}
	})
}
