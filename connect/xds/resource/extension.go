package resource

import (
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// extension reads HTTP filters that users add to what Consul makes of their
// config entries. known is false for a type that it does not know.
func (d *decoder) extension(msg *hcmv3.HttpFilter, typ string) (f mesh.HTTPFilter, kept, known bool) {
	var err error
	switch typ {
	case extAuthzType:
		f.ExtAuthz, err = d.extAuthz(msg.GetTypedConfig())
	case luaType:
		f.Lua, err = d.lua(msg.GetTypedConfig())
	default:
		return f, false, false
	}
	if err != nil {
		return mesh.HTTPFilter{Refusal: reason(err)}, true, true
	}
	return f, true, true
}
