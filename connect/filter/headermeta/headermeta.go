// Package headermeta is the header_to_metadata filter: it makes metadata of
// header fields and cookies, which intentions, access logs and traces read.
package headermeta

import (
	"fmt"
	"slices"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// maxValue bounds what is taken of a header, in bytes, as Envoy does: metadata
// that is too long is not set.
const maxValue = 8 * 1024

// Filter is a compiled [mesh.HeaderToMetadata]. It is safe for concurrent use.
type Filter struct{ requests, responses []rule }

// New compiles f. It fails for a rule that looks for nothing, and for an expression
// that is none.
func New(f *mesh.HeaderToMetadata) (*Filter, error) {
	requests, err := compile(f.Request)
	if err != nil {
		return nil, err
	}
	responses, err := compile(f.Response)
	return &Filter{requests, responses}, err
}

// Layer is the filter in a chain.
func (f *Filter) Layer(next wire.Service) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		for i := range f.requests {
			f.requests[i].request(&x.Metadata, req)
		}
		resp, err := next.Serve(x, req)
		if len(f.responses) == 0 || x.Gone() {
			return resp, err
		}
		if err != nil {
			resp = wire.Reply(x, err)
		}
		return f.Encode(x, req, resp)
	})
}

// Removes tells whether fields of requests are removed.
func (f *Filter) Removes() bool {
	return slices.ContainsFunc(f.requests, func(r rule) bool { return r.remove && r.header != "" })
}

// Encodes tells whether responses matter to the filter.
func (f *Filter) Encodes() bool { return len(f.responses) > 0 }

// Encode makes metadata of a response.
func (f *Filter) Encode(x *wire.Exchange, _ *wire.Request, resp *wire.Response) (*wire.Response, error) {
	for i := range f.responses {
		f.responses[i].response(&x.Metadata, &resp.Header)
	}
	return resp, nil
}

// rule is a compiled [mesh.MetadataRule].
type rule struct {
	header, cookie   string
	remove           bool
	present, missing *value
}

func compile(in []mesh.MetadataRule) ([]rule, error) {
	out := make([]rule, 0, len(in))
	for i := range in {
		r := rule{header: in[i].Header, cookie: in[i].Cookie, remove: in[i].Remove}
		if (r.header == "") == (r.cookie == "") {
			return nil, fmt.Errorf("metadata rule %d looks for no header and no cookie, or for both", i)
		}
		var err error
		if r.present, err = compileValue(in[i].Present); err != nil {
			return nil, err
		}
		if r.missing, err = compileValue(in[i].Missing); err != nil {
			return nil, err
		}
		out = append(out, r)
	}
	share(out)
	return out, nil
}

func (r *rule) request(into *wire.Metadata, req *wire.Request) {
	if r.cookie != "" {
		text := match.Cookie(&req.Header, r.cookie)
		r.apply(into, text, text != "")
		return
	}
	text, ok := match.Value(req, r.header)
	r.apply(into, text, ok)
	if r.remove {
		req.Header.Del(r.header)
	}
}

func (r *rule) response(into *wire.Metadata, header *wire.Header) {
	if r.cookie != "" {
		text := match.Cookie(header, r.cookie)
		r.apply(into, text, text != "")
		return
	}
	r.apply(into, header.Joined(r.header), header.Has(r.header))
	if r.remove {
		header.Del(r.header)
	}
}

func (r *rule) apply(into *wire.Metadata, text string, ok bool) {
	v := r.present
	if !ok {
		v = r.missing
	}
	if v == nil {
		return
	}
	if read, ok := v.of(text); ok {
		into.Set(v.namespace, v.key, read)
	}
}
