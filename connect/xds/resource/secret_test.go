package resource_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/resource"
)

// anything has a value for whatever is referred to.
type anything struct{ t *testing.T }

var _ resource.Secrets = anything{}

func (anything) Text(d mesh.Data) (string, error) { return "text of " + d.Name(), nil }

func (anything) Leaf(chain, key mesh.Data) (mesh.Leaf, error) {
	text := func(d mesh.Data) string {
		if d.IsInline() {
			return d.Inline
		}
		return "text of " + d.Name()
	}
	return mesh.Leaf{CertificatePEM: text(chain), KeyPEM: text(key)}, nil
}

// Secret is a validation context for names that begin with "ca", else a certificate.
func (a anything) Secret(ref mesh.SecretRef, _ mesh.Wait) ([]byte, error) {
	switch {
	case strings.HasPrefix(ref.Name, "late"):
		return nil, errLate
	case strings.HasPrefix(ref.Name, "ca"):
		return bytesOf(a.t, `{"name":"`+ref.Name+`","validationContext":{"trustedCa":{"inlineString":"`+ref.String()+`"},
			"matchTypedSubjectAltNames":[`+san("URI", "spiffe://td/added")+`]}}`, &tlsv3.Secret{}), nil
	default:
		return bytesOf(a.t, `{"name":"`+ref.Name+`","tlsCertificate":{"certificateChain":{"inlineString":"`+ref.String()+`"},
			"privateKey":{"filename":"/`+ref.Name+`.key"}}}`, &tlsv3.Secret{}), nil
	}
}

var errLate = errors.New("has not come yet")

const (
	downstream = `{"name":"tls","typedConfig":{"@type":"` + googleapis + `extensions.transport_sockets.tls.v3.DownstreamTlsContext",`

	sdsADS    = `"sdsConfig":{"ads":{},"resourceApiVersion":"V3"}`
	sdsServer = `"sdsConfig":{"apiConfigSource":{"apiType":"%s","transportApiVersion":"V3","grpcServices":[{"envoyGrpc":{"clusterName":"sds"},"timeout":"5s"}]},"resourceApiVersion":"V3"}`
)

func TestSecretsOfListener(t *testing.T) {
	t.Parallel()
	sotw, delta := fmt.Sprintf(sdsServer, "GRPC"), fmt.Sprintf(sdsServer, "DELTA_GRPC")
	fromKey := func(text, key string) mesh.Leaf {
		return mesh.Leaf{CertificatePEM: text, KeyPEM: "text of file /" + key + ".key"}
	}
	tests := []struct {
		name, common string
		want         *mesh.DownstreamTLS
		refusal      string
	}{
		{
			name:   "files",
			common: `"tlsCertificates":[{"certificateChain":{"filename":"/a"},"privateKey":{"environmentVariable":"B"},"watchedDirectory":{"path":"/x"}}]`,
			want:   &mesh.DownstreamTLS{Leaves: []mesh.Leaf{{CertificatePEM: "text of file /a", KeyPEM: "text of environment variable B"}}},
		},
		{
			name:   "several over ADS",
			common: `"tlsCertificateSdsSecretConfigs":[{"name":"one",` + sdsADS + `},{"name":"two",` + sdsADS + `}]`,
			want:   &mesh.DownstreamTLS{Leaves: []mesh.Leaf{fromKey("secret one", "one"), fromKey("secret two", "two")}},
		},
		{
			name:   "a static one",
			common: `"tlsCertificateSdsSecretConfigs":[{"name":"one"}]`,
			want:   &mesh.DownstreamTLS{Leaves: []mesh.Leaf{fromKey("static secret one", "one")}},
		},
		{
			name:   "a server",
			common: `"tlsCertificateSdsSecretConfigs":[{"name":"one",` + sotw + `}]`,
			want:   &mesh.DownstreamTLS{Leaves: []mesh.Leaf{fromKey("secret one of cluster sds", "one")}},
		},
		{
			name:   "validation by a server of the incremental protocol",
			common: leaf + `,"validationContextSdsSecretConfig":{"name":"ca",` + delta + `}`,
			want: &mesh.DownstreamTLS{
				Leaves: []mesh.Leaf{{CertificatePEM: "C", KeyPEM: "K"}}, Roots: mesh.Roots{PEM: "secret ca of cluster sds"},
				Names: []mesh.PeerName{{Kind: mesh.NameURI, Value: mesh.StringMatch{Exact: "spiffe://td/added"}}},
			},
		},
		{name: "late", common: `"tlsCertificateSdsSecretConfigs":[{"name":"late",` + sdsADS + `}]`, refusal: "tls: has not come yet"},
		{name: "no certificate", common: `"tlsCertificateSdsSecretConfigs":[{"name":"ca",` + sdsADS + `}]`, refusal: "tls: secret ca is no certificate"},
		{name: "nameless", common: `"tlsCertificateSdsSecretConfigs":[{` + sdsADS + `}]`, refusal: "tls: a secret without a name"},
		{
			name:    "from a file of secrets",
			common:  `"tlsCertificateSdsSecretConfigs":[{"name":"a","sdsConfig":{"path":"/sds.yaml"}}]`,
			refusal: "tls: ConfigSource.path is not supported",
		},
		{
			name:    "by REST",
			common:  `"tlsCertificateSdsSecretConfigs":[{"name":"a",` + fmt.Sprintf(sdsServer, "REST") + `}]`,
			refusal: "tls: api_type REST of a server of secrets is not supported",
		},
		{
			name:    "both ways",
			common:  leaf + `,"tlsCertificateSdsSecretConfigs":[{"name":"one"}]`,
			refusal: "tls: certificates both in place and by secrets",
		},
		{name: "empty path", common: `"tlsCertificates":[{"certificateChain":{"filename":""},"privateKey":{"inlineString":"K"}}]`, refusal: "tls: certificate_chain: empty"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			body := bytesOf(t, `{"name":"l",`+address+`,"filterChains":[{"filters":[`+tcp+`],"transportSocket":`+downstream+`"commonTlsContext":{`+tt.common+`}}}}]}`, &listenerv3.Listener{})
			l, _, err := resource.Reader{Secrets: anything{t}}.Listener(body)
			if err != nil {
				t.Fatal(err)
			}
			if got := l.Chains[0].Refusal; !strings.HasPrefix(got, tt.refusal) || (got == "") != (tt.refusal == "") {
				t.Errorf("refusal %q, want %q", got, tt.refusal)
			}
			if diff := cmp.Diff(tt.want, l.Chains[0].TLS); diff != "" {
				t.Error(diff)
			}
			// Without anything outside nothing of it is understood, and nothing panics.
			if l, _, err = resource.Listener(body); err != nil || l.Chains[0].Refusal == "" {
				t.Errorf("without secrets: %v, refusal %q", err, l.Chains[0].Refusal)
			}
		})
	}
}

func TestSecretsOfCluster(t *testing.T) {
	t.Parallel()
	tests := []struct {
		common string
		want   *mesh.UpstreamTLS
	}{
		{
			common: `"validationContext":{"trustedCa":{"filename":"/ca.pem"}}`,
			want:   &mesh.UpstreamTLS{Roots: mesh.Roots{PEM: "text of file /ca.pem"}, AnyPeer: true},
		},
		{
			common: `"combinedValidationContext":{"defaultValidationContext":{"trustedCa":{"inlineString":"replaced"},"matchTypedSubjectAltNames":[` + san("URI", "spiffe://td/default") + `]},
				"validationContextSdsSecretConfig":{"name":"ca",` + sdsADS + `}}`,
			want: &mesh.UpstreamTLS{Roots: mesh.Roots{PEM: "secret ca"}, URIs: []string{"spiffe://td/default", "spiffe://td/added"}},
		},
	}
	for _, tt := range tests {
		body := bytesOf(t, `{`+eds+`,"transportSocket":`+upstream+`"commonTlsContext":{`+tt.common+`}}}}`, &clusterv3.Cluster{})
		c, _, err := resource.Reader{Secrets: anything{t}}.Cluster(body)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(tt.want, c.TLS); diff != "" || c.Refusal != "" {
			t.Errorf("%s: refusal %q: %s", tt.common, c.Refusal, diff)
		}
	}
}

func TestSecretIsChecked(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{"name":"a","tlsCertificate":{"certificateChain":{"inlineString":"C"},"privateKey":{"inlineString":"K"}}}`: "tls: failed to find any PEM data in certificate input",
		`{"name":"a","tlsCertificate":{"certificateChain":{"inlineString":"C"}}}`:                                   "private_key: empty",
		`{"name":"a","validationContext":{"trustedCa":{"inlineString":"CA"}}}`:                                      "trusted_ca: no certificate in it",
		`{"name":"a","validationContext":{"allowExpiredCertificate":true}}`:                                         "CertificateValidationContext.allow_expired_certificate is not supported",
		`{"name":"a","sessionTicketKeys":{}}`:                                                                       "secret a is neither a certificate nor a validation context",
	} {
		got := ""
		if err := (resource.Reader{}).Secret(bytesOf(t, text, &tlsv3.Secret{})); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%s: %q, want %q", text, got, want)
		}
	}
	one, two := pairOf(t), pairOf(t)
	for _, tt := range []struct {
		chain, key string
		want       bool
	}{{one[0], one[1], true}, {one[0], two[1], false}} {
		body, err := proto.Marshal(&tlsv3.Secret{Name: "a", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
			CertificateChain: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: tt.chain}},
			PrivateKey:       &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: tt.key}},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		if err := (resource.Reader{}).Secret(body); (err == nil) != tt.want {
			t.Errorf("a certificate with its key %t: %v", tt.want, err)
		}
	}
	if err := (resource.Reader{}).Secret([]byte{0xff}); err == nil {
		t.Error("bytes that are no secret are taken for one")
	}
}

// pairOf is a certificate and its key, both PEM.
func pairOf(t *testing.T) [2]string {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return [2]string{
		string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private})),
	}
}

func FuzzSecret(f *testing.F) {
	f.Add(bytesOf(f, `{"name":"a","tlsCertificate":{"certificateChain":{"inlineString":"C"},"privateKey":{"filename":"K"}}}`, &tlsv3.Secret{}))
	f.Add(bytesOf(f, `{"name":"a","validationContext":{`+ca+`}}`, &tlsv3.Secret{}))
	f.Fuzz(func(t *testing.T, body []byte) {
		err := resource.Reader{Secrets: anything{t}}.Secret(body)
		if _, unread := resource.SecretName(body); unread != nil && err == nil {
			t.Errorf("unreadable and good: %v", unread)
		}
	})
}
