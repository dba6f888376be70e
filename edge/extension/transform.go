package extension

import (
	"fmt"
	"net/http"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/plugins"
)

// Transform makes the layer of one use of a plugin that changes requests and the
// heads of responses. Responses that Serai itself makes further down are not
// changed.
func Transform(u *Use, p plugins.Transformer) wire.Layer {
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			r, err := u.view(x, req)
			if err != nil {
				return nil, err
			}
			if err := u.transformRequest(x, req, r, p); err != nil {
				return nil, err
			}
			resp, err := next.Serve(x, req)
			if err != nil {
				return nil, err
			}
			r.Body = nil // as plugins.Transformer has it
			if err := u.transformResponse(x, resp, r, p); err != nil {
				if resp.Body != nil {
					_ = resp.Body.Close() // what it has is not sent
				}
				return nil, err
			}
			return resp, nil
		})
	}
}

func (u *Use) transformRequest(x *wire.Exchange, req *wire.Request, r *plugins.Request, p plugins.Transformer) error {
	c, err := p.TransformRequest(x.Context(), r)
	if err != nil {
		return u.ended(x, err)
	}
	if c == nil {
		return nil
	}
	if c.Path != "" {
		path, err := u.Normalize(c.Path)
		if err != nil {
			return u.ended(x, fmt.Errorf("%w: the path %q: %w", errAnswer, c.Path, err))
		}
		req.Path = path
	}
	change(&req.Header, &c.HeaderChange)
	return nil
}

func (u *Use) transformResponse(x *wire.Exchange, resp *wire.Response, r *plugins.Request, p plugins.Transformer) error {
	c, err := p.TransformResponse(x.Context(), r, &plugins.Response{Status: resp.Status, Header: fields(&resp.Header)})
	if err != nil {
		return u.ended(x, err)
	}
	if c == nil {
		return nil
	}
	if c.Status != 0 && c.Status != resp.Status {
		if resp.Status == http.StatusSwitchingProtocols {
			return u.ended(x, fmt.Errorf("%w: status %d in the place of a switch of protocols", errAnswer, c.Status))
		}
		if resp.Status == http.StatusNoContent || resp.Status == http.StatusNotModified {
			resp.ContentLength = 0 // 304 has the length of what it does not send
		}
		resp.Status = c.Status
	}
	change(&resp.Header, &c.HeaderChange)
	return nil
}
