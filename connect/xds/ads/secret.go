package ads

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	secretv3 "github.com/envoyproxy/go-control-plane/envoy/service/secret/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	grpcstatus "google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

const (
	secretType = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
	// maxSecret bounds a response of a server of secrets.
	maxSecret = 4 << 20
)

// SecretConfig says where secrets are asked for.
type SecretConfig struct {
	// Cluster leads to the server; Authority is what it is called, "" means Cluster.
	Cluster, Authority string
	// Delta asks by the incremental protocol, as api_type DELTA_GRPC wants.
	Delta bool
	Node  Node
	// Dial connects to the server; TLS, if any, is done by it.
	Dial func(ctx context.Context) (net.Conn, error)
	// Backoff bounds how long to wait before the next try.
	Backoff Backoff
}

// SecretServer asks a server of the user's own for secrets (SDS), each on a stream
// of its own as Envoy does: such servers may not know what to do with several names
// on one. It is safe for concurrent use.
type SecretServer struct {
	config SecretConfig
	node   *corev3.Node
	conn   *grpc.ClientConn
}

// NewSecretServer returns a client that has not connected yet.
func NewSecretServer(config SecretConfig) (*SecretServer, error) {
	node, err := nodeOf(&config.Node)
	if err != nil {
		return nil, fmt.Errorf("ads: node metadata: %w", err)
	}
	config.Backoff.defaults()
	if config.Authority == "" {
		config.Authority = config.Cluster
	}
	conn, err := grpc.NewClient("passthrough:///"+config.Cluster,
		grpc.WithTransportCredentials(insecure.NewCredentials()), // the cluster has TLS
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return config.Dial(ctx) }),
		grpc.WithNoProxy(),
		grpc.WithAuthority(config.Authority),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxSecret)),
	)
	if err != nil {
		return nil, fmt.Errorf("server of secrets behind cluster %s: %w", config.Cluster, err)
	}
	return &SecretServer{config: config, node: node, conn: conn}, nil
}

// Close ends all streams.
func (s *SecretServer) Close() { _ = s.conn.Close() }

// Follow asks for the secret of that name until ctx ends. set takes each version of
// it, with its name; an error of set is told to the server, and the stream goes on. down tells why
// there is no stream.
func (s *SecretServer) Follow(ctx context.Context, name string, set func(body []byte, version string) error, down func(error)) error {
	for tries := 0; ; tries++ {
		began := time.Now()
		err := s.once(ctx, name, set)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		down(fmt.Errorf("server of secrets behind cluster %s: %w", s.config.Cluster, err))
		if time.Since(began) > s.config.Backoff.Stable {
			tries = 0
		}
		wait := time.NewTimer(s.config.Backoff.next(tries, secretTrouble(err), rand.Float64()))
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
	}
}

// secretTrouble is what kind of error err is, for the wait.
func secretTrouble(err error) Kind {
	if errors.Is(err, io.EOF) {
		return Ended
	}
	switch grpcstatus.Code(err) {
	case codes.Unavailable:
		return Unreachable
	case codes.PermissionDenied, codes.Unauthenticated:
		return Denied
	case codes.Unimplemented, codes.InvalidArgument:
		return Rejected
	default:
		return Ended
	}
}

// once runs one stream until it ends, which is always an error.
func (s *SecretServer) once(ctx context.Context, name string, set func(body []byte, version string) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := secretv3.NewSecretDiscoveryServiceClient(s.conn)
	if s.config.Delta {
		return s.delta(ctx, client, name, set)
	}
	stream, err := client.StreamSecrets(ctx)
	if err != nil {
		return err
	}
	request := &discoveryv3.DiscoveryRequest{Node: s.node, TypeUrl: secretType, ResourceNames: []string{name}}
	for refused := 0; ; {
		if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		request = &discoveryv3.DiscoveryRequest{
			TypeUrl: secretType, ResourceNames: []string{name},
			VersionInfo: request.GetVersionInfo(), ResponseNonce: response.GetNonce(),
		}
		err = take(response.GetResources(), name, func(body []byte) error { return set(body, response.GetVersionInfo()) })
		if err == nil {
			request.VersionInfo, refused = response.GetVersionInfo(), 0
			continue
		}
		request.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
		if err := s.restrain(ctx, &refused); err != nil {
			return err
		}
	}
}

func (s *SecretServer) delta(ctx context.Context, client secretv3.SecretDiscoveryServiceClient, name string, set func(body []byte, version string) error) error {
	stream, err := client.DeltaSecrets(ctx)
	if err != nil {
		return err
	}
	request := &discoveryv3.DeltaDiscoveryRequest{Node: s.node, TypeUrl: secretType, ResourceNamesSubscribe: []string{name}}
	for refused := 0; ; {
		if err := stream.Send(request); err != nil && !errors.Is(err, io.EOF) {
			return err
		}
		response, err := stream.Recv()
		if err != nil {
			return err
		}
		request = &discoveryv3.DeltaDiscoveryRequest{TypeUrl: secretType, ResponseNonce: response.GetNonce()}
		var bodies []*anypb.Any
		version := ""
		for _, r := range response.GetResources() {
			if r.GetName() == name {
				bodies, version = append(bodies, r.GetResource()), r.GetVersion()
			}
		}
		if err = take(bodies, name, func(body []byte) error { return set(body, version) }); err == nil {
			refused = 0
			continue
		}
		request.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: err.Error()}
		if err := s.restrain(ctx, &refused); err != nil {
			return err
		}
	}
}

// restrain waits before a refusal is told, longer each time: a server may send the
// same again at once.
func (s *SecretServer) restrain(ctx context.Context, refused *int) error {
	wait := time.NewTimer(s.config.Backoff.nack(*refused))
	defer wait.Stop()
	*refused++
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-wait.C:
		return nil
	}
}

// take hands over what a response has of the secret. A response without any is no
// error: what was there stays.
func take(resources []*anypb.Any, name string, set func(body []byte) error) error {
	for _, r := range resources {
		if r.GetTypeUrl() != secretType {
			return fmt.Errorf("a resource of type %q is no secret", r.GetTypeUrl())
		}
		msg := &tlsv3.Secret{}
		if err := proto.Unmarshal(r.GetValue(), msg); err != nil {
			return fmt.Errorf("a secret cannot be read: %w", err)
		}
		if msg.GetName() != name {
			continue // a server may send all that it has
		}
		if err := set(r.GetValue()); err != nil {
			return err
		}
	}
	return nil
}
