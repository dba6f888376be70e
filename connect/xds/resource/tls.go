package resource

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
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
	err := d.only(msg, "common_tls_context require_client_certificate require_sni session_ticket_keys disable_stateless_session_resumption session_timeout ocsp_staple_policy",
		"session_ticket_keys_sds_secret_config prefer_client_ciphers - disable_stateful_session_resumption full_scan_certs_on_sni_mismatch")
	if err != nil {
		return nil, err
	}
	if msg.GetRequireSni().GetValue() { // Envoy does not do it either
		return nil, errors.New("tls: require_sni is not supported")
	}
	common, err := d.commonTLS(msg.GetCommonTlsContext())
	if err != nil {
		return nil, err
	}
	t := &mesh.DownstreamTLS{
		Leaves: common.leaves, Roots: common.roots, TrustDomains: common.trustDomains,
		RequireClient: msg.GetRequireClientCertificate().GetValue(), Params: common.params, Pins: common.pins, Names: common.allNames(),
		Chains: common.chains,
	}
	if len(t.Leaves) == 0 {
		return nil, errors.New("tls: no certificate")
	}
	if t.Resume, err = d.resumption(msg); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	if err := stapled(msg.GetOcspStaplePolicy(), t.Leaves); err != nil {
		return nil, fmt.Errorf("tls: %w", err)
	}
	trusts := t.Roots.PEM != "" || t.TrustDomains != nil
	switch {
	case t.RequireClient && !trusts && t.Pins.IsZero():
		return nil, errors.New("tls: require_client_certificate without a trusted_ca")
	case len(t.Names) > 0 && !trusts:
		return nil, errNamesOnly
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
	err := d.only(msg, "common_tls_context sni auto_host_sni auto_sni_san_validation", "allow_renegotiation max_session_keys enforce_rsa_key_usage")
	if err != nil {
		return nil, err
	}
	common, err := d.commonTLS(msg.GetCommonTlsContext())
	if err != nil {
		return nil, err
	}
	t := &mesh.UpstreamTLS{
		Roots: common.roots, TrustDomains: common.trustDomains, ServerName: msg.GetSni(), HostSNI: msg.GetAutoHostSni(),
		URIs: common.uris, DNSNames: common.dns, Names: common.names, Pins: common.pins, Chains: common.chains, Params: common.params,
	}
	switch {
	case len(common.leaves) > 1:
		return nil, errors.New("tls: several certificates of our own")
	case len(common.leaves) == 1:
		t.Leaf = common.leaves[0]
	}
	named := len(t.URIs)+len(t.DNSNames)+len(t.Names) > 0
	switch trusts := t.Roots.PEM != "" || t.TrustDomains != nil; {
	case msg.GetAutoSniSanValidation():
		// Names that are set as well do not count then, as with Envoy.
		t.URIs, t.DNSNames, t.Names, t.VerifySNI, t.AnyPeer = nil, nil, nil, true, true
		t.SystemRoots = !trusts && t.Pins.IsZero()
	case !trusts && named:
		return nil, errNamesOnly
	case !trusts && t.Pins.IsZero() && ofMesh(t.Leaf):
		return nil, errors.New("tls: no trusted_ca, the peer could not be verified")
	case !trusts && t.Pins.IsZero():
		// Envoy believes anybody then. We do not: the peer must be who its name
		// says, signed by an authority that the machine trusts. Nobody is called by a
		// pattern, which Consul gives for AWS Lambda: the endpoint's own name counts.
		t.SystemRoots, t.VerifySNI, t.AnyPeer = true, true, true
		t.HostSNI = t.HostSNI || t.ServerName == "" || strings.HasPrefix(t.ServerName, "*.")
		d.note("UpstreamTlsContext without a trusted_ca: the machine's are taken, and the name is checked")
	case !named:
		// No name was asked for. Where we show a leaf of the mesh it is one of its
		// services, which no peer is then: see mesh.UpstreamTLS.
		t.AnyPeer = !ofMesh(t.Leaf)
	}
	return t, nil
}

// errNamesOnly: Envoy does not take it either.
var errNamesOnly = errors.New("tls: names of a peer without a trusted_ca, so that it could not be verified")

// ofMesh tells whether leaf is one of a mesh. One that cannot be read counts as such.
func ofMesh(leaf mesh.Leaf) bool {
	if leaf == (mesh.Leaf{}) {
		return false
	}
	block, _ := pem.Decode([]byte(leaf.CertificatePEM))
	if block == nil {
		return true
	}
	certificate, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return true
	}
	_, err = spiffe.FromCertificate(certificate)
	return err == nil
}

// commonTLS is what both directions share.
type commonTLS struct {
	leaves       []mesh.Leaf
	roots        mesh.Roots
	trustDomains map[string]mesh.Roots
	// uris and dns match exactly, dns by the rules for host names; names are others.
	uris, dns []string
	names     []mesh.PeerName
	pins      mesh.Pins
	chains    mesh.Chains
	params    mesh.TLSParams
}

// allNames are all names of one form, for clients.
func (t *commonTLS) allNames() []mesh.PeerName {
	all := t.names
	for _, uri := range t.uris {
		all = append(all, mesh.PeerName{Kind: mesh.NameURI, Value: mesh.StringMatch{Kind: mesh.MatchExact, Exact: uri}})
	}
	for _, name := range t.dns {
		all = append(all, mesh.PeerName{Kind: mesh.NameDNS, Value: mesh.StringMatch{Kind: mesh.MatchExact, Exact: name}})
	}
	return all
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
	err := d.only(msg, "trusted_ca match_typed_subject_alt_names match_subject_alt_names custom_validator_config verify_certificate_hash verify_certificate_spki"+
		" ca_certificate_provider_instance system_root_certs trust_chain_verification max_verify_depth crl only_verify_leaf_cert_crl",
		"- suppress_client_ca_list watched_directory")
	if err != nil {
		return err
	}
	if verify := msg.GetTrustChainVerification(); verify != tlsv3.CertificateValidationContext_VERIFY_TRUST_CHAIN {
		return fmt.Errorf("trust_chain_verification %s is not supported", verify)
	}
	if ca := msg.GetTrustedCa(); ca != nil {
		if t.roots.PEM, err = d.text(ca); err != nil {
			return fmt.Errorf("trusted_ca: %w", err)
		}
	}
	if provider := msg.GetCaCertificateProviderInstance(); provider != nil {
		// There is no plugin in this process, nor in Envoy; no trusted_ca is left.
		d.note("ca_certificate_provider_instance %s is ignored", provider.GetInstanceName())
	}
	if err := d.chains(msg, t); err != nil {
		return err
	}
	if err := pins(msg, &t.pins); err != nil {
		return err
	}
	for _, name := range msg.GetMatchTypedSubjectAltNames() {
		if err := d.peerName(name, t); err != nil {
			return fmt.Errorf("subject alternative name: %w", err)
		}
	}
	for _, matcher := range msg.GetMatchSubjectAltNames() { // deprecated: of any kind
		for _, kind := range []tlsv3.SubjectAltNameMatcher_SanType{
			tlsv3.SubjectAltNameMatcher_URI, tlsv3.SubjectAltNameMatcher_DNS, tlsv3.SubjectAltNameMatcher_EMAIL, tlsv3.SubjectAltNameMatcher_IP_ADDRESS,
		} {
			if err := d.peerName(&tlsv3.SubjectAltNameMatcher{SanType: kind, Matcher: matcher}, t); err != nil {
				return fmt.Errorf("subject alternative name: %w", err)
			}
		}
	}
	return d.validator(msg.GetCustomValidatorConfig(), t)
}

func (d *decoder) peerName(msg *tlsv3.SubjectAltNameMatcher, t *commonTLS) error {
	if err := d.only(msg, "san_type matcher", ""); err != nil {
		return err
	}
	value, err := stringMatch(msg.GetMatcher())
	if err != nil {
		return err
	}
	exact := value.Kind == mesh.MatchExact && !value.IgnoreCase
	if exact && value.Exact == "" {
		return errors.New("an empty one")
	}
	name := mesh.PeerName{Value: value}
	switch msg.GetSanType() {
	case tlsv3.SubjectAltNameMatcher_URI:
		if exact {
			t.uris = append(t.uris, value.Exact)
			return nil
		}
		name.Kind = mesh.NameURI
	case tlsv3.SubjectAltNameMatcher_DNS:
		if value.Kind == mesh.MatchExact {
			t.dns = append(t.dns, value.Exact)
			return nil
		}
		name.Kind = mesh.NameDNS
	case tlsv3.SubjectAltNameMatcher_EMAIL:
		name.Kind = mesh.NameEmail
	case tlsv3.SubjectAltNameMatcher_IP_ADDRESS:
		name.Kind = mesh.NameIP
	default:
		return fmt.Errorf("type %s is not supported", msg.GetSanType())
	}
	t.names = append(t.names, name)
	return nil
}

// pins reads hashes of certificates and keys.
func pins(msg *tlsv3.CertificateValidationContext, p *mesh.Pins) error {
	for _, text := range msg.GetVerifyCertificateHash() {
		plain := strings.ToLower(strings.ReplaceAll(text, ":", ""))
		if raw, err := hex.DecodeString(plain); err != nil || len(raw) != sha256.Size {
			return fmt.Errorf("verify_certificate_hash %q is no SHA-256 in hexadecimal", text)
		}
		p.Certificates = append(p.Certificates, plain)
	}
	for _, text := range msg.GetVerifyCertificateSpki() {
		if raw, err := base64.StdEncoding.DecodeString(text); err != nil || len(raw) != sha256.Size {
			return fmt.Errorf("verify_certificate_spki %q is no SHA-256 in base64", text)
		}
		p.Keys = append(p.Keys, text)
	}
	return nil
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
		if err := d.only(domain, "name trust_bundle", ""); err != nil {
			return err
		}
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
	err := d.only(msg, "tls_minimum_protocol_version tls_maximum_protocol_version cipher_suites ecdh_curves",
		"signature_algorithms")
	if err != nil {
		return err
	}
	p.MinVersion = tlsVersion(msg.GetTlsMinimumProtocolVersion())
	p.MaxVersion = tlsVersion(msg.GetTlsMaximumProtocolVersion())
	p.CipherSuites, p.Curves = msg.GetCipherSuites(), msg.GetEcdhCurves()
	return nil
}

// tlsVersion is the version as it stands on the wire; 0 for "auto".
func tlsVersion(v tlsv3.TlsParameters_TlsProtocol) uint16 {
	if v <= tlsv3.TlsParameters_TLS_AUTO || v > tlsv3.TlsParameters_TLSv1_3 {
		return 0
	}
	return 0x0300 + uint16(v) // TLSv1_0 is 1 and 0x0301
}
