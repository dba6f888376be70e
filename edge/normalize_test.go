package edge_test

import (
	"strings"
	"testing"

	"github.com/serai-net/serai/edge"
)

func TestNormalizePath(t *testing.T) {
	for _, row := range []struct{ target, want, err string }{
		{"/", "/", ""},
		{"/a/b?x=../y//z", "/a/b?x=../y//z", ""},
		{"/a/./b", "/a/b", ""},
		{"/a/../b", "/b", ""},
		{"/a/b/..", "/a/", ""},
		{"/a/b/.", "/a/b/", ""},
		{"/a/b/../", "/a/", ""},
		{"/..", "/", ""},
		{"/../../a", "/a", ""},
		{"//a///b//", "/a/b/", ""},
		{"/.hidden/..x", "/.hidden/..x", ""},
		{"/a/...", "/a/...", ""},
		{"/%2e%2E/a", "/a", ""},
		{"/a/%2e%2e/%62?q=%2f", "/b?q=%2f", ""},
		{"/%7Euser/caf%c3%a9", "/~user/caf%C3%A9", ""},
		{"/%252e%252e/a", "/%252e%252e/a", ""},
		{"/a%20b", "/a%20b", ""},
		{"/a;v=1/b", "/a;v=1/b", ""},
		{"", "", "path does not begin with a slash"},
		{"*", "", "path does not begin with a slash"},
		{"a/b", "", "path does not begin with a slash"},
		{"/a%2fb", "", "path has an encoded slash, backslash or NUL"},
		{"/a%5Cb", "", "path has an encoded slash, backslash or NUL"},
		{"/a%00", "", "path has an encoded slash, backslash or NUL"},
		{"/a%2", "", "path has a malformed percent-encoding"},
		{"/a%zz", "", "path has a malformed percent-encoding"},
		{`/a\..\b`, "", "path has a character that is not allowed"},
		{"/a#b", "", "path has a character that is not allowed"},
		{"/a b", "", "path has a character that is not allowed"},
		{"/a\x00", "", "path has a character that is not allowed"},
		{"/open/..;/admin", "", "path has a dot segment with parameters"},
		{"/open/%2e%2e;x=1/admin", "", "path has a dot segment with parameters"},
	} {
		got, err := edge.NormalizePath(row.target)
		if text := errText(err); got != row.want || text != row.err {
			t.Errorf("NormalizePath(%q) = %q, %q; want %q, %q", row.target, got, text, row.want, row.err)
		}
	}
}

func TestNormalizePathAllocatesNothingForNormalPaths(t *testing.T) {
	if n := testing.AllocsPerRun(100, func() {
		_, _ = edge.NormalizePath("/orders/v1/list?limit=10&after=../x")
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzNormalize(f *testing.F) {
	for _, seed := range []string{"/", "/a/../b", "//", "/%2e./%2F", "/..;/x", "/a?b=/../c", "/%25%32%65"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, target string) {
		normal, err := edge.NormalizePath(target)
		if err != nil {
			return
		}
		path, query, _ := strings.Cut(normal, "?")
		if !strings.HasPrefix(path, "/") || strings.Contains(path, "//") {
			t.Errorf("%q became %q", target, normal)
		}
		for segment := range strings.SplitSeq(path, "/") {
			bare, _, _ := strings.Cut(segment, ";")
			if bare == "." || bare == ".." {
				t.Errorf("%q became %q, which has a dot segment", target, normal)
			}
		}
		if _, was, _ := strings.Cut(target, "?"); was != query {
			t.Errorf("%q became %q: the query changed", target, normal)
		}
		again, err := edge.NormalizePath(normal)
		if err != nil || again != normal {
			t.Errorf("%q became %q, and that %q, %v", target, normal, again, err)
		}
	})
}

func errText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
