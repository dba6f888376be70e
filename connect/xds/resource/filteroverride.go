package resource

import (
	"errors"
	"fmt"
	"maps"
	"slices"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	jwtv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/jwt_authn/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of what routes say about filters.
const (
	filterConfigType = "envoy.config.route.v3.FilterConfig"
	rbacRouteType    = "envoy.extensions.filters.http.rbac.v3.RBACPerRoute"
	luaRouteType     = "envoy.extensions.filters.http.lua.v3.LuaPerRoute"
	authzRouteType   = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthzPerRoute"
	jwtRouteType     = "envoy.extensions.filters.http.jwt_authn.v3.PerRouteConfig"
)

// overrides reads what is said about filters by their names. What is not understood
// refuses the requests that come to such a filter.
func (d *decoder) overrides(all map[string]*anypb.Any) map[string]*mesh.FilterOverride {
	if len(all) == 0 {
		return nil
	}
	out := map[string]*mesh.FilterOverride{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		o, err := d.override(name, all[name])
		if err != nil {
			o = &mesh.FilterOverride{Refusal: fmt.Sprintf("typed_per_filter_config of %s: %v", name, err)}
		}
		if o != nil {
			out[name] = o
		}
	}
	return out
}

// override reads one; nil is one that may be ignored.
func (d *decoder) override(name string, config *anypb.Any) (*mesh.FilterOverride, error) {
	optional := false
	if typeOf(config) == filterConfigType {
		wrapper := &routev3.FilterConfig{}
		if err := unpack(config, wrapper); err != nil {
			return nil, err
		}
		if err := d.only(wrapper, "config is_optional disabled", ""); err != nil {
			return nil, err
		}
		if wrapper.GetDisabled() {
			return &mesh.FilterOverride{Disabled: true}, nil
		}
		if typeOf(wrapper.GetConfig()) == "" {
			return &mesh.FilterOverride{}, nil
		}
		config, optional = wrapper.GetConfig(), wrapper.GetIsOptional()
	}
	o := &mesh.FilterOverride{}
	var err error
	switch typ := typeOf(config); typ {
	case rbacRouteType:
		err = d.rbacOverride(config, o)
	case luaRouteType:
		err = d.luaOverride(config, o)
	case authzRouteType:
		err = d.authzOverride(config, o)
	case jwtRouteType:
		err = d.jwtOverride(config, o)
	case h2mType:
		var rules *mesh.HeaderToMetadata
		rules, err = d.headerToMetadata(&hcmv3.HttpFilter{ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: config}})
		o.Filter = &mesh.HTTPFilter{Metadata: rules}
	default:
		if optional {
			d.note("typed_per_filter_config of the filter %s is ignored, since it is optional", name)
			return nil, nil //nolint:nilnil // nil is ignored
		}
		err = fmt.Errorf("type %q is not supported", typ)
	}
	return o, err
}

// rbacOverride: without rules nothing is enforced.
func (d *decoder) rbacOverride(config *anypb.Any, o *mesh.FilterOverride) error {
	msg := &httprbacv3.RBACPerRoute{}
	if err := unpack(config, msg); err != nil {
		return err
	}
	if err := d.only(msg, "rbac", ""); err != nil {
		return err
	}
	rbac := msg.GetRbac()
	if rbac.GetRules() == nil && rbac.GetShadowRules() == nil && rbac.GetMatcher() == nil && rbac.GetShadowMatcher() == nil {
		o.Disabled, o.Filter = true, &mesh.HTTPFilter{Intention: &mesh.Intention{}}
		return nil
	}
	in := d.httpRBAC(rbac)
	if in.Refusal != "" {
		return errors.New(in.Refusal)
	}
	o.Filter = &mesh.HTTPFilter{Intention: in}
	return nil
}

func (d *decoder) luaOverride(config *anypb.Any, o *mesh.FilterOverride) error {
	msg := &luav3.LuaPerRoute{}
	if err := unpack(config, msg); err != nil {
		return err
	}
	if err := d.only(msg, "disabled name source_code", ""); err != nil {
		return err
	}
	switch s := msg.GetOverride().(type) {
	case *luav3.LuaPerRoute_Disabled:
		o.Disabled, o.Filter = s.Disabled, &mesh.HTTPFilter{Lua: &mesh.Lua{}}
		if !s.Disabled {
			return errors.New("disabled: false")
		}
	case *luav3.LuaPerRoute_Name:
		o.Filter = &mesh.HTTPFilter{Lua: &mesh.Lua{Named: s.Name}}
	case *luav3.LuaPerRoute_SourceCode:
		code, err := inline(s.SourceCode)
		if err != nil {
			return fmt.Errorf("source_code: %w", err)
		}
		o.Filter = &mesh.HTTPFilter{Lua: &mesh.Lua{Code: code}}
	default:
		return errors.New("nothing is said")
	}
	return nil
}

func (d *decoder) authzOverride(config *anypb.Any, o *mesh.FilterOverride) error {
	msg := &authzv3.ExtAuthzPerRoute{}
	if err := unpack(config, msg); err != nil {
		return err
	}
	if err := d.only(msg, "disabled", ""); err != nil {
		return err
	}
	o.Disabled, o.Filter = msg.GetDisabled(), &mesh.HTTPFilter{ExtAuthz: &mesh.ExtAuthz{}}
	if !o.Disabled {
		return errors.New("disabled: false")
	}
	return nil
}

func (d *decoder) jwtOverride(config *anypb.Any, o *mesh.FilterOverride) error {
	msg := &jwtv3.PerRouteConfig{}
	if err := unpack(config, msg); err != nil {
		return err
	}
	if err := d.only(msg, "disabled", ""); err != nil {
		return err
	}
	o.Disabled, o.Filter = msg.GetDisabled(), &mesh.HTTPFilter{JWT: &mesh.JWT{}}
	if !o.Disabled {
		return errors.New("disabled: false")
	}
	return nil
}
