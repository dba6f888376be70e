package ads

import (
	"context"
	"crypto/tls"
	"fmt"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/metadata"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// Limits and defaults.
const (
	maxMessage       = 64 << 20
	maxDetail        = 4 << 10 // of the text of a NACK
	keepaliveEvery   = 30 * time.Second
	keepaliveTimeout = 20 * time.Second
	connectTimeout   = 5 * time.Second
	tokenHeader      = "x-consul-token"
)

// Node is who asks.
type Node struct {
	// ID of the proxy service in Consul; Cluster is the service it stands for.
	ID, Cluster string
	// Metadata as in the bootstrap file.
	Metadata map[string]any
	// Envoy is the version of Envoy that we say we are, as x.y.z: Consul chooses by
	// it what it sends. "" means 1.35.8.
	Envoy string
}

// Config says where the control plane is and what is asked of it.
type Config struct {
	// Target is the address of the Consul agent's gRPC port or socket.
	Target mesh.Address
	// TLS is nil for plain text. Without a ServerName the certificate must be for
	// the address that is dialled, "localhost" for a unix socket.
	TLS *tls.Config
	// Token goes along with each stream, also if it is "".
	Token string
	Node  Node
	// Types are the type URLs to subscribe to, in this order.
	Types []string
	// Silence is after how long without any resource the handler is told; 0
	// means 10 s.
	Silence time.Duration
	// Backoff bounds how long to wait before the next try.
	Backoff Backoff
}

// Resource is one resource as it came. Body is not to be changed.
type Resource struct {
	Name, Version string
	Body          []byte
}

// Update is one response.
type Update struct {
	// Type is the URL of all its resources.
	Type string
	// First says that it is the first one of its type on this stream.
	First     bool
	Resources []Resource
	// Removed are names of resources that are no more.
	Removed []string
	// Version is what the control plane calls all that it has sent, and ControlPlane
	// what it calls itself; "" if it does not say, as Consul does not.
	Version, ControlPlane string
}

// Handler is told what happens on the stream. Its methods are called by one
// goroutine, one after the other, and hold up the stream while they run.
type Handler interface {
	// Held returns the versions of the resources of a type that are held, by name.
	// It is asked when a stream opens, so that only what differs is sent
	// (initial_resource_versions). It must name nothing that was dropped: that
	// would never come again.
	Held(typ string) map[string]string
	// Up tells that a stream is open.
	Up()
	// Update handles a response. An error means that some of its bytes are no
	// resources, and ends in a NACK; what is good in it may be taken all the same.
	Update(update *Update) error
	// Silent tells that the control plane has sent nothing at all for a while.
	Silent()
	// Down tells that the stream has ended, or could not be opened.
	Down(reason *Error)
}

// Client keeps a stream to the control plane. Make one with New.
type Client struct {
	config Config
	// owned by Run:
	heard bool // the control plane has sent something
}

// New returns a client that has not connected yet.
func New(config Config) (*Client, error) {
	if config.Node.ID == "" {
		return nil, fmt.Errorf("ads: no node ID")
	}
	if config.Target == (mesh.Address{}) {
		return nil, fmt.Errorf("ads: no address of the control plane")
	}
	if _, err := nodeOf(&config.Node); err != nil {
		return nil, fmt.Errorf("ads: node metadata: %w", err)
	}
	if config.Silence == 0 {
		config.Silence = 10 * time.Second
	}
	config.Backoff.defaults()
	return &Client{config: config}, nil
}

// Run keeps a stream until ctx ends, and returns then.
func (c *Client) Run(ctx context.Context, handler Handler) error {
	var last Kind
	for tries := 0; ; tries++ {
		began := time.Now()
		reason := c.once(ctx, handler)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if reason.Connected && time.Since(began) > c.config.Backoff.Stable {
			tries = 0
		}
		if reason.Kind != last { // another trouble: what was waited for has changed
			tries, last = 0, reason.Kind
		}
		handler.Down(reason)
		wait := time.NewTimer(c.config.Backoff.next(tries, reason.Kind, rand.Float64()))
		select {
		case <-ctx.Done():
			wait.Stop()
			return ctx.Err()
		case <-wait.C:
		}
	}
}

// dialer dials the target and remembers why it could not.
type dialer struct {
	target mesh.Address
	mu     sync.Mutex // guards:
	err    error
}

func (d *dialer) dial(ctx context.Context, _ string) (net.Conn, error) {
	conn, err := (&net.Dialer{Timeout: connectTimeout}).DialContext(ctx, d.target.Network(), d.target.String())
	d.mu.Lock()
	d.err = err
	d.mu.Unlock()
	return conn, err
}

func (d *dialer) failed() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.err
}

// secured is the TLS configuration with the name that the server is called by: what
// it says, or else the host that is dialled.
func (c *Client) secured() *tls.Config {
	config := c.config.TLS.Clone()
	switch {
	case config.ServerName != "":
	case c.config.Target.Socket != "":
		config.ServerName = "localhost"
	default:
		config.ServerName = c.config.Target.AddrPort.Addr().Unmap().String()
	}
	return config
}

// once opens one connection and runs one stream on it.
func (c *Client) once(ctx context.Context, handler Handler) *Error {
	dialer := &dialer{target: c.config.Target}
	creds, authority := insecure.NewCredentials(), "consul"
	if c.config.TLS != nil {
		secured := c.secured()
		// grpc wants both names to be one.
		creds, authority = credentials.NewTLS(secured), secured.ServerName
	}
	conn, err := grpc.NewClient("passthrough:///"+c.config.Target.String(),
		grpc.WithTransportCredentials(creds),
		grpc.WithContextDialer(dialer.dial),
		grpc.WithNoProxy(),
		grpc.WithAuthority(authority),
		grpc.WithDisableServiceConfig(),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: backoff.DefaultConfig, MinConnectTimeout: connectTimeout}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveEvery, Timeout: keepaliveTimeout}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)),
	)
	if err != nil {
		return c.classify(err, nil, false)
	}
	defer conn.Close()
	ctx, cancel := context.WithCancel(metadata.AppendToOutgoingContext(ctx, tokenHeader, c.config.Token))
	defer cancel()
	rpc, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return c.classify(err, dialer.failed(), false)
	}
	s := &stream{client: c, rpc: rpc, handler: handler, cancel: cancel}
	err = s.run(ctx)
	return c.classify(err, nil, true)
}
