package stack

import (
	"fmt"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// compileFilter makes the layer of one filter, which may be another for some routes
// (typed_per_filter_config), or none. It is nil for one that is disabled everywhere.
func (p *Place) compileFilter(f *mesh.HTTPFilter) (wire.Layer, error) {
	overrides := p.overridesOf(f.Name)
	if len(overrides) == 0 {
		if f.Disabled {
			return nil, nil //nolint:nilnil // no layer
		}
		return p.plainFilter(f)
	}
	own, err := p.plainFilter(f)
	if err != nil {
		return nil, err
	}
	variants := map[*mesh.FilterOverride]wire.Layer{}
	for _, o := range overrides {
		switch {
		case o.Refusal != "":
			variants[o] = refuse(o.Refusal)
		case o.Disabled:
			variants[o] = nil
		case o.Filter != nil:
			merged, err := mergeFilter(f, o.Filter)
			if err == nil {
				variants[o], err = p.plainFilter(merged)
			}
			if err != nil {
				return nil, fmt.Errorf("typed_per_filter_config of %s: %w", f.Name, err)
			}
		default:
			variants[o] = own
		}
	}
	if f.Disabled {
		own = nil
	}
	return func(next wire.Service) wire.Service {
		r := &routedFilter{router: p.router, name: f.Name, otherwise: wire.Stack(next, own), variants: map[*mesh.FilterOverride]wire.Service{}}
		for o, layer := range variants {
			r.variants[o] = wire.Stack(next, layer)
		}
		return r
	}, nil
}

// overridesOf is what routes say about the filter of that name.
func (p *Place) overridesOf(name string) []*mesh.FilterOverride {
	if name == "" || p.router == nil {
		return nil
	}
	return p.router.config.OverridesOf(name)
}

// routedFilter is a filter that is not the same for all routes.
type routedFilter struct {
	router    *router
	name      string
	otherwise wire.Service
	variants  map[*mesh.FilterOverride]wire.Service
}

// Serve implements [wire.Service].
func (f *routedFilter) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	if rule, _ := f.router.chosen(x, req); rule != nil {
		if o := rule.Override(f.name); o != nil {
			return f.variants[o].Serve(x, req)
		}
	}
	return f.otherwise.Serve(x, req)
}

// mergeFilter is what takes the place of own: another filter of its kind, with what it
// leaves open as there.
func mergeFilter(own, other *mesh.HTTPFilter) (*mesh.HTTPFilter, error) {
	switch {
	case other.Intention != nil && own.Intention != nil:
		in := *other.Intention
		in.StatPrefix = own.Intention.StatPrefix
		return &mesh.HTTPFilter{Intention: &in}, nil
	case other.Metadata != nil && own.Metadata != nil:
		return other, nil
	case other.Lua != nil && own.Lua != nil:
		script := *own.Lua
		script.File, script.Code = "", other.Lua.Code
		if name := other.Lua.Named; name != "" {
			code, ok := own.Lua.Sources[name]
			if !ok {
				return nil, fmt.Errorf("no source code %q", name)
			}
			script.Code = code
		}
		return &mesh.HTTPFilter{Lua: &script}, nil
	default:
		return nil, fmt.Errorf("it is for a filter of another kind")
	}
}
