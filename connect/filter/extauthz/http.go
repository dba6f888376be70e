package extauthz

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/format"
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
	// texts are those of Add, nil for a plain value.
	texts []*format.Text
}

func compileHTTP(c *mesh.AuthzHTTP) (*httpService, error) {
	h := &httpService{AuthzHTTP: c, texts: make([]*format.Text, len(c.Add))}
	for i := range c.Add {
		if c.Add[i].Text == "" {
			continue
		}
		var err error
		if h.texts[i], err = format.CompileHeader(c.Add[i].Text); err != nil {
			return nil, fmt.Errorf("header %s: %w", c.Add[i].Name, err)
		}
	}
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

// askHTTP asks a service of HTTP.
func (f *filter) askHTTP(ctx context.Context, to wire.Service, r call.Request) (*verdict, error) {
	pause := f.http.PauseBase
	for n := 0; ; n++ {
		again := r
		again.Header = r.Header.Clone()
		v, err := f.http.once(ctx, to, again)
		if err == nil || n >= f.http.Retries || !waits(ctx, rand.N(max(pause, 1))) {
			return v, err
		}
		pause = min(2*pause, f.http.PauseMax)
	}
}

// likeness is the client's request as a service of HTTP is shown it.
func (f *filter) likeness(x *wire.Exchange, req *wire.Request, body shown) call.Request {
	r := call.Request{Method: req.Method, Authority: req.Authority, Path: f.http.PathPrefix + req.Path, Body: body.data, Peer: x.Peer}
	for name, value := range req.Header.All() {
		if name != partialBody && (name == "authorization" || anyMatches(f.allowed, name)) && !anyMatches(f.disallowed, name) {
			r.Header.Add(name, value)
		}
	}
	if body.is {
		r.Header.Set(partialBody, fmt.Sprint(body.partial))
	}
	for i, h := range f.http.Add {
		value := h.Value
		if text := f.http.texts[i]; text != nil {
			value = string(text.AppendField(nil, &format.Input{Exchange: x}))
		}
		if value != "" {
			r.Header.Set(h.Name, value)
		}
	}
	return r
}

// waits waits, and tells whether there is still time.
func waits(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}

// once asks once.
func (h *httpService) once(ctx context.Context, to wire.Service, r call.Request) (*verdict, error) {
	resp, err := call.Do(ctx, to, r)
	if err != nil {
		return nil, err
	}
	return h.read(resp)
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
