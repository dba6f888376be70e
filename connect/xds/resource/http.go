package resource

import (
	"fmt"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// streamIdle is Envoy's default for a stream without a byte.
const streamIdle = 5 * time.Minute

// maxHeaderKB is the largest max_request_headers_kb that Envoy takes.
const maxHeaderKB = 8192

// http reads an HTTP connection manager. An error refuses the chain; a filter
// that is not understood refuses requests only (with a 503).
func (d *decoder) http(msg *hcmv3.HttpConnectionManager) (*mesh.HTTP, error) {
	err := d.only(msg, "codec_type stat_prefix rds route_config http_filters http2_protocol_options common_http_protocol_options"+
		" http_protocol_options max_request_headers_kb stream_idle_timeout request_timeout request_headers_timeout normalize_path merge_slashes path_with_escaped_slashes_action"+
		" strip_any_host_port strip_matching_host_port forward_client_cert_details set_current_client_cert_details upgrade_configs tracing"+
		" server_name server_header_transformation use_remote_address xff_num_trusted_hops skip_xff_append via generate_request_id"+
		" preserve_external_request_id always_set_request_id_in_response append_x_forwarded_port access_log local_reply_config"+
		" original_ip_detection_extensions strip_trailing_host_dot scheme_header_transformation add_user_agent"+
		" access_log_options flush_access_log_on_new_request",
		"access_log_flush_interval"+
			" stream_flush_timeout request_id_extension http1_safe_max_connection_duration"+
			" stream_error_on_invalid_http_message proxy_status_config"+
			" internal_address_config"+ // nobody is internal here, see stack.dropAsked
			" drain_timeout drain_timeout_jitter delayed_close_timeout represent_ipv4_remote_address_as_ipv4_mapped_ipv6"+
			" - proxy_100_continue append_local_overload record_route_resolution_stats")
	if err != nil {
		return nil, err
	}
	h := &mesh.HTTP{
		StatPrefix:        msg.GetStatPrefix(),
		HTTP2:             msg.GetHttp2ProtocolOptions() != nil || msg.GetCodecType() == hcmv3.HttpConnectionManager_HTTP2,
		NormalizePath:     msg.GetNormalizePath().GetValue(),
		MergeSlashes:      msg.GetMergeSlashes(),
		StripPort:         msg.GetStripAnyHostPort(),
		StripLocalPort:    msg.GetStripMatchingHostPort(),
		StripDot:          msg.GetStripTrailingHostDot(),
		StreamIdleTimeout: duration(msg.GetStreamIdleTimeout(), streamIdle),
	}
	if kb := msg.GetMaxRequestHeadersKb(); kb != nil {
		h.Codec.MaxHeaderBytes = int(min(kb.GetValue(), maxHeaderKB)) * 1024
	}
	h.Tracing = d.tracing(msg.GetTracing())
	if msg.GetCodecType() == hcmv3.HttpConnectionManager_HTTP3 {
		return nil, fmt.Errorf("HTTP/3 is not supported")
	}
	if err := d.routeSource(msg, h); err != nil {
		return nil, err
	}
	if err := d.paths(msg, h); err != nil {
		return nil, err
	}
	if err := d.codec(msg, h); err != nil {
		return nil, err
	}
	if err := d.clientCert(msg, h); err != nil {
		return nil, err
	}
	h.AccessLogs = d.accessLogs(msg.GetAccessLog())
	if h.LogMoments, err = d.logMoments(msg); err != nil {
		return nil, err
	}
	if h.LocalReply, err = d.localReply(msg.GetLocalReplyConfig()); err != nil {
		return nil, err
	}
	if h.Conduct, err = d.conduct(msg); err != nil {
		return nil, err
	}
	if h.Upgrades, err = d.upgrades(msg.GetUpgradeConfigs()); err != nil {
		return nil, err
	}
	h.Codec.Connect = slices.Contains(h.Upgrades, upgradeConnect)
	h.Filters, err = d.httpFilters(msg.GetHttpFilters())
	h.Conduct.Suppress = suppresses(msg.GetHttpFilters())
	return h, err
}

// logMoments reads when a line is written of a request besides its end.
func (d *decoder) logMoments(msg *hcmv3.HttpConnectionManager) (mesh.LogMoments, error) {
	o := msg.GetAccessLogOptions()
	if o == nil {
		return mesh.LogMoments{Start: msg.GetFlushAccessLogOnNewRequest()}, nil
	}
	err := d.only(o, "flush_access_log_on_new_request flush_log_on_tunnel_successfully_established", "access_log_flush_interval")
	return mesh.LogMoments{Start: o.GetFlushAccessLogOnNewRequest(), Tunnel: o.GetFlushLogOnTunnelSuccessfullyEstablished()}, err
}

func (d *decoder) routeSource(msg *hcmv3.HttpConnectionManager, h *mesh.HTTP) error {
	switch source := msg.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_RouteConfig:
		h.Route = d.route(source.RouteConfig)
	case *hcmv3.HttpConnectionManager_Rds:
		if source.Rds.GetConfigSource().GetAds() == nil {
			return fmt.Errorf("routes from elsewhere than the stream of the listener are not supported")
		}
		if h.RouteName = source.Rds.GetRouteConfigName(); h.RouteName == "" {
			return fmt.Errorf("rds without a route_config_name")
		}
		h.RouteWait = wait(source.Rds.GetConfigSource())
	default:
		return fmt.Errorf("no route_config")
	}
	return nil
}

// paths reads how a path is rewritten before anything is decided on it.
func (d *decoder) paths(msg *hcmv3.HttpConnectionManager, h *mesh.HTTP) error {
	switch action := msg.GetPathWithEscapedSlashesAction(); action {
	case hcmv3.HttpConnectionManager_IMPLEMENTATION_SPECIFIC_DEFAULT, hcmv3.HttpConnectionManager_KEEP_UNCHANGED:
		h.EscapedSlashes = mesh.KeepEscapedSlashes
	case hcmv3.HttpConnectionManager_REJECT_REQUEST:
		h.EscapedSlashes = mesh.RejectEscapedSlashes
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_REDIRECT:
		h.EscapedSlashes = mesh.UnescapeAndRedirect
	case hcmv3.HttpConnectionManager_UNESCAPE_AND_FORWARD:
		h.EscapedSlashes = mesh.UnescapeAndForward
	default:
		return fmt.Errorf("path_with_escaped_slashes_action %d is not supported", action)
	}
	switch action := msg.GetCommonHttpProtocolOptions().GetHeadersWithUnderscoresAction(); action {
	case corev3.HttpProtocolOptions_ALLOW:
	case corev3.HttpProtocolOptions_REJECT_REQUEST:
		h.RejectUnderscores = true
	case corev3.HttpProtocolOptions_DROP_HEADER:
		h.DropUnderscores = true
	default:
		return fmt.Errorf("headers_with_underscores_action %d is not supported", action)
	}
	return nil
}

func (d *decoder) clientCert(msg *hcmv3.HttpConnectionManager, h *mesh.HTTP) error {
	switch mode := msg.GetForwardClientCertDetails(); mode {
	case hcmv3.HttpConnectionManager_SANITIZE:
		h.ClientCert.Mode = mesh.ForwardSanitize
	case hcmv3.HttpConnectionManager_FORWARD_ONLY:
		h.ClientCert.Mode = mesh.ForwardOnly
	case hcmv3.HttpConnectionManager_APPEND_FORWARD:
		h.ClientCert.Mode = mesh.ForwardAppend
	case hcmv3.HttpConnectionManager_SANITIZE_SET:
		h.ClientCert.Mode = mesh.ForwardSanitizeSet
	case hcmv3.HttpConnectionManager_ALWAYS_FORWARD_ONLY:
		h.ClientCert.Mode = mesh.ForwardAlways
	default:
		return fmt.Errorf("forward_client_cert_details %d is not supported", mode)
	}
	set := msg.GetSetCurrentClientCertDetails()
	if err := d.only(set, "subject cert chain dns uri", "issuer"); err != nil {
		return err
	}
	h.ClientCert.Subject = set.GetSubject().GetValue()
	h.ClientCert.Cert, h.ClientCert.Chain = set.GetCert(), set.GetChain()
	h.ClientCert.DNS, h.ClientCert.URI = set.GetDns(), set.GetUri()
	return nil
}
