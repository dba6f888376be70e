package resource

import (
	"fmt"

	bridgev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_http1_bridge/v3"
	statsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/grpc_stats/v3"
	httprbacv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/rbac/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of HTTP filters.
const (
	httpRBACType  = "envoy.extensions.filters.http.rbac.v3.RBAC"
	h2mType       = "envoy.extensions.filters.http.header_to_metadata.v3.Config"
	jwtType       = "envoy.extensions.filters.http.jwt_authn.v3.JwtAuthentication"
	routerType    = "envoy.extensions.filters.http.router.v3.Router"
	grpcWebType   = "envoy.extensions.filters.http.grpc_web.v3.GrpcWeb"
	bridgeType    = "envoy.extensions.filters.http.grpc_http1_bridge.v3.Config"
	grpcStatsType = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
)

// httpFilters reads the filters, which end with the router.
func (d *decoder) httpFilters(msgs []*hcmv3.HttpFilter) ([]mesh.HTTPFilter, error) {
	var out []mesh.HTTPFilter
	for i, msg := range msgs {
		typ := typeOf(msg.GetTypedConfig())
		if typ == "" {
			typ = filterTypeByName(msg.GetName())
		}
		if typ == routerType {
			if i != len(msgs)-1 {
				return nil, fmt.Errorf("http filter %s comes after the router", msgs[i+1].GetName())
			}
			return out, d.router(msg)
		}
		f, kept := d.httpFilter(msg, typ)
		if f.Refusal != "" {
			f = mesh.HTTPFilter{Refusal: "http filter " + msg.GetName() + ": " + f.Refusal}
		}
		if f.Name, f.Disabled = msg.GetName(), msg.GetDisabled(); kept {
			out = append(out, f)
		}
	}
	return nil, fmt.Errorf("no router at the end of the http filters")
}

// filterTypeByName knows filters that old configurations give without a typed
// config.
func filterTypeByName(name string) string {
	switch name {
	case "envoy.filters.http.router", "envoy.router":
		return routerType
	case "envoy.filters.http.grpc_web", "envoy.grpc_web":
		return grpcWebType
	}
	return ""
}

func (d *decoder) router(msg *hcmv3.HttpFilter) error {
	if msg.GetTypedConfig() == nil {
		return nil
	}
	router := &routerv3.Router{}
	if err := unpack(msg.GetTypedConfig(), router); err != nil {
		return err
	}
	return d.only(router, "suppress_envoy_headers",
		"strict_check_headers upstream_log upstream_log_options suppress_grpc_request_failure_code_stats"+
			" respect_expected_rq_timeout start_child_span reject_connect_request_early_data - dynamic_stats")
}

func (d *decoder) httpFilter(msg *hcmv3.HttpFilter, typ string) (f mesh.HTTPFilter, kept bool) {
	if err := d.only(msg, "name typed_config is_optional disabled", ""); err != nil {
		return mesh.HTTPFilter{Refusal: reason(err)}, true
	}
	switch typ {
	case grpcStatsType:
		return d.grpcStats(msg), true
	case grpcWebType:
		return mesh.HTTPFilter{GRPCWeb: true}, true
	case bridgeType:
		return d.grpcBridge(msg), true
	case httpRBACType:
		rbac := &httprbacv3.RBAC{}
		if err := unpack(msg.GetTypedConfig(), rbac); err != nil {
			return mesh.HTTPFilter{Refusal: reason(err)}, true
		}
		return mesh.HTTPFilter{Intention: d.httpRBAC(rbac)}, true
	case jwtType:
		config, err := d.jwt(msg)
		if err != nil {
			return mesh.HTTPFilter{Refusal: reason(err)}, true
		}
		return mesh.HTTPFilter{JWT: config}, true
	case h2mType:
		rules, err := d.headerToMetadata(msg)
		if err != nil {
			return mesh.HTTPFilter{Refusal: reason(err)}, true
		}
		return mesh.HTTPFilter{Metadata: rules}, true
	}
	if f, kept, known := d.extension(msg, typ); known {
		return f, kept
	}
	if msg.GetIsOptional() {
		d.note("optional http filter %s is ignored", msg.GetName())
		return f, false
	}
	if typ == "" {
		return mesh.HTTPFilter{Refusal: "no typed_config"}, true
	}
	return mesh.HTTPFilter{Refusal: fmt.Sprintf("type %s is not supported", typ)}, true
}

func (d *decoder) grpcStats(msg *hcmv3.HttpFilter) mesh.HTTPFilter {
	config := &statsv3.FilterConfig{}
	if err := unpack(msg.GetTypedConfig(), config); err != nil {
		return mesh.HTTPFilter{Refusal: reason(err)}
	}
	// No filter here reads the state that emit_filter_state asks for.
	err := d.only(config, "individual_method_stats_allowlist stats_for_all_methods enable_upstream_stats replace_dots_in_grpc_service_name", "- emit_filter_state")
	if err != nil {
		return mesh.HTTPFilter{Refusal: reason(err)}
	}
	s := &mesh.GRPCStats{
		AllMethods: config.GetStatsForAllMethods().GetValue(), UpstreamTime: config.GetEnableUpstreamStats(),
		PlainServices: config.GetReplaceDotsInGrpcServiceName(),
	}
	for _, service := range config.GetIndividualMethodStatsAllowlist().GetServices() {
		for _, method := range service.GetMethodNames() {
			s.Methods = append(s.Methods, service.GetName()+"/"+method)
		}
	}
	return mesh.HTTPFilter{GRPCStats: s}
}

func (d *decoder) grpcBridge(msg *hcmv3.HttpFilter) mesh.HTTPFilter {
	config := &bridgev3.Config{}
	if err := unpack(msg.GetTypedConfig(), config); err != nil {
		return mesh.HTTPFilter{Refusal: reason(err)}
	}
	if err := d.only(config, "upgrade_protobuf_to_grpc ignore_query_parameters", ""); err != nil {
		return mesh.HTTPFilter{Refusal: reason(err)}
	}
	return mesh.HTTPFilter{GRPCBridge: &mesh.GRPCBridge{
		UpgradeProtobuf: config.GetUpgradeProtobufToGrpc(), IgnoreQuery: config.GetIgnoreQueryParameters(),
	}}
}
