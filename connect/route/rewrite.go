package route

import (
	"strings"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// NewHost is the authority that the rule gives a request; "" for the one that it has.
func (r *Rule) NewHost(req *wire.Request) string {
	switch {
	case r.HostRewrite != "":
		return r.HostRewrite
	case r.HostHeader != "":
		if host, _ := match.Value(req, r.HostHeader); host != "" && grammar.IsAuthority(host) {
			return host
		}
	case r.hostOf != nil:
		if host := r.hostOf.Replace(req.PathOnly()); grammar.IsAuthority(host) {
			return host
		}
	}
	return ""
}

// Rewrite changes the path of req as the rule says. The query stays, and the result is
// always an absolute path.
func (r *Rule) Rewrite(req *wire.Request) {
	path := req.PathOnly()
	query := req.Path[len(path):]
	switch {
	case r.HasPrefixRewrite:
		path = r.PrefixRewrite + r.rest(path)
	case r.template != nil:
		path = r.template.Replace(path)
	case r.RegexRewrite == nil:
		return
	case r.RegexRewrite.StripPrefix != "":
		rest, ok := strings.CutPrefix(path, r.RegexRewrite.StripPrefix)
		if !ok {
			return
		}
		path = "/" + strings.TrimPrefix(rest, "/")
	default:
		path = r.rewrite.Replace(path)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	req.Path = path + query
}

// rest is what follows the part of path that the rule has matched.
func (r *Rule) rest(path string) string {
	if rest, ok := r.path(path); ok {
		return rest
	}
	end := strings.IndexByte(path, ';') // the table ignores parameters
	if end < 0 {
		return ""
	}
	rest, _ := r.path(path[:end])
	return rest + path[end:]
}
