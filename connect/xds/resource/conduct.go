package resource

import (
	"errors"
	"fmt"
	"net/http"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	customv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/custom_header/v3"
	xffv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/http/original_ip_detection/xff/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// conduct reads what an HTTP connection manager says in header fields.
func (d *decoder) conduct(msg *hcmv3.HttpConnectionManager) (mesh.Conduct, error) {
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
		UserAgent:         msg.GetAddUserAgent().GetValue(),
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
	for _, extension := range msg.GetOriginalIpDetectionExtensions() {
		detection, err := d.detection(extension)
		if err != nil {
			return c, fmt.Errorf("original_ip_detection_extensions: %w", err)
		}
		if c.UseRemote || c.TrustedHops > 0 {
			return c, errors.New("original_ip_detection_extensions beside use_remote_address or xff_num_trusted_hops")
		}
		c.Detect = append(c.Detect, detection)
	}
	return c, d.scheme(msg.GetSchemeHeaderTransformation(), &c)
}

// scheme reads what the scheme of requests is made.
func (d *decoder) scheme(msg *corev3.SchemeHeaderTransformation, c *mesh.Conduct) error {
	if err := d.only(msg, "scheme_to_overwrite match_upstream", ""); err != nil {
		return err
	}
	c.Scheme, c.MatchScheme = msg.GetSchemeToOverwrite(), msg.GetMatchUpstream()
	if c.Scheme != "" && c.Scheme != "http" && c.Scheme != "https" {
		return fmt.Errorf("scheme_to_overwrite %q is neither http nor https", c.Scheme)
	}
	return nil
}

const (
	xffType          = "envoy.extensions.http.original_ip_detection.xff.v3.XffConfig"
	customHeaderType = "envoy.extensions.http.original_ip_detection.custom_header.v3.CustomHeaderConfig"
)

// detection reads a way to find out who the client is.
func (d *decoder) detection(msg *corev3.TypedExtensionConfig) (out mesh.Detection, err error) {
	switch typ := typeOf(msg.GetTypedConfig()); typ {
	case xffType:
		config := &xffv3.XffConfig{}
		if err := unpack(msg.GetTypedConfig(), config); err != nil {
			return out, err
		}
		if err := d.only(config, "xff_num_trusted_hops xff_trusted_cidrs skip_xff_append", ""); err != nil {
			return out, err
		}
		out.Hops = config.GetXffNumTrustedHops()
		out.Append = config.GetSkipXffAppend() != nil && !config.GetSkipXffAppend().GetValue()
		if cidrs := config.GetXffTrustedCidrs(); cidrs != nil {
			if out.Trusted, err = prefixes(cidrs.GetCidrs()); err != nil {
				return out, err
			}
			if out.Hops > 0 || len(out.Trusted) == 0 {
				return out, errors.New("xff_trusted_cidrs without any, or beside xff_num_trusted_hops")
			}
		}
	case customHeaderType:
		config := &customv3.CustomHeaderConfig{}
		if err := unpack(msg.GetTypedConfig(), config); err != nil {
			return out, err
		}
		// Nobody is trusted more because of an address.
		if err := d.only(config, "header_name reject_with_status", "- allow_extension_to_set_address_as_trusted"); err != nil {
			return out, err
		}
		if out.Header = strings.ToLower(config.GetHeaderName()); out.Header == "" {
			return out, errors.New("custom_header without a header_name")
		}
		if status := config.GetRejectWithStatus(); status != nil {
			if out.Reject = int(status.GetCode()); out.Reject < 400 || out.Reject > 511 {
				out.Reject = http.StatusForbidden
			}
		}
	default:
		return out, fmt.Errorf("type %q is not supported", typ)
	}
	return out, nil
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
