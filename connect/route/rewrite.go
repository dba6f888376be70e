package route

import (
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// Rewrite changes path and authority of req as the rule says. The query stays,
// and the result is always an absolute path.
func (r *Rule) Rewrite(req *wire.Request) {
	if r.HostRewrite != "" {
		req.Authority = r.HostRewrite
	}
	path := req.PathOnly()
	query := req.Path[len(path):]
	switch {
	case r.HasPrefixRewrite:
		rest, _ := r.path(path)
		path = r.PrefixRewrite + rest
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
