package extauthz

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// Place is where a filter stands.
type Place struct {
	// Find finds the cluster of the service.
	Find call.Find
	// Stats is where its counters are, up to and with "ext_authz." and its prefix.
	Stats *stats.Scope
	// Principal is our own name, as the certificate of the listener tells it.
	Principal string
	// Labels are those of the node, for the destination.
	Labels map[string]string
	// Pin chooses the route of a request before it is changed, and tells whether there
	// is one; may be nil.
	Pin func(x *wire.Exchange, req *wire.Request) (routed bool)
	// Upstream is where the cluster that a request would go to counts, as Stats is; nil
	// for no such cluster. It may be nil.
	Upstream func(x *wire.Exchange, req *wire.Request) *stats.Scope
}

// filter is a compiled [mesh.ExtAuthz].
type filter struct {
	*mesh.ExtAuthz
	place               Place
	allowed, disallowed []*match.StringMatcher
	http                *httpService // nil for gRPC

	ok, denied, failed, disabled, failOpen, invalid, ignored *stats.Counter
}

// New compiles c to a layer. It fails for a pattern that is no regular expression.
func New(c *mesh.ExtAuthz, place Place) (wire.Layer, error) {
	f, err := compile(c, place)
	if err != nil {
		return nil, err
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			return f.serve(x, req, next)
		})
	}, nil
}

func compile(c *mesh.ExtAuthz, place Place) (*filter, error) {
	f := &filter{ExtAuthz: c, place: place}
	var err error
	if f.allowed, err = matchers(c.Allowed); err != nil {
		return nil, err
	}
	if f.disallowed, err = matchers(c.Disallowed); err != nil {
		return nil, err
	}
	if c.Service.HTTP != nil {
		if f.http, err = compileHTTP(c.Service.HTTP); err != nil {
			return nil, err
		}
	}
	s := place.Stats
	f.ok, f.denied, f.failed = s.Counter("ok"), s.Counter("denied"), s.Counter("error")
	f.disabled, f.failOpen = s.Counter("disabled"), s.Counter("failure_mode_allowed")
	f.invalid, f.ignored = s.Counter("invalid"), s.Counter("ignored_dynamic_metadata")
	return f, nil
}

func matchers(all []mesh.StringMatch) ([]*match.StringMatcher, error) {
	var out []*match.StringMatcher
	for _, m := range all {
		compiled, err := match.String(m)
		if err != nil {
			return nil, err
		}
		out = append(out, compiled)
	}
	return out, nil
}

func anyMatches(all []*match.StringMatcher, s string) bool {
	for _, m := range all {
		if m.Match(s) {
			return true
		}
	}
	return false
}

func (f *filter) serve(x *wire.Exchange, req *wire.Request, next wire.Service) (*wire.Response, error) {
	if f.Enabled != nil && !f.Enabled.Includes(rand.Uint64()) {
		f.disabled.Add(1)
		if f.DenyDisabled {
			return reply(x, detailsError, f.statusOnError(), nil, nil)
		}
		return next.Serve(x, req)
	}
	if pin := f.place.Pin; pin != nil && !pin(x, req) { // nobody is asked of what leads nowhere
		return next.Serve(x, req)
	}
	shown, settle, err := f.show(req)
	defer settle()
	if err != nil {
		return nil, err
	}
	upstream := f.upstream(x, req)
	begun := time.Now()
	v, err := f.ask(x, req, shown)
	if aborted := x.Aborted(); aborted != nil {
		return nil, wire.Aborted(aborted)
	}
	if err != nil {
		f.failed.Add(1)
		upstream.Counter("error").Add(1)
		if !f.FailOpen {
			x.Err = fmt.Errorf("ext_authz: %w", err) // what goes on has not failed
			return reply(x, detailsError, f.statusOnError(), nil, nil)
		}
		f.failOpen.Add(1)
		upstream.Counter("failure_mode_allowed").Add(1)
		if f.FailOpenHeader {
			req.Header.Add("x-envoy-auth-failure-mode-allowed", "true")
		}
		return next.Serve(x, req)
	}
	f.note(x, v, time.Since(begun))
	if !v.allowed {
		f.denied.Add(1)
		upstream.Counter("denied").Add(1)
		if err := checkAll(v.denial); err != nil {
			return nil, f.bad(err)
		}
		body := v.body
		if f.MaxDenied > 0 && uint64(len(body)) > uint64(f.MaxDenied) {
			body = body[:f.MaxDenied]
		}
		return reply(x, detailsDenied, v.status, body, v.denial)
	}
	if f.ClearRoute && v.changes() {
		x.Pinned = nil
	}
	if err := v.apply(req); err != nil {
		return nil, f.bad(err)
	}
	f.ok.Add(1)
	upstream.Counter("ok").Add(1)
	resp, err := next.Serve(x, req)
	return v.answer(x, resp, err)
}

// upstream is where the cluster of a request counts. The route is not fixed by that.
func (f *filter) upstream(x *wire.Exchange, req *wire.Request) *stats.Scope {
	if f.place.Upstream == nil {
		return nil
	}
	pinned := x.Pinned
	defer func() { x.Pinned = pinned }()
	return f.place.Upstream(x, req)
}

// bad is the answer to what a service must not ask for.
func (f *filter) bad(err error) error {
	f.invalid.Add(1)
	return &wire.Fault{
		Status: http.StatusInternalServerError, Flag: wire.FlagDenied, Details: "ext_authz_invalid", Err: fmt.Errorf("ext_authz: %w", err),
	}
}

func (f *filter) statusOnError() int {
	if f.StatusOnError == 0 {
		return http.StatusForbidden
	}
	return f.StatusOnError
}

// shown is what a service sees of a request's body.
type shown struct {
	// data is nil if there is none to see.
	data    []byte
	is      bool
	partial bool
}

// show reads as much of the body as the service is to see. settle is called when
// the request has been served.
func (f *filter) show(req *wire.Request) (s shown, settle func(), err error) {
	settle = func() {}
	if f.Body == nil || req.Body == nil || req.Raw() {
		return s, settle, nil
	}
	limit := int(f.Body.Max)
	if !f.Body.Partial && req.ContentLength > int64(limit) {
		return s, settle, tooLarge()
	}
	replay, owner := wire.NewReplay(req.Body, max(limit+1, wire.DefaultReplayLimit))
	if owner {
		settle = replay.Settle
	}
	body := replay.Try()
	if body == nil {
		return s, settle, tooLarge()
	}
	s.is = true
	want := limit
	if !f.Body.Partial {
		want++ // one more tells that there are too many
	}
	s.data, err = readUpTo(body, want)
	switch {
	case err != nil:
		return s, settle, err
	case len(s.data) > limit:
		return s, settle, tooLarge()
	case f.Body.Partial && len(s.data) == limit:
		s.partial = req.ContentLength < 0 || req.ContentLength > int64(limit)
	}
	if req.Body = replay.Try(); req.Body == nil {
		return s, settle, tooLarge()
	}
	req.ExpectContinue = false // the client has been told to go on
	return s, settle, nil
}

func tooLarge() error {
	return &wire.Fault{Status: http.StatusRequestEntityTooLarge, Text: "Payload Too Large", Details: "request_payload_too_large"}
}

// readUpTo reads to the end, or n bytes.
func readUpTo(body wire.Body, n int) ([]byte, error) {
	data := make([]byte, 0, min(n, 4<<10))
	for len(data) < n {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		got, err := body.Read(data[len(data):min(cap(data), n)])
		data = data[:len(data)+got]
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	return data, nil
}

// ask asks the service, as long as the client waits.
func (f *filter) ask(x *wire.Exchange, req *wire.Request, body shown) (*verdict, error) {
	ctx, cancel := context.WithTimeout(context.Background(), f.Service.Timeout)
	defer cancel()
	if err := x.OnAbort(canceler(cancel)); err != nil {
		return nil, err
	}
	defer x.OnAbort(nil) //nolint:errcheck // taken back, whatever happened meanwhile
	x.Watch()
	to := f.place.Find(f.Service.Cluster)
	if f.http != nil {
		return f.askHTTP(ctx, to, f.likeness(x, req, body))
	}
	return f.askGRPC(ctx, to, f.question(x, req, body))
}

type canceler context.CancelFunc

func (c canceler) Cancel() { c() }

// metadataNamespace is where what a service says of a request is put.
const metadataNamespace = "envoy.filters.http.ext_authz"

// note keeps the metadata of a verdict.
func (f *filter) note(x *wire.Exchange, v *verdict, took time.Duration) {
	switch {
	case len(v.metadata) == 0:
		return
	case f.IgnoreMetadata:
		f.ignored.Add(1)
		return
	case v.allowed:
		v.metadata["ext_authz_duration"] = float64(took.Milliseconds())
	}
	for key, value := range v.metadata {
		x.Metadata.Set(metadataNamespace, key, value)
	}
}
