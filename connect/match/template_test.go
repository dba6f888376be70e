package match_test

import (
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/match"
)

// Each row is what Envoy 1.36 made of it (integration: TestRouteActionsAsEnvoy), or says its documentation.
func TestTemplate(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		template, rewrite, path, want string // want is "" for no match
	}{
		{"/a/{id}/x/{file=**}", "/new/{file}/of/{id}", "/a/1/x/b/c", "/new/b/c/of/1"},
		{"/a/{id}/x/{file=**}", "/new/{file}/of/{id}", "/a/1/x/", "/new//of/1"},
		{"/a/{id}/x/{file=**}", "/new", "/a/1/x", ""},
		{"/a/{id}", "/$1/{id}", "/a/b", "/$1/b"},
		{"/a/*/c", "/z", "/a/b/c", "/z"},
		{"/a/*/c", "/z", "/a/b/b/c", ""},
		{"/a/*/c", "/z", "/a//c", ""},
		{"/a.b", "/z", "/axb", ""},
		{"/**.mpd", "/z", "/x/y.mpd", "/z"},
		{"/**.mpd", "/z", "/.mpd", "/z"},
		{"/v/{a=x/*}/{b}", "/{b}/{a}", "/v/x/1/2", "/2/x/1"},
		{"/v/{a=x/*}/{b}", "/{b}/{a}", "/v/y/1/2", ""},
	} {
		template, err := match.Template(row.template)
		if err != nil {
			t.Fatal(err)
		}
		if got := template.Match(row.path); got != (row.want != "") {
			t.Errorf("%s: %s: %t", row.template, row.path, got)
		}
		rewriter, err := match.RewriteTemplate(row.template, row.rewrite)
		if err != nil {
			t.Fatal(err)
		}
		want := row.want
		if want == "" {
			want = row.path
		}
		if got := rewriter.Replace(row.path); got != want {
			t.Errorf("%s: %s becomes %s, want %s", row.template, row.path, got, want)
		}
	}
}

func TestTemplateErrors(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"":                         "slash",
		"a":                        "slash",
		"/a//b":                    "empty segment",
		"/{a":                      "does not end",
		"/{a=b":                    "does not end",
		"/{}":                      "no name",
		"/{1a}":                    "no name",
		"/{abcdefghijklmnopq}":     "no name",
		"/{a=}":                    "matches nothing",
		"/{a}/{a}":                 "twice",
		"/{a}/{b}/{c}/{d}/{e}/{f}": "too many",
		"/**/*":                    "operator follows",
		"/**/{a}":                  "operator follows",
		"/a b":                     "may not stand",
		"/a}":                      "may not stand",
	} {
		if _, err := match.Template(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
	for _, rewrite := range []string{"x", "/{b}", "/{a"} {
		if _, err := match.RewriteTemplate("/{a}", rewrite); err == nil {
			t.Errorf("%q: no error", rewrite)
		}
	}
}

// FuzzTemplate looks for templates that compile to what is no expression, and for panics.
func FuzzTemplate(f *testing.F) {
	f.Add("/a/{id}/x/{file=**}", "/new/{file}/of/{id}", "/a/1/x/b")
	f.Add("/**.mpd", "/$", "/x.mpd")
	f.Fuzz(func(t *testing.T, template, rewrite, path string) {
		compiled, err := match.Template(template)
		if err != nil {
			return
		}
		rewriter, err := match.RewriteTemplate(template, rewrite)
		if err != nil {
			return
		}
		if got := rewriter.Replace(path); !compiled.Match(path) && got != path {
			t.Errorf("%q does not match %q, which becomes %q", template, path, got)
		}
	})
}
