package resource

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	matcherv3 "github.com/envoyproxy/go-control-plane/envoy/type/matcher/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// Types of transport sockets and certificate validators.
const (
	downstreamTLSType = "envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext"
	upstreamTLSType   = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext"
	rawBufferType     = "envoy.extensions.transport_sockets.raw_buffer.v3.RawBuffer"
	spiffeType        = "envoy.extensions.transport_sockets.tls.v3.SPIFFECertValidatorConfig"
)

// downstreamTLS returns nil for a plain connection.
func (d *decoder) downstreamTLS(socket *corev3.TransportSocket) (*mesh.DownstreamTLS, error) {
	if socket == nil || typeOf(socket.GetTypedConfig()) == rawBufferType {
		return nil, nil //nolint:nilnil // nil is the plain connection
	}
	if typ := typeOf(socket.GetTypedConfig()); typ != downstreamTLSType {
		return nil, fmt.Errorf("transport socket %s of type %q is not supported", socket.GetName(), typ)
	}
	msg := &tlsv3.DownstreamTlsContext{}
	if err := unpack(socket.GetTypedConfig(), msg); err != nil {
		return nil, err
	}
	err := d.only(msg, "common_tls_context require_client_certificate",
		"session_ticket_keys session_ticket_keys_sds_secret_config disable_stateless_session_resumption disable_stateful_session_resumption"+
			" session_timeout ocsp_staple_policy prefer_client_ciphers - full_scan_certs_on_sni_mismatch")
	if err != nil {
		return nil, err
	}
	common, err := d.commonTLS(msg.GetCommonTlsContext())
	if err != nil {
		return nil, err
	}
	t := &mesh.DownstreamTLS{
		Leaves: common.leaves, Roots: common.roots, TrustDomains: common.trustDomains,
		RequireClient: msg.GetRequireClientCertificate().GetValue(), Params: common.params,
	}
	if len(t.Leaves) == 0 {
		return nil, errors.New("tls: no certificate")
	}
	if t.RequireClient && t.Roots.PEM == "" && t.TrustDomains == nil {
		return nil, errors.New("tls: require_client_certificate without a trusted_ca")
	}
	if len(common.uris)+len(common.dns) > 0 {
		return nil, errors.New("tls: names of client certificates are not supported")
	}
	return t, nil
}

// upstreamTLS returns nil for a plain connection.
func (d *decoder) upstreamTLS(socket *corev3.TransportSocket) (*mesh.UpstreamTLS, error) {
	if socket == nil || typeOf(socket.GetTypedConfig()) == rawBufferType {
		return nil, nil //nolint:nilnil // nil is the plain connection
	}
	if typ := typeOf(socket.GetTypedConfig()); typ != upstreamTLSType {
		return nil, fmt.Errorf("transport socket %s of type %q is not supported", socket.GetName(), typ)
	}
	msg := &tlsv3.UpstreamTlsContext{}
	if err := unpack(socket.GetTypedConfig(), msg); err != nil {
		return nil, err
	}
	err := d.only(msg, "common_tls_context sni", "allow_renegotiation max_session_keys enforce_rsa_key_usage")
	if err != nil {
		return nil, err
	}
	common, err := d.commonTLS(msg.GetCommonTlsContext())
	if err != nil {
		return nil, err
	}
	t := &mesh.UpstreamTLS{
		Roots: common.roots, TrustDomains: common.trustDomains, ServerName: msg.GetSni(),
		URIs: common.uris, DNSNames: common.dns, Params: common.params,
	}
	switch {
	case len(common.leaves) > 1:
		return nil, errors.New("tls: several certificates of our own")
	case len(common.leaves) == 1:
		t.Leaf = common.leaves[0]
	}
	switch {
	case t.Roots.PEM == "" && t.TrustDomains == nil:
		return nil, errors.New("tls: no trusted_ca, the peer could not be verified")
	case len(t.URIs) > 0 && len(t.DNSNames) > 0:
		return nil, errors.New("tls: names of several kinds are not supported")
	case len(t.URIs)+len(t.DNSNames) == 0 && len(common.leaves) == 0:
		// A service outside of the mesh, and no name was asked for. With a leaf of
		// ours it is a mesh service, which no peer is then: see mesh.UpstreamTLS.
		t.AnyPeer = true
	}
	return t, nil
}

// commonTLS is what both directions share.
type commonTLS struct {
	leaves       []mesh.Leaf
	roots        mesh.Roots
	trustDomains map[string]mesh.Roots
	uris, dns    []string
	params       mesh.TLSParams
}

func (d *decoder) commonTLS(msg *tlsv3.CommonTlsContext) (*commonTLS, error) {
	t := &commonTLS{}
	if msg == nil {
		return t, nil
	}
	err := d.only(msg, "tls_params tls_certificates tls_certificate_sds_secret_configs validation_context"+
		" validation_context_sds_secret_config combined_validation_context alpn_protocols", "")
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if t.leaves, err = d.certificates(msg); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	validation, err := d.validationContext(msg)
	if err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if err := d.validation(validation, t); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if err := d.tlsParams(msg.GetTlsParams(), &t.params); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	t.params.ALPN = msg.GetAlpnProtocols()
	return t, nil
}

func (d *decoder) validation(msg *tlsv3.CertificateValidationContext, t *commonTLS) error {
	if msg == nil {
		return nil
	}
	err := d.only(msg, "trusted_ca match_typed_subject_alt_names custom_validator_config",
		"max_verify_depth - only_verify_leaf_cert_crl suppress_client_ca_list watched_directory")
	if err != nil {
		return err
	}
	if ca := msg.GetTrustedCa(); ca != nil {
		if t.roots.PEM, err = d.text(ca); err != nil {
			return fmt.Errorf("trusted_ca: %w", err)
		}
	}
	for _, name := range msg.GetMatchTypedSubjectAltNames() {
		exact, ok := name.GetMatcher().GetMatchPattern().(*matcherv3.StringMatcher_Exact)
		if !ok || name.GetMatcher().GetIgnoreCase() || exact.Exact == "" {
			return errors.New("subject alternative name: only exact matches are supported")
		}
		switch name.GetSanType() {
		case tlsv3.SubjectAltNameMatcher_URI:
			t.uris = append(t.uris, exact.Exact)
		case tlsv3.SubjectAltNameMatcher_DNS:
			t.dns = append(t.dns, exact.Exact)
		default:
			return fmt.Errorf("subject alternative name of type %s is not supported", name.GetSanType())
		}
	}
	return d.validator(msg.GetCustomValidatorConfig(), t)
}

func (d *decoder) validator(msg *corev3.TypedExtensionConfig, t *commonTLS) error {
	if msg == nil {
		return nil
	}
	if typ := typeOf(msg.GetTypedConfig()); typ != spiffeType {
		return fmt.Errorf("certificate validator of type %q is not supported", typ)
	}
	config := &tlsv3.SPIFFECertValidatorConfig{}
	if err := unpack(msg.GetTypedConfig(), config); err != nil {
		return err
	}
	if err := d.only(config, "trust_domains", ""); err != nil {
		return err
	}
	t.trustDomains = map[string]mesh.Roots{}
	for _, domain := range config.GetTrustDomains() {
		pem, err := d.text(domain.GetTrustBundle())
		if err != nil {
			return fmt.Errorf("trust domain %s: %w", domain.GetName(), err)
		}
		t.trustDomains[domain.GetName()] = mesh.Roots{PEM: pem}
	}
	return nil
}

func (d *decoder) tlsParams(msg *tlsv3.TlsParameters, p *mesh.TLSParams) error {
	if msg == nil {
		return nil
	}
	err := d.only(msg, "tls_minimum_protocol_version tls_maximum_protocol_version cipher_suites",
		"ecdh_curves signature_algorithms")
	if err != nil {
		return err
	}
	p.MinVersion = tlsVersion(msg.GetTlsMinimumProtocolVersion())
	p.MaxVersion = tlsVersion(msg.GetTlsMaximumProtocolVersion())
	p.CipherSuites = msg.GetCipherSuites()
	return nil
}

// tlsVersion is the version as it stands on the wire; 0 for "auto".
func tlsVersion(v tlsv3.TlsParameters_TlsProtocol) uint16 {
	if v <= tlsv3.TlsParameters_TLS_AUTO || v > tlsv3.TlsParameters_TLSv1_3 {
		return 0
	}
	return 0x0300 + uint16(v) // TLSv1_0 is 1 and 0x0301
}
