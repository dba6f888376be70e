package edge

import (
	"maps"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// fieldEdit is a compiled [HeaderEdit]; nil changes nothing.
type fieldEdit struct {
	set    []wire.Field
	remove []string
}

func newFieldEdit(h *HeaderEdit) *fieldEdit {
	if h == nil || len(h.Set)+len(h.Remove) == 0 {
		return nil
	}
	e := &fieldEdit{}
	for _, name := range slices.Sorted(maps.Keys(h.Set)) {
		e.set = append(e.set, wire.Field{Name: strings.ToLower(name), Value: h.Set[name]})
	}
	for _, name := range h.Remove {
		e.remove = append(e.remove, strings.ToLower(name))
	}
	return e
}

func (e *fieldEdit) apply(h *wire.Header) {
	if e == nil {
		return
	}
	for _, name := range e.remove {
		h.Del(name)
	}
	for i := range e.set {
		h.Set(e.set[i].Name, e.set[i].Value)
	}
}

// transform gives a request the form that the upstream expects, and the
// response the one that the client expects; nil if they have it.
func transform(r *route) wire.Layer {
	request, response := newFieldEdit(r.config.RequestHeaders), newFieldEdit(r.config.ResponseHeaders)
	if request == nil && response == nil && !r.rewrites() {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			req.Path = r.rewrite(req.Path)
			request.apply(&req.Header)
			resp, err := next.Serve(x, req)
			if err == nil {
				response.apply(&resp.Header)
			}
			return resp, err
		})
	}
}
