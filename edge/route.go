package edge

import (
	"regexp"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/wire"
)

// route is a compiled [Route] of a compiled configuration. It is immutable once
// it is in a table.
type route struct {
	api    *API
	config *Route
	// order in the configuration, over all APIs.
	order int

	methods []string
	headers []headerValue // sorted by name
	// pattern is nil but for path_regex; it matches what follows base.
	pattern *match.Pattern
	// base is the API's base path without a slash at its end.
	base string
	// cut is how many bytes of the path give way to put.
	cut int
	put string

	// service is everything behind the match.
	service wire.Service
}

type headerValue struct{ name, value string }

// pathKind is how a route's path is found.
type pathKind uint8

const (
	exactPath pathKind = iota
	prefixPath
	regexPath
)

func newRoute(a *API, r *Route, order int) (*route, error) {
	out := &route{api: a, config: r, order: order, base: strings.TrimRight(a.BasePath, "/")}
	out.methods = slices.Clone(r.Methods)
	for name, value := range r.Headers {
		out.headers = append(out.headers, headerValue{strings.ToLower(name), value})
	}
	slices.SortFunc(out.headers, func(a, b headerValue) int { return strings.Compare(a.name, b.name) })
	if r.PathRegex != "" {
		pattern, err := match.Regex(r.PathRegex)
		if err != nil {
			return nil, err
		}
		out.pattern = pattern
	}
	out.compileRewrite()
	return out, nil
}

// compileRewrite finds which beginning of a path is replaced by what.
func (r *route) compileRewrite() {
	prefix := strings.TrimRight(r.config.PathPrefix, "/")
	keepBase, keepPrefix := r.base, prefix
	if r.api.StripBasePath {
		keepBase = ""
	}
	if r.config.StripPrefix {
		keepPrefix = ""
	}
	if r.config.RewritePrefix != "" {
		keepPrefix = strings.TrimRight(r.config.RewritePrefix, "/")
	}
	r.cut, r.put = len(r.base)+len(prefix), keepBase+keepPrefix
	if r.put == r.base+prefix {
		r.cut, r.put = 0, ""
	}
}

// rewrite is the path (with its query) that is sent upstream.
func (r *route) rewrite(path string) string {
	if r.cut == 0 && r.put == "" {
		return path
	}
	rest := path[r.cut:]
	if r.put == "" && !strings.HasPrefix(rest, "/") {
		return "/" + rest
	}
	return r.put + rest
}

// keys are where the route stands in a pathTable.
func (r *route) keys() (kind pathKind, keys []string) {
	switch {
	case r.config.Connect:
		return exactPath, []string{""} // as CONNECT has no path, and all others have one
	case r.config.Path != "":
		if r.config.Path == "/" && r.base != "" {
			return exactPath, []string{r.base, r.base + "/"}
		}
		return exactPath, []string{r.base + r.config.Path}
	case r.pattern != nil:
		literal := orRoot(literalBeginning(r.config.PathRegex))
		if literal == "/" && r.base != "" {
			return regexPath, []string{r.base, r.base + "/"}
		}
		return regexPath, []string{r.base + literal}
	case r.config.PathPrefix == "/":
		return prefixPath, []string{orRoot(r.base)}
	default:
		return prefixPath, []string{orRoot(r.base + r.config.PathPrefix)}
	}
}

func orRoot(path string) string {
	if path == "" {
		return "/"
	}
	return path
}

// literalBeginning is the beginning of all that pattern matches, up to and with
// its last slash.
func literalBeginning(pattern string) string {
	compiled, err := regexp.Compile(strings.TrimPrefix(pattern, "^"))
	if err != nil {
		return ""
	}
	literal, _ := compiled.LiteralPrefix()
	return literal[:strings.LastIndexByte(literal, '/')+1]
}

// accepts tells whether a request whose path fits is for this route. The path
// has no query.
func (r *route) accepts(req *wire.Request, path string) bool {
	if len(r.methods) > 0 && !slices.Contains(r.methods, req.Method) {
		return false
	}
	for i := range r.headers {
		if !req.Header.Has(r.headers[i].name) || req.Header.Joined(r.headers[i].name) != r.headers[i].value {
			return false
		}
	}
	// base is in front of every path for which the table asks this route
	return r.pattern == nil || r.pattern.Match(orRoot(path[len(r.base):]))
}

// before tells which of two routes with the same path is asked first.
func (r *route) before(other *route) int {
	if n := len(other.headers) - len(r.headers); n != 0 {
		return n
	}
	if n := min(1, len(other.methods)) - min(1, len(r.methods)); n != 0 {
		return n
	}
	return r.order - other.order
}

// conflicts tells whether two routes with the same path want the same requests.
func (r *route) conflicts(other *route) bool {
	if !slices.Equal(r.headers, other.headers) || r.config.PathRegex != other.config.PathRegex {
		return false
	}
	if len(r.methods) == 0 || len(other.methods) == 0 {
		return len(r.methods) == len(other.methods)
	}
	return slices.ContainsFunc(r.methods, func(m string) bool { return slices.Contains(other.methods, m) })
}
