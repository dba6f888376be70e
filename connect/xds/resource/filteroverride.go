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

// overrides are what is said about filters by their names.
type overrides = map[string]*mesh.FilterOverride

// overrides reads what is said about filters. What is not understood refuses the requests
// that come to such a filter. above is what is said less specifically, the nearest first.
func (d *decoder) overrides(all map[string]*anypb.Any, above []overrides) overrides {
	if len(all) == 0 {
		return nil
	}
	out := overrides{}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		if o := d.overrideOnce(name, all[name]); o != nil {
			out[name] = inContext(o, name, above)
		}
	}
	return out
}

// overrideOnce reads what is said about a filter, once where the same is said of it for
// many routes; nil is what may be ignored.
func (d *decoder) overrideOnce(name string, config *anypb.Any) *mesh.FilterOverride {
	key := said{name, config.GetTypeUrl(), string(config.GetValue())}
	o, known := d.overridden[key]
	if known {
		return o
	}
	o, err := d.override(name, config)
	if err != nil {
		o = &mesh.FilterOverride{Refusal: fmt.Sprintf("typed_per_filter_config of %s: %v", name, err)}
	}
	if d.overridden == nil {
		d.overridden = map[said]*mesh.FilterOverride{}
	}
	d.overridden[key] = o
	return o
}

// said is what is said about a filter, as it came.
type said struct{ name, typ, body string }

// inContext adds to what a service of ext_authz is told what it is told by what is said
// less specifically, which has done the same.
func inContext(o *mesh.FilterOverride, name string, above []overrides) *mesh.FilterOverride {
	if o.Filter == nil || o.Filter.ExtAuthz == nil || o.Disabled {
		return o
	}
	for _, level := range above {
		before := level[name]
		if before == nil || before.Filter == nil || before.Filter.ExtAuthz == nil || len(before.Filter.ExtAuthz.Context) == 0 {
			continue
		}
		authz := *o.Filter.ExtAuthz
		authz.Context = maps.Clone(before.Filter.ExtAuthz.Context)
		maps.Copy(authz.Context, o.Filter.ExtAuthz.Context)
		return &mesh.FilterOverride{Filter: &mesh.HTTPFilter{ExtAuthz: &authz}}
	}
	return o
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
	if err := d.only(msg, "disabled check_settings", ""); err != nil {
		return err
	}
	o.Disabled, o.Filter = msg.GetDisabled(), &mesh.HTTPFilter{ExtAuthz: &mesh.ExtAuthz{}}
	switch {
	case msg.GetCheckSettings() != nil:
		return d.checkSettings(msg.GetCheckSettings(), o.Filter.ExtAuthz)
	case !o.Disabled:
		return errors.New("neither disabled nor check_settings")
	}
	return nil
}

// checkSettings reads what a service is asked where a route says otherwise.
func (d *decoder) checkSettings(msg *authzv3.CheckSettings, a *mesh.ExtAuthz) error {
	err := d.only(msg, "context_extensions disable_request_body_buffering with_request_body", "")
	if err != nil {
		return err
	}
	a.Context, a.NoBody = msg.GetContextExtensions(), msg.GetDisableRequestBodyBuffering()
	if a.Body, err = d.authzBody(msg.GetWithRequestBody()); a.NoBody && a.Body != nil {
		return errors.New("with_request_body beside disable_request_body_buffering") // Envoy does not take it either
	}
	return err
}

func (d *decoder) jwtOverride(config *anypb.Any, o *mesh.FilterOverride) error {
	msg := &jwtv3.PerRouteConfig{}
	if err := unpack(config, msg); err != nil {
		return err
	}
	if err := d.only(msg, "disabled requirement_name", ""); err != nil {
		return err
	}
	o.Disabled, o.Filter = msg.GetDisabled(), &mesh.HTTPFilter{JWT: &mesh.JWT{Requirement: msg.GetRequirementName()}}
	if !o.Disabled && msg.GetRequirementName() == "" {
		return errors.New("neither disabled nor a requirement_name")
	}
	return nil
}
