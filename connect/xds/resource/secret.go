package resource

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"unique"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/mesh"
)

// Secrets gives what a resource refers to and what does not stand in it: a
// secret.Reading. An error refuses who refers to it.
type Secrets interface {
	Text(d mesh.Data) (string, error)
	// Leaf is a certificate and the key that belongs to it.
	Leaf(chain, key mesh.Data) (mesh.Leaf, error)
	// Secret is the body of a Secret; wait is how long is waited for one that has not come.
	Secret(ref mesh.SecretRef, wait mesh.Wait) ([]byte, error)
}

// Reader reads resources that refer to secrets. Its zero value refuses all that is
// not inline.
type Reader struct{ Secrets Secrets }

func (r Reader) decoder() *decoder { return &decoder{secrets: r.Secrets} }

// Secret checks that a secret is one that could be used.
func (r Reader) Secret(body []byte) error {
	msg := &tlsv3.Secret{}
	if err := parse(body, msg); err != nil {
		return err
	}
	d := r.decoder()
	switch msg.GetType().(type) {
	case *tlsv3.Secret_TlsCertificate:
		leaf, err := d.leaf(msg.GetTlsCertificate())
		if err != nil {
			return err
		}
		_, err = tls.X509KeyPair([]byte(leaf.CertificatePEM), []byte(leaf.KeyPEM))
		return err
	case *tlsv3.Secret_ValidationContext:
		t := &commonTLS{}
		if err := d.validation(msg.GetValidationContext(), t); err != nil {
			return err
		}
		if t.roots.PEM != "" && !x509.NewCertPool().AppendCertsFromPEM([]byte(t.roots.PEM)) {
			return errors.New("trusted_ca: no certificate in it")
		}
		return nil
	default:
		return fmt.Errorf("secret %s is neither a certificate nor a validation context", msg.GetName())
	}
}

// SecretName is the name of a secret; an error says that body is none.
func SecretName(body []byte) (string, error) {
	msg := &tlsv3.Secret{}
	err := parse(body, msg)
	return msg.GetName(), err
}

// errNoSecrets: who reads knows of nothing outside of the resource.
var errNoSecrets = errors.New("from elsewhere than inline is not supported here")

// data reads a source of text, nil for none.
func data(source *corev3.DataSource) (mesh.Data, error) {
	switch s := source.GetSpecifier().(type) {
	case *corev3.DataSource_InlineString:
		return mesh.Data{Inline: shared(s.InlineString)}, nil
	case *corev3.DataSource_InlineBytes:
		return mesh.Data{Inline: shared(string(s.InlineBytes))}, nil
	case *corev3.DataSource_Filename:
		if s.Filename != "" {
			return mesh.Data{File: s.Filename}, nil
		}
	case *corev3.DataSource_EnvironmentVariable:
		if s.EnvironmentVariable != "" {
			return mesh.Data{Env: s.EnvironmentVariable}, nil
		}
	}
	return mesh.Data{}, errors.New("empty")
}

// shared keeps equal texts once: a thousand clusters come with the same certificate,
// key and roots.
func shared(text string) string { return unique.Make(text).Value() }

// inline returns text that stands in the resource itself.
func inline(source *corev3.DataSource) (string, error) {
	from, err := data(source)
	if err == nil && !from.IsInline() {
		err = errNoSecrets
	}
	return from.Inline, err
}

// text reads text wherever it stands.
func (d *decoder) text(source *corev3.DataSource) (string, error) {
	from, err := data(source)
	switch {
	case err != nil:
		return "", err
	case from.IsInline():
		return from.Inline, nil
	case d.secrets == nil:
		return "", errNoSecrets
	}
	return d.secrets.Text(from)
}

// leaf reads a certificate and its key, wherever they stand.
func (d *decoder) leaf(msg *tlsv3.TlsCertificate) (mesh.Leaf, error) {
	// Files are looked at whatever directory is to be watched.
	err := d.only(msg, "certificate_chain private_key ocsp_staple", "signed_certificate_timestamp - watched_directory")
	if err != nil {
		return mesh.Leaf{}, err
	}
	leaf, err := d.pair(msg)
	if err == nil && msg.GetOcspStaple() != nil {
		if leaf.Staple, err = d.text(msg.GetOcspStaple()); err != nil {
			err = fmt.Errorf("ocsp_staple: %w", err)
		}
	}
	return leaf, err
}

// pair is a certificate with its key.
func (d *decoder) pair(msg *tlsv3.TlsCertificate) (mesh.Leaf, error) {
	chain, err := data(msg.GetCertificateChain())
	if err != nil {
		return mesh.Leaf{}, fmt.Errorf("certificate_chain: %w", err)
	}
	key, err := data(msg.GetPrivateKey())
	if err != nil {
		return mesh.Leaf{}, fmt.Errorf("private_key: %w", err)
	}
	switch {
	case chain.IsInline() && key.IsInline():
		return mesh.Leaf{CertificatePEM: chain.Inline, KeyPEM: key.Inline}, nil
	case d.secrets == nil:
		return mesh.Leaf{}, errNoSecrets
	}
	return d.secrets.Leaf(chain, key)
}

// secret finds what a context names.
func (d *decoder) secret(config *tlsv3.SdsSecretConfig) (*tlsv3.Secret, error) {
	ref, err := d.secretRef(config)
	if err != nil {
		return nil, err
	}
	if d.secrets == nil {
		return nil, errNoSecrets
	}
	body, err := d.secrets.Secret(ref, wait(config.GetSdsConfig()))
	if err != nil {
		return nil, err
	}
	msg := &tlsv3.Secret{}
	return msg, parse(body, msg)
}

// wait is how long what a source has is waited for.
func wait(source *corev3.ConfigSource) mesh.Wait {
	switch timeout := source.GetInitialFetchTimeout(); {
	case timeout == nil:
		return 0
	case timeout.AsDuration() <= 0:
		return mesh.WaitForever
	default:
		return mesh.Wait(timeout.AsDuration())
	}
}

func (d *decoder) secretRef(config *tlsv3.SdsSecretConfig) (mesh.SecretRef, error) {
	ref := mesh.SecretRef{Name: config.GetName()}
	if ref.Name == "" {
		return ref, errors.New("a secret without a name")
	}
	source := config.GetSdsConfig()
	if source == nil {
		return ref, nil
	}
	if err := d.only(source, "ads api_config_source initial_fetch_timeout", "- resource_api_version"); err != nil {
		return ref, err
	}
	if source.GetAds() != nil {
		ref.Source.Kind = mesh.SecretADS
		return ref, nil
	}
	api := source.GetApiConfigSource()
	err := d.only(api, "api_type grpc_services", "rate_limit_settings - transport_api_version set_node_on_first_message_only request_timeout refresh_delay")
	if err != nil {
		return ref, err
	}
	ref.Source.Kind = mesh.SecretServer
	switch api.GetApiType() {
	case corev3.ApiConfigSource_GRPC:
	case corev3.ApiConfigSource_DELTA_GRPC:
		ref.Source.Delta = true
	default:
		return ref, fmt.Errorf("api_type %s of a server of secrets is not supported", api.GetApiType())
	}
	if len(api.GetGrpcServices()) != 1 {
		return ref, errors.New("a secret needs one grpc_service")
	}
	service := api.GetGrpcServices()[0]
	if err := d.only(service, "envoy_grpc", "retry_policy - timeout"); err != nil {
		return ref, err
	}
	grpc := service.GetEnvoyGrpc()
	if err := d.only(grpc, "cluster_name authority", "retry_policy skip_envoy_headers - max_receive_message_length"); err != nil {
		return ref, err
	}
	ref.Source.Cluster, ref.Source.Authority = grpc.GetClusterName(), grpc.GetAuthority()
	if ref.Source.Cluster == "" {
		return ref, errors.New("a secret from a cluster without a name")
	}
	return ref, nil
}

// certificates reads all that a context shows, by whatever way it comes to them.
func (d *decoder) certificates(msg *tlsv3.CommonTlsContext) ([]mesh.Leaf, error) {
	var leaves []mesh.Leaf
	for _, c := range msg.GetTlsCertificates() {
		leaf, err := d.leaf(c)
		if err != nil {
			return nil, err
		}
		leaves = append(leaves, leaf)
	}
	if len(leaves) > 0 && len(msg.GetTlsCertificateSdsSecretConfigs()) > 0 {
		return nil, errors.New("certificates both in place and by secrets")
	}
	var errs []error // all of them are asked for at once
	for _, config := range msg.GetTlsCertificateSdsSecretConfigs() {
		leaf, err := d.certificateSecret(config)
		if err != nil {
			errs = append(errs, err)
		}
		leaves = append(leaves, leaf)
	}
	if len(errs) > 0 {
		return nil, errs[0]
	}
	return leaves, nil
}

func (d *decoder) certificateSecret(config *tlsv3.SdsSecretConfig) (mesh.Leaf, error) {
	secret, err := d.secret(config)
	if err != nil {
		return mesh.Leaf{}, err
	}
	if secret.GetTlsCertificate() == nil {
		return mesh.Leaf{}, fmt.Errorf("secret %s is no certificate", config.GetName())
	}
	leaf, err := d.leaf(secret.GetTlsCertificate())
	if err != nil {
		return mesh.Leaf{}, fmt.Errorf("secret %s: %w", config.GetName(), err)
	}
	return leaf, nil
}

// validationContext is what a peer is verified by, with what a secret adds.
func (d *decoder) validationContext(msg *tlsv3.CommonTlsContext) (*tlsv3.CertificateValidationContext, error) {
	switch kind := msg.GetValidationContextType().(type) {
	case *tlsv3.CommonTlsContext_ValidationContextSdsSecretConfig:
		return d.validationSecret(kind.ValidationContextSdsSecretConfig)
	case *tlsv3.CommonTlsContext_CombinedValidationContext:
		combined := kind.CombinedValidationContext
		if err := d.only(combined, "default_validation_context validation_context_sds_secret_config", ""); err != nil {
			return nil, err
		}
		secret, err := d.validationSecret(combined.GetValidationContextSdsSecretConfig())
		if err != nil {
			return nil, err
		}
		// As Envoy does: what the secret says replaces single fields of the
		// default, and is added to repeated ones.
		merged := &tlsv3.CertificateValidationContext{}
		proto.Merge(merged, combined.GetDefaultValidationContext())
		proto.Merge(merged, secret)
		return merged, nil
	default:
		return msg.GetValidationContext(), nil
	}
}

func (d *decoder) validationSecret(config *tlsv3.SdsSecretConfig) (*tlsv3.CertificateValidationContext, error) {
	secret, err := d.secret(config)
	if err != nil {
		return nil, err
	}
	if secret.GetValidationContext() == nil {
		return nil, fmt.Errorf("secret %s is no validation context", config.GetName())
	}
	return secret.GetValidationContext(), nil
}
