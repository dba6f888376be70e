package xds_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// writePair writes a certificate and its key, and returns the first.
func writePair(t *testing.T, dir string) (certificate string) {
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
	for name, block := range map[string]*pem.Block{"chain": {Type: "CERTIFICATE", Bytes: der}, "key": {Type: "PRIVATE KEY", Bytes: private}} {
		if err := os.WriteFile(filepath.Join(dir, name), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

func fileSecret(dir string) *tlsv3.Secret {
	file := func(name string) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_Filename{Filename: filepath.Join(dir, name)}}
	}
	return &tlsv3.Secret{Name: "web", Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: file("chain"), PrivateKey: file("key"),
	}}}
}

// secretListener shows the certificate of a secret that comes over ADS.
func secretListener(t *testing.T, name string, port uint32, secret string) *listenerv3.Listener {
	t.Helper()
	l := tcpListener(t, name, port, "api")
	l.FilterChains[0].TransportSocket = &corev3.TransportSocket{
		Name: "tls", ConfigType: &corev3.TransportSocket_TypedConfig{TypedConfig: typed(t, &tlsv3.DownstreamTlsContext{
			CommonTlsContext: &tlsv3.CommonTlsContext{TlsCertificateSdsSecretConfigs: []*tlsv3.SdsSecretConfig{{
				Name:      secret,
				SdsConfig: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}},
			}}},
		})},
	}
	return l
}

func (r *rig) ready() bool {
	select {
	case <-r.watcher.Ready():
		return true
	default:
		return false
	}
}

// chain is that of the listener "tls".
func (r *rig) chain() *mesh.FilterChain {
	r.t.Helper()
	l := r.store.Load().Listeners["tls"]
	if l == nil {
		r.t.Fatal("there is no such listener")
	}
	return l.Chains[0]
}

// A listener whose secret has not come is not there; the rest is, and waits for
// nothing.
func TestListenerWaitsForSecret(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		r.update(resource.ClusterType, staticCluster("api"))
		r.update(resource.ListenerType, tcpListener(t, "plain", 1, "api"), secretListener(t, "tls", 2, "web"))
		r.wantForce("listeners [plain] routes [] clusters [api]")
		if r.ready() || r.watcher.Status().Secrets.Waiting != 1 {
			t.Errorf("ready %t, %+v", r.ready(), r.watcher.Status().Secrets)
		}
		plain := r.store.Load().Listeners["plain"]
		dir := t.TempDir()
		first := writePair(t, dir)
		r.update(resource.SecretType, fileSecret(dir))
		r.wantForce("listeners [plain tls] routes [] clusters [api]")
		if !r.ready() {
			t.Error("not ready, though all has come")
		}
		if got := r.chain(); got.Refusal != "" || got.TLS.Leaves[0].CertificatePEM != first {
			t.Errorf("refusal %q, certificate %v", got.Refusal, got.TLS)
		}

		// Files change without a word of the control plane.
		second := writePair(t, dir)
		r.pass(2 * time.Second)
		if got := r.chain(); got.Refusal != "" || got.TLS.Leaves[0].CertificatePEM != second {
			t.Errorf("after a rotation: refusal %q, certificate is the first %t", got.Refusal, got.TLS.Leaves[0].CertificatePEM == first)
		}
		if r.store.Load().Listeners["plain"] != plain {
			t.Error("a listener that needs no secret is made anew")
		}
		now := r.store.Load()
		if err := os.WriteFile(filepath.Join(dir, "key"), []byte("broken"), 0o600); err != nil {
			t.Fatal(err)
		}
		r.pass(time.Minute)
		if r.store.Load() != now || r.logged("the last good one stays") != 1 || r.watcher.Status().Secrets.Broken != 1 {
			t.Errorf("a broken file: same %t, %+v", r.store.Load() == now, r.watcher.Status().Secrets)
		}
		// A secret that is taken away, or comes back broken, is kept for who uses it.
		r.change(resource.SecretType, []string{"web"})
		r.update(resource.SecretType, fileSecret("/no/such"))
		r.pass(time.Minute)
		if got := r.chain(); got.Refusal != "" || got.TLS.Leaves[0].CertificatePEM != second {
			t.Errorf("after it was taken away: refusal %q", got.Refusal)
		}
		third := writePair(t, dir)
		r.update(resource.SecretType, fileSecret(dir))
		r.pass(2 * time.Second)
		if got := r.chain(); got.TLS.Leaves[0].CertificatePEM != third {
			t.Error("it is not good again")
		}
		r.change(resource.ListenerType, []string{"tls"})
		r.pass(2 * time.Minute)
		if stats := r.watcher.Status().Secrets; stats.Broken+stats.Waiting != 0 {
			t.Errorf("what nothing refers to is still looked after: %+v", stats)
		}
	})
}

// A secret that never comes is waited for so long and no longer; then the listener
// is bound and closes what it accepts, as Envoy's does.
func TestSecretThatNeverComes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		r.update(resource.ClusterType, staticCluster("api"))
		r.update(resource.ListenerType, secretListener(t, "tls", 2, "web"))
		r.pass(14 * time.Second)
		r.wantForce("listeners [] routes [] clusters [api]")
		if r.ready() {
			t.Error("ready while a secret is waited for")
		}
		r.pass(time.Second)
		r.wantForce("listeners [tls] routes [] clusters [api]")
		if got := r.chain().Refusal; got != "tls: secret web: has not come yet" || !r.ready() {
			t.Errorf("refusal %q, ready %t", got, r.ready())
		}
		dir := t.TempDir()
		writePair(t, dir)
		r.update(resource.SecretType, fileSecret(dir))
		if got := r.chain().Refusal; got != "" {
			t.Errorf("it has come, and yet: %s", got)
		}
		// A change of the listener to a secret that is not there keeps the old one.
		r.update(resource.ListenerType, secretListener(t, "tls", 2, "other"))
		if got := r.chain().Refusal; got != "" {
			t.Errorf("it is refused at once: %s", got)
		}
		r.pass(15 * time.Second)
		if got := r.chain().Refusal; got == "" {
			t.Error("an old listener is served for ever")
		}
	})
}

// Static listeners show certificates of static secrets, and of files, which change;
// neither needs a word of the control plane.
func TestStaticSecrets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		first := writePair(t, dir)
		files := fmt.Sprintf(`{"certificate_chain": {"filename": %q}, "private_key": {"filename": %q}}`, filepath.Join(dir, "chain"), filepath.Join(dir, "key"))
		listener := func(name, common string) json.RawMessage {
			return json.RawMessage(strings.Replace(strings.Replace(bootListener, `"ready"`, `"`+name+`"`, 1), `"filter_chains": {`,
				`"filter_chains": {"transport_socket": {"name": "tls", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.DownstreamTlsContext",
				"common_tls_context": {`+common+`}}}, `, 1))
		}
		r := &rig{t: t, source: &source{started: make(chan struct{})}, store: &mesh.Store{}, sets: map[string]*mesh.EndpointSet{}, dead: map[string]bool{}}
		watcher, err := xds.New(xds.Config{
			Source: r.source, Probe: r.probe, ADS: ads.Config{Node: ads.Node{ID: "web1"}},
			Static: xds.Static{
				Clusters: []json.RawMessage{json.RawMessage(bootCluster)},
				Secrets:  []json.RawMessage{json.RawMessage(`{"name": "named", "tls_certificate": ` + files + `}`)},
				Listeners: []json.RawMessage{
					listener("files", `"tls_certificates": `+files),
					listener("named", `"tls_certificate_sds_secret_configs": {"name": "named"}`),
					listener("unknown", `"tls_certificate_sds_secret_configs": {"name": "unknown"}`),
				},
			},
		}, r.store, r, nil, slog.New(slog.NewTextHandler(r, nil)))
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- watcher.Run(ctx) }()
		synctest.Wait()
		shows := func(want string) {
			t.Helper()
			for _, name := range []string{"files", "named"} {
				if c := r.store.Load().Listeners[name].Chains[0]; c.Refusal != "" || c.TLS.Leaves[0].CertificatePEM != want {
					t.Errorf("%s: refusal %q, or another certificate", name, c.Refusal)
				}
			}
		}
		shows(first)
		if got := r.store.Load().Listeners["unknown"].Chains[0].Refusal; got != "tls: static secret unknown: the bootstrap file has no secret of that name" {
			t.Errorf("refusal %q", got)
		}
		second := writePair(t, dir)
		r.pass(2 * time.Second)
		shows(second)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
