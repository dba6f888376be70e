package stack

import (
	"errors"
	"fmt"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// compileFilter makes a filter, which may be another for some routes
// (typed_per_filter_config), or none.
func (p *Place) compileFilter(f *mesh.HTTPFilter) (filter, error) {
	overrides := p.overridesOf(f.Name)
	if len(overrides) == 0 {
		if f.Disabled {
			return filter{}, nil
		}
		return p.plainFilter(f)
	}
	own, err := p.plainFilter(f)
	if err != nil {
		return filter{}, err
	}
	variants := map[*mesh.FilterOverride]filter{}
	for _, o := range overrides {
		if _, done := variants[o]; done {
			continue
		}
		as, err := overridden(f, o)
		switch {
		case err != nil:
		case as == f:
			variants[o] = own
		case as != nil:
			variants[o], err = p.plainFilter(as)
		default:
			variants[o] = filter{}
		}
		if err != nil { // a mistake of one route is no matter of the others
			variants[o] = filter{layer: refuse(fmt.Sprintf("typed_per_filter_config of %s: %v", f.Name, err))}
		}
	}
	if f.Disabled {
		own = filter{}
	}
	return routed(p.router, f.Name, own, variants), nil
}

// overridden is what takes the place of f where a route says o of it: f itself, another,
// or nil for nothing. Its error is why requests are refused there.
func overridden(f *mesh.HTTPFilter, o *mesh.FilterOverride) (*mesh.HTTPFilter, error) {
	switch {
	case o.Refusal != "":
		return nil, errors.New(o.Refusal)
	case o.Disabled && o.Filter != nil && f.Refusal != "":
		return f, nil // whether it is of its kind is not known
	case o.Disabled && o.Filter != nil && !sameKind(f, o.Filter):
		return nil, errOtherKind
	case o.Disabled:
		return nil, nil //nolint:nilnil // there is nothing
	case o.Filter != nil:
		return mergeFilter(f, o.Filter)
	default:
		return f, nil
	}
}

// routed is a filter that is not the same for all routes.
func routed(router *router, name string, own filter, variants map[*mesh.FilterOverride]filter) filter {
	made := filter{layer: func(next wire.Service) wire.Service {
		r := &routedFilter{router: router, name: name, otherwise: wire.Stack(next, own.layer), variants: map[*mesh.FilterOverride]wire.Service{}}
		for o, variant := range variants {
			r.variants[o] = wire.Stack(next, variant.layer)
		}
		return r
	}}
	encodes := own.encoder != nil
	for _, variant := range variants {
		encodes = encodes || variant.encoder != nil
	}
	if encodes {
		made.encoder = &routedEncoder{router, name, own, variants}
	}
	return made
}

// routedEncoder has to do with answers in front of a filter as the route says.
type routedEncoder struct {
	router    *router
	name      string
	otherwise filter
	variants  map[*mesh.FilterOverride]filter
}

// Encode implements encoder.
func (f *routedEncoder) Encode(x *wire.Exchange, req *wire.Request, resp *wire.Response) (*wire.Response, error) {
	chosen := f.otherwise
	if o := f.router.override(x, req, f.name); o != nil {
		chosen = f.variants[o]
	}
	if chosen.encoder == nil {
		return resp, nil
	}
	return chosen.encoder.Encode(x, req, resp)
}

// override is what is said about the filter of that name where a request goes, nil for
// nothing. What filters make of the head chooses no other route from then on, and no
// other target where targets have a say.
func (r *router) override(x *wire.Exchange, req *wire.Request, name string) *mesh.FilterOverride {
	r.pin(x, req)
	rule, target := r.chosen(x, req)
	if rule == nil {
		return nil
	}
	if rule.PerTarget() {
		target = r.aim(x, req)
	}
	return rule.Override(name, target)
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
	if o := f.router.override(x, req, f.name); o != nil {
		return f.variants[o].Serve(x, req)
	}
	return f.otherwise.Serve(x, req)
}

// errOtherKind: what is meant for one filter must not switch off another.
var errOtherKind = errors.New("it is for a filter of another kind")

// sameKind tells whether both are filters of one kind, of those that a route may say of
// that they do nothing.
func sameKind(a, b *mesh.HTTPFilter) bool {
	return a.Intention != nil && b.Intention != nil || a.Lua != nil && b.Lua != nil ||
		a.ExtAuthz != nil && b.ExtAuthz != nil || a.JWT != nil && b.JWT != nil
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
	case other.ExtAuthz != nil && own.ExtAuthz != nil:
		as := *own.ExtAuthz
		as.Context = other.ExtAuthz.Context
		switch {
		case other.ExtAuthz.NoBody:
			as.Body = nil
		case other.ExtAuthz.Body != nil:
			body := *other.ExtAuthz.Body
			body.Raw = own.ExtAuthz.Body != nil && own.ExtAuthz.Body.Raw // Envoy asks the filter itself for that
			as.Body = &body
		}
		return &mesh.HTTPFilter{ExtAuthz: &as}, nil
	case other.JWT != nil && own.JWT != nil:
		as := *own.JWT
		as.Requirement = other.JWT.Requirement
		return &mesh.HTTPFilter{JWT: &as}, nil
	default:
		return nil, errOtherKind
	}
}
