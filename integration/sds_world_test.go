package integration_test

import (
	"errors"
	"fmt"
	"strconv"
	"sync"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"
)

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
