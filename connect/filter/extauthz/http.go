package extauthz

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// removeHeader is by which a service of HTTP removes fields of the request.
const removeHeader = "x-envoy-auth-headers-to-remove"

// httpService is a compiled [mesh.AuthzHTTP].
type httpService struct {
	*mesh.AuthzHTTP
	upstream, upstreamAppend, client, clientOK, metadata []*match.StringMatcher
}

func compileHTTP(c *mesh.AuthzHTTP) (*httpService, error) {
	h := &httpService{AuthzHTTP: c}
	for _, list := range []struct {
		from []mesh.StringMatch
		into *[]*match.StringMatcher
	}{
		{c.Upstream, &h.upstream},
		{c.UpstreamAppend, &h.upstreamAppend},
		{c.Client, &h.client},
		{c.ClientOK, &h.clientOK},
		{c.Metadata, &h.metadata},
	} {
		var err error
		if *list.into, err = matchers(list.from); err != nil {
			return nil, err
		}
	}
	return h, nil
}

// askHTTP asks a service of HTTP, by a request like the client's.
func (f *filter) askHTTP(ctx context.Context, to wire.Service, x *wire.Exchange, req *wire.Request, body shown) (*verdict, error) {
	r := call.Request{Method: req.Method, Authority: req.Authority, Path: f.http.PathPrefix + req.Path, Body: body.data, Peer: x.Peer}
	for name, value := range req.Header.All() {
		if name != partialBody && (name == "authorization" || anyMatches(f.allowed, name)) && !anyMatches(f.disallowed, name) {
			r.Header.Add(name, value)
		}
	}
	if body.is {
		r.Header.Set(partialBody, fmt.Sprint(body.partial))
	}
	for _, h := range f.http.Add {
		r.Header.Set(h.Name, h.Value)
	}
	resp, err := call.Do(ctx, to, r)
	if err != nil {
		return nil, err
	}
	return f.http.read(resp)
}

// read is an answer as a verdict: 200 is a consent, 5xx none at all.
func (h *httpService) read(resp *call.Response) (*verdict, error) {
	if resp.Status >= http.StatusInternalServerError {
		return nil, fmt.Errorf("the service has answered with status %d", resp.Status)
	}
	v := &verdict{allowed: resp.Status == http.StatusOK, status: resp.Status, metadata: map[string]any{}}
	for list := range resp.Header.Values(removeHeader) {
		for name := range strings.SplitSeq(list, ",") {
			if name = strings.Trim(name, " \t"); name != "" {
				v.remove = append(v.remove, name)
			}
		}
	}
	for name, value := range resp.Header.All() {
		if name == removeHeader || grammar.Own(name) {
			continue
		}
		if anyMatches(h.metadata, name) {
			v.metadata[name] = value
		}
		f := wire.Field{Name: name, Value: value}
		if !v.allowed {
			if len(h.client) == 0 || known(name) || anyMatches(h.client, name) {
				v.denial = append(v.denial, f)
			}
			continue
		}
		if anyMatches(h.upstream, name) {
			v.set = append(v.set, f)
		}
		if anyMatches(h.upstreamAppend, name) {
			v.add = append(v.add, f)
		}
		if anyMatches(h.clientOK, name) {
			v.response = append(v.response, mesh.HeaderValue{Name: name, Value: value, Append: mesh.AppendOrAdd})
		}
	}
	if !v.allowed {
		v.body = resp.Body
	}
	return v, nil
}

// known are fields that a client is always told of a denial.
func known(name string) bool { return name == "www-authenticate" || name == "location" }
