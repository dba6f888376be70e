package stack

import (
	"fmt"
	"slices"

	"github.com/serai-net/serai/connect/filter/grpcstats"
	"github.com/serai-net/serai/connect/filter/headermeta"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// filter is an HTTP filter of a chain; the zero filter does nothing.
type filter struct {
	layer wire.Layer
	// encoder has to do with answers of those in front of it, too; nil if it has not.
	encoder encoder
}

// encoder is what a filter does to a response whose request it may not have seen, as
// an encoder filter of Envoy's does.
type encoder interface {
	Encode(x *wire.Exchange, req *wire.Request, resp *wire.Response) (*wire.Response, error)
}

// encoding is a filter that may be an encoder.
type encoding interface {
	encoder
	// Encodes tells whether its configuration has to do with responses.
	Encodes() bool
	Layer(next wire.Service) wire.Service
}

func filterOf(f encoding) filter {
	if f.Encodes() {
		return filter{layer: f.Layer, encoder: f}
	}
	return filter{layer: f.Layer}
}

// compileFilters makes filters of what is configured, which count in the scope of
// place by Envoy's names.
func compileFilters(all []mesh.HTTPFilter, place *Place) ([]filter, error) {
	filters := make([]filter, 0, len(all))
	for i := range all {
		f, err := place.compileFilter(&all[i])
		if err != nil {
			return nil, fmt.Errorf("http filter %d: %w", i, err)
		}
		filters = append(filters, f)
	}
	return filters, nil
}

// plainFilter makes a filter as it stands.
func (p *Place) plainFilter(f *mesh.HTTPFilter) (filter, error) {
	switch {
	case f.Refusal != "":
		return filter{layer: refuse(f.Refusal)}, nil
	case f.Intention != nil:
		layer, err := authorize(f.Intention, p.scope.Scope("rbac."))
		return filter{layer: layer}, err
	case f.Metadata != nil && len(f.Metadata.Request)+len(f.Metadata.Response) == 0:
		return filter{}, nil
	case f.Metadata != nil:
		tells, err := headermeta.New(f.Metadata)
		if err != nil {
			return filter{}, err
		}
		made := filterOf(tells)
		if tells.Removes() {
			made.layer = pinned(p.router, made.layer)
		}
		return made, nil
	case f.GRPCStats != nil:
		return filter{layer: grpcstats.Layer(f.GRPCStats, p.clusters.Registry(), p.router.clusterOf)}, nil
	case f.JWT != nil:
		layer, err := authenticate(f.JWT, p)
		return filter{layer: layer}, err
	case f.GRPCWeb:
		return filter{layer: GRPCWeb}, nil
	case f.GRPCBridge != nil:
		return filter{layer: GRPCBridge(*f.GRPCBridge)}, nil
	}
	return p.extension(f)
}

// pinned chooses the route of a request before a filter changes its head, as Envoy does,
// which has chosen before any filter.
func pinned(r *router, layer wire.Layer) wire.Layer {
	return func(next wire.Service) wire.Service {
		inner := layer(next)
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			r.pin(x, req)
			return inner.Serve(x, req)
		})
	}
}

// arrange makes layers of what stands in front of filters, and of them. An answer that
// one of them makes, so that the request goes no further, passes the encoders behind
// it before it turns back, the last one first.
func arrange(front wire.Layer, filters []filter) []wire.Layer {
	var behind []encoder
	layers := make([]wire.Layer, 1+len(filters))
	for i, f := range slices.Backward(filters) {
		layers[1+i] = encoded(2+i, f.layer, behind)
		if f.encoder != nil {
			behind = append(behind, f.encoder)
		}
	}
	layers[0] = encoded(1, front, behind)
	return layers
}

// encoded has the answers of a layer pass encoders, unless the request has come
// through to the n-th step, where they will see the response.
func encoded(n int, layer wire.Layer, encoders []encoder) wire.Layer {
	if len(encoders) == 0 || layer == nil {
		return layer
	}
	encoders = slices.Clone(encoders)
	return func(next wire.Service) wire.Service {
		inner := layer(wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.Reached = n
			return next.Serve(x, req)
		}))
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			resp, err := inner.Serve(x, req)
			if x.Reached >= n || x.Gone() {
				return resp, err
			}
			if err != nil {
				resp = wire.Reply(x, err)
			}
			for _, e := range encoders {
				if resp, err = e.Encode(x, req, resp); err != nil {
					return nil, err
				}
			}
			return resp, nil
		})
	}
}

// inOrder is several layers as one.
func inOrder(layers ...wire.Layer) wire.Layer {
	return func(next wire.Service) wire.Service { return wire.Stack(next, layers...) }
}
