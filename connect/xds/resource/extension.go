package resource

import (
	"fmt"

	httpwasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/wasm/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	wasmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/wasm/v3"

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
	case lambdaType:
		f.Lambda, err = d.lambda(msg.GetTypedConfig())
	case healthCheckType:
		f.HealthCheck, err = d.healthCheck(msg.GetTypedConfig())
	case wasmType:
		if msg.GetIsOptional() {
			return f, false, false // as one that nobody knows
		}
		config := &httpwasmv3.Wasm{}
		if err = unpack(msg.GetTypedConfig(), config); err == nil {
			err = d.wasm(msg.GetName(), config.GetConfig())
			f.Skipped = msg.GetName()
		}
	default:
		return f, false, false
	}
	if err != nil {
		return mesh.HTTPFilter{Refusal: reason(err)}, true, true
	}
	return f, true, true
}

const (
	wasmType    = "envoy.extensions.filters.http.wasm.v3.Wasm"
	netWasmType = "envoy.extensions.filters.network.wasm.v3.Wasm"
)

// wasm decides what becomes of a filter that we have no machine for: it is skipped
// where its configuration says that traffic may pass without it, else refused.
func (d *decoder) wasm(name string, config *wasmv3.PluginConfig) error {
	open := config.GetFailOpen()
	switch policy := config.GetFailurePolicy(); policy {
	case wasmv3.FailurePolicy_UNSPECIFIED:
	case wasmv3.FailurePolicy_FAIL_OPEN:
		open = true
	default:
		open = false
	}
	if !open {
		return fmt.Errorf("wasm is not supported, and it may not be skipped")
	}
	d.note("filter %s is skipped: wasm is not supported, and it fails open", name)
	return nil
}
