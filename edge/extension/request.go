package extension

import (
	"strconv"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/plugins"
)

// view is the request as a plugin sees it. Its strings die with the exchange;
// the host has read them when a call returns. The error is a fault of the body.
func (u *Use) view(x *wire.Exchange, req *wire.Request) (*plugins.Request, error) {
	body, err := hold(x, req, u.MaxBody)
	if err != nil {
		return nil, err
	}
	r := &plugins.Request{
		ID: x.ID, Method: req.Method, Scheme: req.Scheme, Authority: req.Authority, Path: req.Path,
		Header: fields(&req.Header), Body: body,
		Consumer: x.Consumer, API: x.API, Route: x.Route, Client: x.Peer.Host(),
	}
	// Codecs keep for themselves how a body is framed, and a plugin that is given
	// none wants to know that there is one.
	switch {
	case isTunnel(req):
	case req.ContentLength > 0:
		r.Header = append(r.Header, plugins.Field{Name: "content-length", Value: strconv.FormatInt(req.ContentLength, 10)})
	case req.ContentLength == wire.UnknownLength:
		r.Header = append(r.Header, plugins.Field{Name: "transfer-encoding", Value: "chunked"})
	}
	return r, nil
}

func fields(h *wire.Header) []plugins.Field {
	all := make([]plugins.Field, 0, h.Len()+1)
	for name, value := range h.All() {
		all = append(all, plugins.Field{Name: name, Value: value})
	}
	return all
}
