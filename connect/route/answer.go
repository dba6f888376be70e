package route

import (
	"cmp"
	"fmt"
	"net/http"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// AnswersItself tells whether the rule has no upstream.
func (r *Rule) AnswersItself() bool { return r.insecure || r.Direct != nil || r.Redirect != nil }

// Answer returns the response of a rule that has no upstream to req of x, nil
// otherwise.
func (r *Rule) Answer(x *wire.Exchange, req *wire.Request) *wire.Response {
	to := func(location string) func(h *wire.Header) {
		return func(h *wire.Header) { h.Set("location", location) }
	}
	switch {
	case r.insecure:
		return wire.Answer(x, http.StatusMovedPermanently, "", to("https://"+req.Authority+req.Path))
	case r.Direct != nil:
		if s := r.Direct.Status; s == http.StatusCreated || s/100 == 3 { // RFC 9110 section 10.2.2
			return wire.Answer(x, s, r.Direct.Body, to(r.location(req)))
		}
		return wire.Answer(x, r.Direct.Status, r.Direct.Body, nil)
	case r.Redirect != nil:
		return wire.Answer(x, cmp.Or(r.Redirect.Status, http.StatusMovedPermanently), "", to(r.location(req)))
	default:
		return nil
	}
}

// location is where a redirect leads, as Envoy says: the query stays unless the
// new path has one, and a port that was the old scheme's own does not go along
// to another scheme.
func (r *Rule) location(req *wire.Request) string {
	to := r.elsewhere()
	scheme, host := req.Scheme, req.Authority
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
	return scheme + "://" + host + r.pathElsewhere(req)
}

// elsewhere is where the rule's answer leads.
func (r *Rule) elsewhere() *mesh.Redirect {
	if r.Redirect == nil {
		return &mesh.Redirect{}
	}
	return r.Redirect
}

// pathElsewhere is path and query of where a redirect leads. The query of a path that
// is given has precedence, and stays.
func (r *Rule) pathElsewhere(req *wire.Request) string {
	to, path := r.elsewhere(), req.PathOnly()
	query := req.Path[len(path):]
	if to.StripQuery {
		query = ""
	}
	switch {
	case to.Path != "":
		path = to.Path
		if strings.Contains(path, "?") {
			query = ""
		}
	case to.Prefix != "":
		path = to.Prefix + r.rest(path)
	case r.redirect != nil:
		path = r.redirect.Replace(path)
	}
	if !strings.HasPrefix(path, "/") { // "*"
		path = "/"
	}
	return path + query
}
