package route

import (
	"fmt"
	"net/http"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Answer returns the response of a rule that has no upstream, nil otherwise.
func (r *Rule) Answer(req *wire.Request) *wire.Response {
	switch {
	case r.Direct != nil:
		return wire.Text(r.Direct.Status, r.Direct.Body)
	case r.Redirect != nil:
		status := r.Redirect.Status
		if status == 0 {
			status = http.StatusMovedPermanently
		}
		resp := wire.Text(status, "")
		resp.Header.Set("location", location(r.Redirect, req))
		return resp
	default:
		return nil
	}
}

// location is where a redirect leads, as Envoy says: the query stays unless the
// new path has one, and a port that was the old scheme's own does not go along
// to another scheme.
func location(to *mesh.Redirect, req *wire.Request) string {
	scheme, host, path := req.Scheme, req.Authority, req.Path
	if to.Host != "" {
		host = to.Host
	}
	if to.Scheme != "" && to.Scheme != scheme {
		if to.Host == "" && (scheme == "http" && strings.HasSuffix(host, ":80") || scheme == "https" && strings.HasSuffix(host, ":443")) {
			host = withoutPort(host)
		}
		scheme = to.Scheme
	}
	if to.Port != 0 {
		host = fmt.Sprintf("%s:%d", withoutPort(host), to.Port)
	}
	if to.Path != "" {
		path = to.Path
		if query := req.Path[len(req.PathOnly()):]; !strings.Contains(path, "?") {
			path += query
		}
	}
	if !strings.HasPrefix(path, "/") { // "*"
		path = "/"
	}
	return scheme + "://" + host + path
}
