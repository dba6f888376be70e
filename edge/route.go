package edge

import (
	"regexp"
	"slices"
	"strings"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/wire"
)

// route is a compiled [Route] of a compiled configuration. It is immutable once
// it is in a table.
//
// A gateway may have so many routes in use that none is in the processor's cache
// when its next request comes. So what each request reads stands together in
// front, and nothing else is read for a route without conditions.
type route struct {
	// service is everything behind the match.
	service wire.Service
	// name is config.Name.
	name string
	api  *API
	// counted finds what is counted of this route.
	counted telemetry.Route
	// unless is nil if the route takes all requests whose path fits.
	unless *conditions

	config *Route
	// order in the configuration, over all APIs.
	order int

	// base is the API's base path without a slash at its end.
	base string
	// cut is how many bytes of the path give way to put.
	cut int
	put string
}

// conditions are what a route asks of a request besides its path.
type conditions struct {
	methods []string
	headers []headerValue // sorted by name
	// pattern is nil but for path_regex; it matches what follows the base path.
	pattern *match.Pattern
}

type headerValue struct{ name, value string }

func newRoute(a *API, r *Route, order int) (*route, error) {
	out := &route{name: r.Name, api: a, config: r, order: order, base: strings.TrimRight(a.BasePath, "/")}
	conditions, err := newConditions(r)
	if err != nil {
		return nil, err
	}
	out.unless = conditions
	out.compileRewrite()
	return out, nil
}

// newConditions returns nil if there are none.
func newConditions(r *Route) (*conditions, error) {
	if len(r.Methods)+len(r.Headers) == 0 && r.PathRegex == "" {
		return nil, nil //nolint:nilnil // no condition
	}
	out := &conditions{methods: slices.Clone(r.Methods)}
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

// rewrites tells whether rewrite changes anything.
func (r *route) rewrites() bool { return r.cut != 0 || r.put != "" }

// rewrite is the path (with its query) that is sent upstream.
func (r *route) rewrite(path string) string {
	if !r.rewrites() {
		return path
	}
	rest := path[r.cut:]
	if r.put == "" && !strings.HasPrefix(rest, "/") {
		return "/" + rest
	}
	return r.put + rest
}

// keys are where the route stands in a pathTable: by the whole path, or by how it
// begins.
func (r *route) keys() (exact bool, keys []string) {
	switch {
	case r.config.Connect:
		return true, []string{""} // as CONNECT has no path, and all others have one
	case r.config.Path != "":
		if r.config.Path == "/" && r.base != "" {
			return true, []string{r.base, r.base + "/"}
		}
		return true, []string{r.base + r.config.Path}
	case r.config.PathRegex != "":
		literal := orRoot(literalBeginning(r.config.PathRegex))
		if literal == "/" && r.base != "" {
			return false, []string{r.base, r.base + "/"}
		}
		return false, []string{r.base + literal}
	case r.config.PathPrefix == "/":
		return false, []string{orRoot(r.base)}
	default:
		return false, []string{orRoot(r.base + r.config.PathPrefix)}
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
	// base is in front of every path for which the table asks this route
	return r.unless == nil || r.unless.hold(req, orRoot(path[len(r.base):]))
}

// hold tells whether a request meets all conditions; path is what follows the
// base path.
func (c *conditions) hold(req *wire.Request, path string) bool {
	if len(c.methods) > 0 && !slices.Contains(c.methods, req.Method) {
		return false
	}
	for i := range c.headers {
		if !req.Header.Has(c.headers[i].name) || req.Header.Joined(c.headers[i].name) != c.headers[i].value {
			return false
		}
	}
	return c.pattern == nil || c.pattern.Match(path)
}

// before tells which of two routes with the same path is asked first: one with a
// pattern, with more headers, with methods, or the earlier one.
func (r *route) before(other *route) int {
	a, b := r.config, other.config
	if (a.PathRegex != "") != (b.PathRegex != "") {
		if a.PathRegex != "" {
			return -1
		}
		return 1
	}
	if n := len(b.Headers) - len(a.Headers); n != 0 {
		return n
	}
	if n := min(1, len(b.Methods)) - min(1, len(a.Methods)); n != 0 {
		return n
	}
	return r.order - other.order
}

// conflicts tells whether two routes with the same path want the same requests.
func (r *route) conflicts(other *route) bool {
	if r.config.PathRegex != other.config.PathRegex {
		return false
	}
	var a, b conditions
	if r.unless != nil {
		a = *r.unless
	}
	if other.unless != nil {
		b = *other.unless
	}
	if !slices.Equal(a.headers, b.headers) {
		return false
	}
	if len(a.methods) == 0 || len(b.methods) == 0 {
		return len(a.methods) == len(b.methods)
	}
	return slices.ContainsFunc(a.methods, func(m string) bool { return slices.Contains(b.methods, m) })
}
