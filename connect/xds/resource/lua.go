package resource

import (
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	luav3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/lua/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
)

const luaType = "envoy.extensions.filters.http.lua.v3.Lua"

// lua reads a filter whose script is compiled later.
func (d *decoder) lua(config *anypb.Any) (*mesh.Lua, error) {
	msg := &luav3.Lua{}
	if err := unpack(config, msg); err != nil {
		return nil, err
	}
	if err := d.only(msg, "inline_code default_source_code source_codes stat_prefix clear_route_cache", "- shared_vm_id"); err != nil {
		return nil, err
	}
	s := &mesh.Lua{StatPrefix: msg.GetStatPrefix()}
	if clear := msg.GetClearRouteCache(); clear != nil {
		s.KeepRoute = !clear.GetValue()
	}
	for name, source := range msg.GetSourceCodes() {
		code, err := inline(source)
		if err != nil {
			return nil, fmt.Errorf("source_codes %s: %w", name, err)
		}
		if s.Sources == nil {
			s.Sources = map[string]string{}
		}
		s.Sources[name] = code
	}
	switch source := msg.GetDefaultSourceCode(); {
	case source != nil && msg.GetInlineCode() != "":
		return nil, fmt.Errorf("both inline_code and default_source_code")
	case source == nil:
		s.Code = msg.GetInlineCode()
	default:
		if err := d.only(source, "filename inline_string inline_bytes", ""); err != nil {
			return nil, err
		}
		switch from := source.GetSpecifier().(type) {
		case *corev3.DataSource_Filename:
			s.File = from.Filename
		case *corev3.DataSource_InlineString:
			s.Code = from.InlineString
		case *corev3.DataSource_InlineBytes:
			s.Code = string(from.InlineBytes)
		}
	}
	return s, nil
}
