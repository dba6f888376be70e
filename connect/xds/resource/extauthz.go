package resource

import (
	"fmt"
	"strings"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	authzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/ext_authz/v3"
	netauthzv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/ext_authz/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
)

const (
	extAuthzType    = "envoy.extensions.filters.http.ext_authz.v3.ExtAuthz"
	netExtAuthzType = "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz"
	// authzTimeout is Envoy's default.
	authzTimeout = 200 * time.Millisecond
	// authzRetryOn is what Envoy asks a service again for.
	authzRetryOn = "5xx,gateway-error,connect-failure,reset"
	// maxAuthzBody bounds what is kept of a body for the service.
	maxAuthzBody = 16 << 20
)

// extAuthz reads an HTTP ext_authz filter.
func (d *decoder) extAuthz(config *anypb.Any) (*mesh.ExtAuthz, error) {
	msg := &authzv3.ExtAuthz{}
	if err := unpack(config, msg); err != nil {
		return nil, err
	}
	err := d.only(msg, "grpc_service http_service transport_api_version failure_mode_allow failure_mode_allow_header_add"+
		" with_request_body clear_route_cache status_on_error validate_mutations metadata_context_namespaces filter_enabled"+
		" deny_at_disable include_peer_certificate stat_prefix bootstrap_metadata_labels_key allowed_headers disallowed_headers"+
		" include_tls_session enable_dynamic_metadata_ingestion max_denied_response_body_bytes",
		"charge_cluster_response_stats filter_metadata emit_filter_state_stats typed_metadata_context_namespaces"+
			" route_metadata_context_namespaces route_typed_metadata_context_namespaces - emit_client_span")
	if err != nil {
		return nil, err
	}
	a := &mesh.ExtAuthz{
		StatPrefix: msg.GetStatPrefix(), FailOpen: msg.GetFailureModeAllow(), FailOpenHeader: msg.GetFailureModeAllowHeaderAdd(),
		StatusOnError: int(msg.GetStatusOnError().GetCode()), ClearRoute: msg.GetClearRouteCache(),
		Namespaces: msg.GetMetadataContextNamespaces(), PeerCertificate: msg.GetIncludePeerCertificate(),
		TLSSession: msg.GetIncludeTlsSession(), MaxDenied: msg.GetMaxDeniedResponseBodyBytes(), LabelsKey: msg.GetBootstrapMetadataLabelsKey(),
	}
	if on := msg.GetEnableDynamicMetadataIngestion(); on != nil {
		a.IgnoreMetadata = !on.GetValue()
	}
	if err := d.authzVersion(msg.GetTransportApiVersion()); err != nil {
		return nil, err
	}
	if a.Allowed, err = d.stringList(msg.GetAllowedHeaders()); err != nil {
		return nil, err
	}
	if a.Disallowed, err = d.stringList(msg.GetDisallowedHeaders()); err != nil {
		return nil, err
	}
	if a.Enabled, err = d.runtimeFraction(msg.GetFilterEnabled()); err != nil {
		return nil, err
	}
	if deny := msg.GetDenyAtDisable(); deny != nil {
		d.runtimeKey(deny.GetRuntimeKey())
		a.DenyDisabled = deny.GetDefaultValue().GetValue()
	}
	if a.Body, err = d.authzBody(msg.GetWithRequestBody()); err != nil {
		return nil, err
	}
	switch s := msg.GetServices().(type) {
	case *authzv3.ExtAuthz_GrpcService:
		a.Service, err = d.grpcService(s.GrpcService)
	case *authzv3.ExtAuthz_HttpService:
		err = d.httpAuthz(s.HttpService, a)
	default:
		err = fmt.Errorf("neither grpc_service nor http_service")
	}
	return a, err
}

// netExtAuthz reads a network ext_authz filter.
func (d *decoder) netExtAuthz(config *anypb.Any) (*mesh.ExtAuthz, error) {
	msg := &netauthzv3.ExtAuthz{}
	if err := unpack(config, msg); err != nil {
		return nil, err
	}
	err := d.only(msg, "stat_prefix grpc_service failure_mode_allow include_peer_certificate transport_api_version include_tls_session"+
		" bootstrap_metadata_labels_key", "metadata_context_namespaces typed_metadata_context_namespaces - send_tls_alert_on_denial")
	if err != nil {
		return nil, err
	}
	if err := d.authzVersion(msg.GetTransportApiVersion()); err != nil {
		return nil, err
	}
	service, err := d.grpcService(msg.GetGrpcService())
	return &mesh.ExtAuthz{
		StatPrefix: msg.GetStatPrefix(), Service: service, FailOpen: msg.GetFailureModeAllow(),
		PeerCertificate: msg.GetIncludePeerCertificate(), TLSSession: msg.GetIncludeTlsSession(), LabelsKey: msg.GetBootstrapMetadataLabelsKey(),
	}, err
}

// authzVersion: only version 3 of the protocol is spoken, as by Envoy.
func (d *decoder) authzVersion(v corev3.ApiVersion) error {
	if v == corev3.ApiVersion_V2 {
		return fmt.Errorf("transport_api_version V2 is not supported")
	}
	return nil
}

func (d *decoder) authzBody(msg *authzv3.BufferSettings) (*mesh.AuthzBody, error) {
	if msg == nil {
		return nil, nil
	}
	if err := d.only(msg, "max_request_bytes allow_partial_message pack_as_bytes", ""); err != nil {
		return nil, err
	}
	b := &mesh.AuthzBody{Max: msg.GetMaxRequestBytes(), Partial: msg.GetAllowPartialMessage(), Raw: msg.GetPackAsBytes()}
	if b.Max == 0 || b.Max > maxAuthzBody {
		return nil, fmt.Errorf("max_request_bytes %d is not between 1 and %d", b.Max, maxAuthzBody)
	}
	return b, nil
}

// grpcService reads who is called by gRPC.
func (d *decoder) grpcService(msg *corev3.GrpcService) (mesh.AuthzService, error) {
	s := mesh.AuthzService{Timeout: duration(msg.GetTimeout(), authzTimeout)}
	if err := d.only(msg, "envoy_grpc timeout initial_metadata", ""); err != nil {
		return s, err
	}
	envoy := msg.GetEnvoyGrpc()
	if envoy == nil {
		return s, fmt.Errorf("grpc_service without envoy_grpc is not supported")
	}
	if err := d.only(envoy, "cluster_name authority", ""); err != nil {
		return s, err
	}
	s.Cluster, s.Authority = envoy.GetClusterName(), envoy.GetAuthority()
	if s.Cluster == "" {
		return s, fmt.Errorf("envoy_grpc without a cluster_name")
	}
	var err error
	s.Metadata, err = d.plainHeaders(msg.GetInitialMetadata())
	return s, err
}

// plainHeaders reads fields whose values are text.
func (d *decoder) plainHeaders(msgs []*corev3.HeaderValue) ([]mesh.HeaderValue, error) {
	var out []mesh.HeaderValue
	for _, msg := range msgs {
		if err := d.only(msg, "key value", ""); err != nil {
			return nil, err
		}
		plain := strings.ReplaceAll(msg.GetValue(), "%%", "")
		if strings.Contains(plain, "%") {
			return nil, fmt.Errorf("header %q: commands are not supported here", msg.GetKey())
		}
		out = append(out, mesh.HeaderValue{
			Name: strings.ToLower(msg.GetKey()), Value: strings.ReplaceAll(msg.GetValue(), "%%", "%"), Append: mesh.OverwriteOrAdd,
		})
	}
	return out, nil
}

func (d *decoder) httpAuthz(msg *authzv3.HttpService, a *mesh.ExtAuthz) error {
	if err := d.only(msg, "server_uri path_prefix authorization_request authorization_response retry_policy", ""); err != nil {
		return err
	}
	uri := msg.GetServerUri()
	if err := d.only(uri, "uri cluster timeout", ""); err != nil {
		return err
	}
	a.Service = mesh.AuthzService{Cluster: uri.GetCluster(), Timeout: duration(uri.GetTimeout(), authzTimeout)}
	if a.Service.Cluster == "" {
		return fmt.Errorf("server_uri without a cluster")
	}
	h := &mesh.AuthzHTTP{PathPrefix: msg.GetPathPrefix()}
	a.Service.HTTP = h
	if h.PathPrefix != "" && !strings.HasPrefix(h.PathPrefix, "/") {
		return fmt.Errorf("path_prefix %q does not begin with a slash", h.PathPrefix)
	}
	req := msg.GetAuthorizationRequest()
	if err := d.only(req, "allowed_headers headers_to_add", ""); err != nil {
		return err
	}
	var err error
	if list := req.GetAllowedHeaders(); list != nil && a.Allowed == nil {
		if a.Allowed, err = d.stringList(list); err != nil {
			return err
		}
	}
	if h.Add, err = d.writtenHeaders(req.GetHeadersToAdd()); err != nil {
		return err
	}
	if err := d.authzRetries(msg.GetRetryPolicy(), h); err != nil {
		return fmt.Errorf("retry_policy: %w", err)
	}
	resp := msg.GetAuthorizationResponse()
	if err := d.only(resp, "allowed_upstream_headers allowed_upstream_headers_to_append allowed_client_headers"+
		" allowed_client_headers_on_success dynamic_metadata_from_headers", ""); err != nil {
		return err
	}
	for _, list := range []struct {
		msg  *matcherv3.ListStringMatcher
		into *[]mesh.StringMatch
	}{
		{resp.GetAllowedUpstreamHeaders(), &h.Upstream},
		{resp.GetAllowedUpstreamHeadersToAppend(), &h.UpstreamAppend},
		{resp.GetAllowedClientHeaders(), &h.Client},
		{resp.GetAllowedClientHeadersOnSuccess(), &h.ClientOK},
		{resp.GetDynamicMetadataFromHeaders(), &h.Metadata},
	} {
		if *list.into, err = d.stringList(list.msg); err != nil {
			return err
		}
	}
	return nil
}

// writtenHeaders reads fields whose values may have command operators.
func (d *decoder) writtenHeaders(msgs []*corev3.HeaderValue) ([]mesh.HeaderValue, error) {
	var options []*corev3.HeaderValueOption
	for _, msg := range msgs {
		if err := d.only(msg, "key value", ""); err != nil {
			return nil, err
		}
		options = append(options, &corev3.HeaderValueOption{Header: msg, AppendAction: corev3.HeaderValueOption_OVERWRITE_IF_EXISTS_OR_ADD})
	}
	return headerValues(options)
}

// authzRetries reads when a service is asked again.
func (d *decoder) authzRetries(msg *corev3.RetryPolicy, h *mesh.AuthzHTTP) error {
	if msg == nil {
		return nil
	}
	if err := d.only(msg, "retry_back_off num_retries retry_on", ""); err != nil {
		return err
	}
	switch on := msg.GetRetryOn(); on {
	case "", "5xx", authzRetryOn:
	default:
		return fmt.Errorf("retry_on %q is not supported", on)
	}
	h.Retries = 1
	if n := msg.GetNumRetries(); n != nil {
		h.Retries = int(min(n.GetValue(), maxKeyRetries))
	}
	h.PauseBase, h.PauseMax = 25*time.Millisecond, 250*time.Millisecond
	if b := msg.GetRetryBackOff(); b != nil {
		h.PauseBase = duration(b.GetBaseInterval(), 0)
		if h.PauseMax = duration(b.GetMaxInterval(), 10*h.PauseBase); h.PauseBase < time.Millisecond || h.PauseMax < h.PauseBase {
			return fmt.Errorf("pauses from %s to %s", h.PauseBase, h.PauseMax)
		}
	}
	return nil
}

// stringList reads a list of string matchers; nil is none.
func (d *decoder) stringList(msg *matcherv3.ListStringMatcher) ([]mesh.StringMatch, error) {
	var out []mesh.StringMatch
	for _, pattern := range msg.GetPatterns() {
		m, err := stringMatch(pattern)
		if err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// runtimeKey: there is no runtime that could say otherwise than the default.
func (d *decoder) runtimeKey(key string) {
	if key != "" {
		d.note("runtime keys are ignored, their default values count")
	}
}

// runtimeFraction is the default value of a fraction; nil if there is none.
func (d *decoder) runtimeFraction(msg *corev3.RuntimeFractionalPercent) (*mesh.Fraction, error) {
	if msg == nil {
		return nil, nil
	}
	d.runtimeKey(msg.GetRuntimeKey())
	f := &mesh.Fraction{Numerator: msg.GetDefaultValue().GetNumerator()}
	switch den := msg.GetDefaultValue().GetDenominator(); den {
	case typev3.FractionalPercent_HUNDRED:
		f.Denominator = 100
	case typev3.FractionalPercent_TEN_THOUSAND:
		f.Denominator = 10_000
	case typev3.FractionalPercent_MILLION:
		f.Denominator = 1_000_000
	default:
		return nil, fmt.Errorf("a fraction's denominator %d is not supported", den)
	}
	return f, nil
}
