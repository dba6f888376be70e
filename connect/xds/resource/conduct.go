package resource

import (
	"fmt"

	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// conduct reads what an HTTP connection manager says in header fields.
func conduct(msg *hcmv3.HttpConnectionManager) (mesh.Conduct, error) {
	c := mesh.Conduct{
		ServerName:        msg.GetServerName(),
		NoRequestID:       msg.GetGenerateRequestId() != nil && !msg.GetGenerateRequestId().GetValue(),
		PreserveRequestID: msg.GetPreserveExternalRequestId(),
		ReturnRequestID:   msg.GetAlwaysSetRequestIdInResponse(),
		UseRemote:         msg.GetUseRemoteAddress().GetValue(),
		NoForwardedFor:    msg.GetSkipXffAppend(),
		TrustedHops:       msg.GetXffNumTrustedHops(),
		ForwardedPort:     msg.GetAppendXForwardedPort(),
		Via:               msg.GetVia(),
	}
	switch how := msg.GetServerHeaderTransformation(); how {
	case hcmv3.HttpConnectionManager_OVERWRITE:
	case hcmv3.HttpConnectionManager_APPEND_IF_ABSENT:
		c.Server = mesh.ServerIfAbsent
	case hcmv3.HttpConnectionManager_PASS_THROUGH:
		c.Server = mesh.ServerPassThrough
	default:
		return c, fmt.Errorf("server_header_transformation %d is not supported", how)
	}
	return c, nil
}

// suppresses tells whether the router leaves out Envoy's own fields.
func suppresses(filters []*hcmv3.HttpFilter) bool {
	for _, f := range filters {
		router := &routerv3.Router{}
		if typeOf(f.GetTypedConfig()) == routerType && unpack(f.GetTypedConfig(), router) == nil {
			return router.GetSuppressEnvoyHeaders()
		}
	}
	return false
}
