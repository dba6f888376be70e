package integration_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

// outsideCA signs certificates of the world outside of the mesh.
type outsideCA struct {
	key  *ecdsa.PrivateKey
	cert *x509.Certificate
}

func newOutsideCA(t *testing.T) *outsideCA {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	a := &outsideCA{key: key}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "outside"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	must(t, err)
	a.cert, err = x509.ParseCertificate(der)
	must(t, err)
	return a
}

// pem is the authority's certificate.
func (a *outsideCA) pem() []byte { return encodePEM("CERTIFICATE", a.cert.Raw) }

func (a *outsideCA) pool() *x509.CertPool {
	pool := x509.NewCertPool()
	pool.AddCert(a.cert)
	return pool
}

// leaf makes a certificate of names or IP addresses with its key, both PEM. Its common name is none of them: Consul would
// take a name that is there twice for one of two certificates, and choose neither.
func (a *outsideCA) leaf(t *testing.T, names ...string) (chain, key []byte) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	must(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), KeyUsage: x509.KeyUsageDigitalSignature, Subject: pkix.Name{CommonName: "cn." + names[0]},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth, x509.ExtKeyUsageServerAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, private.Public(), a.key)
	must(t, err)
	keyDER, err := x509.MarshalPKCS8PrivateKey(private)
	must(t, err)
	return encodePEM("CERTIFICATE", der), encodePEM("PRIVATE KEY", keyDER)
}

func encodePEM(kind string, der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der})
}

// write writes a certificate and its key into a folder, the one after the other.
func (a *outsideCA) write(t *testing.T, dir string, names ...string) (chain, key string) {
	t.Helper()
	chainPEM, keyPEM := a.leaf(t, names...)
	chain, key = filepath.Join(dir, "chain.pem"), filepath.Join(dir, "key.pem")
	for path, data := range map[string][]byte{chain: chainPEM, key: keyPEM} {
		next := path + ".next"
		must(t, os.WriteFile(next, data, 0o600))
		must(t, os.Rename(next, path))
	}
	return chain, key
}

// sdsServer is a server of secrets as users have them: on a stream it answers with the secrets that are asked for, and
// again as often as they change.
type sdsServer struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	port int

	mu      sync.Mutex // guards:
	secrets map[string]*tlsv3.Secret
	version int
	changed chan struct{}
	nacks   []string
}

func newSDS(t *testing.T, port int) *sdsServer {
	t.Helper()
	s := &sdsServer{port: port, secrets: map[string]*tlsv3.Secret{}, changed: make(chan struct{})}
	listener := listenAt(t, port)
	server := grpc.NewServer()
	secretv3.RegisterSecretDiscoveryServiceServer(server, s)
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(server.Stop)
	return s
}

// set brings a certificate.
func (s *sdsServer) set(name string, chain, key []byte) {
	inline := func(data []byte) *corev3.DataSource {
		return &corev3.DataSource{Specifier: &corev3.DataSource_InlineBytes{InlineBytes: data}}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.secrets[name] = &tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{
		TlsCertificate: &tlsv3.TlsCertificate{CertificateChain: inline(chain), PrivateKey: inline(key)},
	}}
	s.version++
	close(s.changed)
	s.changed = make(chan struct{})
}

func (s *sdsServer) refused() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.nacks)
}

// now is what there is of the names.
func (s *sdsServer) now(names []string) (all []*anypb.Any, version int, changed <-chan struct{}, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, name := range names {
		if secret := s.secrets[name]; secret != nil {
			body, err := anypb.New(secret)
			if err != nil {
				return nil, 0, nil, err
			}
			all = append(all, body)
		}
	}
	return all, s.version, s.changed, nil
}

// StreamSecrets implements the protocol.
func (s *sdsServer) StreamSecrets(stream grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]) error {
	requests, failed := make(chan *discoveryv3.DiscoveryRequest), make(chan error, 1)
	go func() {
		for {
			request, err := stream.Recv()
			if err != nil {
				failed <- err
				return
			}
			select {
			case requests <- request:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	var names []string
	sent := 0
	for {
		all, version, changed, err := s.now(names)
		if err != nil {
			return err
		}
		if len(all) > 0 && version > sent {
			sent = version
			response := &discoveryv3.DiscoveryResponse{VersionInfo: strconv.Itoa(version), Nonce: fmt.Sprint("n", version), TypeUrl: all[0].GetTypeUrl(), Resources: all}
			if err := stream.Send(response); err != nil {
				return err
			}
		}
		select {
		case err := <-failed:
			return err
		case <-stream.Context().Done():
			return errors.New("the test is over")
		case request := <-requests:
			names = request.GetResourceNames()
			if detail := request.GetErrorDetail(); detail != nil {
				s.mu.Lock()
				s.nacks = append(s.nacks, detail.GetMessage())
				s.mu.Unlock()
			}
		case <-changed:
		}
	}
}

// cluster is the static cluster that leads to it.
func (s *sdsServer) cluster() string {
	return fmt.Sprintf(`{"name":"sds-server","type":"STATIC","connect_timeout":"5s","typed_extension_protocol_options":{"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{`+
		`"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions","explicit_http_config":{"http2_protocol_options":{}}}},`+
		`"load_assignment":{"cluster_name":"sds-server","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"127.0.0.1","port_value":%d}}}}]}]}}`, s.port)
}
