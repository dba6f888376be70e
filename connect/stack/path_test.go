package stack_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

func TestNormalizePath(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/":                   "/",
		"/a/b":                "/a/b",
		"/a/b/":               "/a/b/",
		"/.":                  "/",
		"/..":                 "/",
		"/./":                 "/",
		"/../..":              "/",
		"/a/..":               "/",
		"/a/../":              "/",
		"/a/.":                "/a/",
		"/a/./b":              "/a/b",
		"/a/../b":             "/b",
		"/a/b/../../c":        "/c",
		"/a/../../b":          "/b",
		"/a/b/c/./../../g":    "/a/g", // RFC 3986 section 5.2.4
		"/mid/content=5/../6": "/mid/6",
		"/...":                "/...",
		"/.a/..b/c./d..":      "/.a/..b/c./d..",
		"/%2e":                "/",
		"/%2E%2e/a":           "/a",
		"/a/%2e%2E/b":         "/b",
		"/a/.%2e/b":           "/b",
		"/%61%62%7e%5F%2d":    "/ab~_-",
		"/%2f":                "/%2f", // stays escaped: it is no separator
		"/a%2f..%2fb":         "/a%2f..%2fb",
		"/a|b^\"c{d}<e>`":     "/a%7Cb%5E%22c%7Bd%7D%3Ce%3E%60",
		"/%5c":                "/%5c",
		"/a\\b":               "/a/b",
		"/a\\..\\b":           "/b",
		"/%25%32%65":          "/%252e",
		"/%252e%252e/a":       "/%252e%252e/a",
		"/%c3%a9":             "/%c3%a9",
		"/a%20b":              "/a%20b",
		"/a//b":               "/a//b",
		"/a//../b":            "/a/b",
		"/a;/../b":            "/b",
		"//":                  "//",
		"//..//a":             "//a",
	} {
		got, ok := stack.NormalizePath(path)
		if !ok || got != want {
			t.Errorf("%q: %q, %v, want %q", path, got, ok, want)
		}
	}
	for _, path := range []string{"", "a", "*", "%2f", "./a", "/%", "/%2", "/%zz", "/%2g", "/%00", "/a%00b", "/a%", "/%%32"} {
		if got, ok := stack.NormalizePath(path); ok {
			t.Errorf("%q: %q, want none", path, got)
		}
	}
}

// FuzzNormalizePath holds it to its word, and to what the RFC's reference
// algorithm says.
func FuzzNormalizePath(f *testing.F) {
	for _, path := range []string{"/a/../b/./c//..", "/%2e%2E/%2f\\..", "/%", "/%00", "/.%2e/..;/", "/a%2F..%5c"} {
		f.Add(path)
	}
	f.Fuzz(func(t *testing.T, path string) {
		got, ok := stack.NormalizePath(path)
		if !ok {
			return
		}
		if again, ok := stack.NormalizePath(got); !ok || again != got {
			t.Fatalf("%q becomes %q, and that %q, %v", path, got, again, ok)
		}
		if merged := stack.MergeSlashes(got); strings.Contains(merged, "//") {
			t.Fatalf("%q merged is %q", got, merged)
		} else if again, ok := stack.NormalizePath(merged); !ok || again != merged {
			t.Fatalf("%q merged becomes %q, and that %q, %v", got, merged, again, ok)
		}
		for segment := range strings.SplitSeq(got, "/") {
			if segment == "." || segment == ".." || strings.EqualFold(segment, "%2e") || strings.ContainsRune(segment, '\\') {
				t.Fatalf("%q becomes %q", path, got)
			}
		}
		if !strings.HasPrefix(got, "/") {
			t.Fatalf("%q becomes %q", path, got)
		}
		// It means the same as before, but for dot segments.
		before, err := url.PathUnescape(strings.ReplaceAll(strings.ReplaceAll(path, "\\", "/"), "%5c", "%5C"))
		if err != nil {
			t.Fatalf("%q is taken, but %v", path, err)
		}
		after, err := url.PathUnescape(got)
		if err != nil {
			t.Fatalf("%q: %v", got, err)
		}
		// Escaped slashes would become separators here, so those are left out.
		if !strings.Contains(strings.ToUpper(path), "%2F") {
			if want := removeDots(before); after != want {
				t.Fatalf("%q becomes %q, which is %q, want %q", path, got, after, want)
			}
		}
	})
}

// removeDots is RFC 3986 section 5.2.4 to the letter.
func removeDots(in string) string {
	var out string
	for in != "" {
		switch {
		case strings.HasPrefix(in, "../"):
			in = in[3:]
		case strings.HasPrefix(in, "./"), strings.HasPrefix(in, "/./"):
			in = in[2:]
		case in == "/.":
			in = "/"
		case strings.HasPrefix(in, "/../"), in == "/..":
			in = "/" + strings.TrimPrefix(in[3:], "/")
			out = out[:max(0, strings.LastIndexByte(out, '/'))]
		case in == ".", in == "..":
			in = ""
		default:
			end := len(in)
			if i := strings.IndexByte(in[1:], '/'); i >= 0 {
				end = i + 1
			}
			out, in = out+in[:end], in[end:]
		}
	}
	return out
}

func TestMergeSlashes(t *testing.T) {
	t.Parallel()
	for path, want := range map[string]string{
		"/": "/", "//": "/", "///a//b///": "/a/b/", "/a/b": "/a/b", "/%2F/": "/%2F/", "": "",
	} {
		if got := stack.MergeSlashes(path); got != want {
			t.Errorf("%q: %q, want %q", path, got, want)
		}
	}
}

// The bytes decided on are the bytes forwarded: what the chain is asked to do
// to a path happens before its filters and routes, and to the path alone.
func TestPathOptions(t *testing.T) {
	t.Parallel()
	type outcome struct {
		Status   int
		Path     string // that was routed
		Location string
	}
	unchanged := func(path string) outcome { return outcome{200, path, ""} }
	bad := outcome{Status: http.StatusBadRequest}
	all := mesh.HTTP{NormalizePath: true, MergeSlashes: true, EscapedSlashes: mesh.UnescapeAndForward}
	tests := []struct {
		name string
		http mesh.HTTP
		path string
		want outcome
	}{
		{"nothing is asked for", mesh.HTTP{}, "/a/..//%2f\\?/../", unchanged("/a/..//%2f\\?/../")},
		{"normalise", mesh.HTTP{NormalizePath: true}, "/a/../%62//c?/../%62", unchanged("/b//c?/../%62")},
		{"normalise keeps escaped slashes", mesh.HTTP{NormalizePath: true}, "/a%2f..%2Fb", unchanged("/a%2f..%2Fb")},
		{"broken escape", mesh.HTTP{NormalizePath: true}, "/%zz", bad},
		{"broken escape in the query", mesh.HTTP{NormalizePath: true}, "/?%zz%00", unchanged("/?%zz%00")},
		{"NUL", mesh.HTTP{NormalizePath: true}, "/%00", bad},
		{"OPTIONS *", all, "*", outcome{404, "", ""}},
		{"merge", mesh.HTTP{MergeSlashes: true}, "//a///b?//", unchanged("/a/b?//")},
		{"normalise, then merge", mesh.HTTP{NormalizePath: true, MergeSlashes: true}, "/a//..//b", unchanged("/a/b")},
		{"reject", mesh.HTTP{EscapedSlashes: mesh.RejectEscapedSlashes}, "/a%2Fb", bad},
		{"reject a backslash", mesh.HTTP{EscapedSlashes: mesh.RejectEscapedSlashes}, "/a%5cb", bad},
		{"reject looks at the path only", mesh.HTTP{EscapedSlashes: mesh.RejectEscapedSlashes}, "/a?%2F", unchanged("/a?%2F")},
		{"unescape", mesh.HTTP{EscapedSlashes: mesh.UnescapeAndForward}, "/a%2Fb%2fc%5Cd%5ce?%2F", unchanged("/a/b/c\\d\\e?%2F")},
		{"unescape is done once", mesh.HTTP{EscapedSlashes: mesh.UnescapeAndForward}, "/%252F", unchanged("/%252F")},
		{"all", all, "/a%2F..%5c%5Cb/%2e%2e%2fc?%2f", unchanged("/c?%2f")},
		{"redirect", mesh.HTTP{EscapedSlashes: mesh.UnescapeAndRedirect}, "/a%2Fb?q", outcome{307, "", "http://example.com/a/b?q"}},
		{
			"redirect to the normal form",
			mesh.HTTP{EscapedSlashes: mesh.UnescapeAndRedirect, NormalizePath: true, MergeSlashes: true},
			"/a%2F..%2f/b",
			outcome{307, "", "http://example.com/b"},
		},
		{"redirect not elsewhere", mesh.HTTP{EscapedSlashes: mesh.UnescapeAndRedirect}, "/%2Fevil.example/", outcome{307, "", "http://example.com//evil.example/"}},
		{"no redirect without need", mesh.HTTP{EscapedSlashes: mesh.UnescapeAndRedirect, NormalizePath: true}, "/a/../b", unchanged("/b")},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := tt.http
			h.Route = toward(func(r *mesh.Rule) { r.Direct = &mesh.DirectResponse{Status: 200} })
			req := request(http.MethodGet, tt.path)
			got := do(t, compile(t, &h, clusters(t, nil)), &wire.Peer{}, req)
			o := outcome{Status: got.Status, Location: got.Header.Get("location")}
			if got.Status == 200 {
				o.Path = req.Path
			}
			if diff := cmp.Diff(tt.want, o); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
