package ads_test

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/xds/ads"
)

// secretServer answers what the test hands it.
type secretServer struct {
	secretv3.UnimplementedSecretDiscoveryServiceServer
	asked  chan *discoveryv3.DiscoveryRequest
	answer chan *discoveryv3.DiscoveryResponse // nil ends the stream

	askedDelta  chan *discoveryv3.DeltaDiscoveryRequest
	answerDelta chan *discoveryv3.DeltaDiscoveryResponse
}

func (s *secretServer) StreamSecrets(stream grpc.BidiStreamingServer[discoveryv3.DiscoveryRequest, discoveryv3.DiscoveryResponse]) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		s.asked <- request
		select {
		case response := <-s.answer:
			if response == nil {
				return errors.New("the test ends the stream")
			}
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

func (s *secretServer) DeltaSecrets(stream grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]) error {
	for {
		request, err := stream.Recv()
		if err != nil {
			return err
		}
		s.askedDelta <- request
		select {
		case response := <-s.answerDelta:
			if err := stream.Send(response); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return nil
		}
	}
}

// followed is what Follow tells.
type followed struct {
	set  chan string
	bad  chan error // what the next set answers
	down chan error
}

func follow(t *testing.T, delta bool) (*secretServer, *followed) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "sds")
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	s := &secretServer{
		asked: make(chan *discoveryv3.DiscoveryRequest, 10), answer: make(chan *discoveryv3.DiscoveryResponse),
		askedDelta: make(chan *discoveryv3.DeltaDiscoveryRequest, 10), answerDelta: make(chan *discoveryv3.DeltaDiscoveryResponse),
	}
	g := grpc.NewServer()
	secretv3.RegisterSecretDiscoveryServiceServer(g, s)
	go g.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(g.Stop)
	client, err := ads.NewSecretServer(ads.SecretConfig{
		Cluster: "sds", Delta: delta, Node: ads.Node{ID: "gw"}, Backoff: ads.Backoff{Min: time.Millisecond},
		Dial: func(ctx context.Context) (net.Conn, error) { return (&net.Dialer{}).DialContext(ctx, "unix", path) },
	})
	if err != nil {
		t.Fatal(err)
	}
	f := &followed{set: make(chan string, 10), bad: make(chan error, 1), down: make(chan error, 10)}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		done <- client.Follow(ctx, "web", func(body []byte, _ string) error {
			f.set <- string(body)
			select {
			case err := <-f.bad:
				return err
			default:
				return nil
			}
		}, func(err error) { f.down <- err })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Follow: %v", err)
		}
		client.Close()
	})
	return s, f
}

func secretOf(t *testing.T, name, chain string) *anypb.Any {
	t.Helper()
	body, err := anypb.New(&tlsv3.Secret{Name: name, Type: &tlsv3.Secret_TlsCertificate{TlsCertificate: &tlsv3.TlsCertificate{
		CertificateChain: &corev3.DataSource{Specifier: &corev3.DataSource_InlineString{InlineString: chain}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return body
}

func TestFollowSecret(t *testing.T) {
	t.Parallel()
	s, f := follow(t, false)
	request := next(t, s.asked, "a request")
	if request.GetNode().GetId() != "gw" {
		t.Errorf("the first request has node %v", request.GetNode())
	}
	if diff := cmp.Diff([]string{"web"}, request.GetResourceNames()); diff != "" {
		t.Error(diff)
	}
	one, two := secretOf(t, "web", "one"), secretOf(t, "web", "two")
	s.answer <- &discoveryv3.DiscoveryResponse{VersionInfo: "1", Nonce: "a", TypeUrl: one.GetTypeUrl(), Resources: []*anypb.Any{secretOf(t, "other", "x"), one}}
	if got := next(t, f.set, "a secret"); got != string(one.GetValue()) {
		t.Errorf("got %q", got)
	}
	request = next(t, s.asked, "a request")
	if request.GetVersionInfo() != "1" || request.GetResponseNonce() != "a" || request.GetErrorDetail() != nil {
		t.Errorf("not acknowledged: %v", request)
	}
	// One that is not good is told, once, and the version is that of the last.
	f.bad <- errors.New("no good")
	s.answer <- &discoveryv3.DiscoveryResponse{VersionInfo: "2", Nonce: "b", TypeUrl: one.GetTypeUrl(), Resources: []*anypb.Any{two}}
	next(t, f.set, "a secret")
	request = next(t, s.asked, "a request")
	if request.GetVersionInfo() != "1" || request.GetResponseNonce() != "b" || request.GetErrorDetail().GetMessage() != "no good" {
		t.Errorf("not refused: %v", request)
	}
	s.answer <- &discoveryv3.DiscoveryResponse{VersionInfo: "3", Nonce: "c", Resources: []*anypb.Any{{TypeUrl: "x"}}}
	if request = next(t, s.asked, "a request"); request.GetErrorDetail() == nil {
		t.Errorf("what is no secret is acknowledged: %v", request)
	}
	// A stream that ends is opened again, and begins anew.
	s.answer <- nil
	if err := next(t, f.down, "the end of the stream"); err == nil {
		t.Error("it ends for no reason")
	}
	request = next(t, s.asked, "a request")
	if request.GetNode().GetId() != "gw" || request.GetResponseNonce() != "" || request.GetVersionInfo() != "" {
		t.Errorf("the first request of another stream: %v", request)
	}
	s.answer <- &discoveryv3.DiscoveryResponse{VersionInfo: "4", Nonce: "d", TypeUrl: one.GetTypeUrl(), Resources: []*anypb.Any{two}}
	if got := next(t, f.set, "a secret"); got != string(two.GetValue()) {
		t.Errorf("got %q", got)
	}
}

func TestFollowSecretDelta(t *testing.T) {
	t.Parallel()
	s, f := follow(t, true)
	request := next(t, s.askedDelta, "a request")
	if diff := cmp.Diff([]string{"web"}, request.GetResourceNamesSubscribe()); diff != "" || request.GetNode().GetId() != "gw" {
		t.Errorf("%v%s", request.GetNode(), diff)
	}
	one := secretOf(t, "web", "one")
	answer := func(nonce string) *discoveryv3.DeltaDiscoveryResponse {
		return &discoveryv3.DeltaDiscoveryResponse{Nonce: nonce, TypeUrl: one.GetTypeUrl(), Resources: []*discoveryv3.Resource{{Name: "web", Version: "1", Resource: one}}}
	}
	s.answerDelta <- answer("a")
	if got := next(t, f.set, "a secret"); got != string(one.GetValue()) {
		t.Errorf("got %q", got)
	}
	if request = next(t, s.askedDelta, "a request"); request.GetResponseNonce() != "a" || request.GetErrorDetail() != nil || len(request.GetResourceNamesSubscribe()) > 0 {
		t.Errorf("not acknowledged: %v", request)
	}
	f.bad <- errors.New("no good")
	s.answerDelta <- answer("b")
	next(t, f.set, "a secret")
	if request = next(t, s.askedDelta, "a request"); request.GetResponseNonce() != "b" || request.GetErrorDetail().GetMessage() != "no good" {
		t.Errorf("not refused: %v", request)
	}
}
