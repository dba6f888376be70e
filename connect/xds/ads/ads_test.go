package ads_test

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds/ads"
)

const (
	typeA = "type.googleapis.com/a.A"
	typeB = "type.googleapis.com/b.B"
)

type serverStream = grpc.BidiStreamingServer[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// session is one stream as the server sees it.
type session struct {
	stream   serverStream
	requests chan *discoveryv3.DeltaDiscoveryRequest
	finish   chan error // ends the stream
}

// server hands its streams to the test.
type server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	sessions chan *session
	refuse   error
}

func (s *server) DeltaAggregatedResources(stream serverStream) error {
	if s.refuse != nil {
		return s.refuse
	}
	session := &session{stream, make(chan *discoveryv3.DeltaDiscoveryRequest, 100), make(chan error, 1)}
	go func() {
		defer close(session.requests)
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			session.requests <- request
		}
	}()
	s.sessions <- session
	select {
	case err := <-session.finish:
		return err
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

func serve(t *testing.T, network, address string, refuse error) (*server, net.Addr) {
	t.Helper()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{sessions: make(chan *session, 10), refuse: refuse}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	go g.Serve(listener) //nolint:errcheck // ends with Stop
	t.Cleanup(g.Stop)
	return s, listener.Addr()
}

// recorder is a handler that writes down what it is told.
type recorder struct {
	up, silent chan struct{}
	updates    chan *ads.Update
	down       chan *ads.Error
	answer     func(*ads.Update) error
	held       map[string]map[string]string // by type and name, kept as a data plane would
}

func newRecorder() *recorder {
	return &recorder{
		up: make(chan struct{}, 100), silent: make(chan struct{}, 100),
		updates: make(chan *ads.Update, 1000), down: make(chan *ads.Error, 1000),
	}
}

func (r *recorder) Held(typ string) map[string]string { return r.held[typ] }

func (r *recorder) Up()                 { r.up <- struct{}{} }
func (r *recorder) Silent()             { r.silent <- struct{}{} }
func (r *recorder) Down(err *ads.Error) { r.down <- err }
func (r *recorder) Update(u *ads.Update) error {
	r.updates <- u
	if r.held == nil {
		r.held = map[string]map[string]string{}
	}
	if r.held[u.Type] == nil {
		r.held[u.Type] = map[string]string{}
	}
	for _, resource := range u.Resources {
		r.held[u.Type][resource.Name] = resource.Version
	}
	for _, name := range u.Removed {
		delete(r.held[u.Type], name)
	}
	if r.answer != nil {
		return r.answer(u)
	}
	return nil
}

func next[T any](t *testing.T, ch <-chan T, what string) T {
	t.Helper()
	select {
	case v, ok := <-ch:
		if !ok {
			t.Fatalf("%s: closed", what)
		}
		return v
	case <-time.After(time.Minute):
		t.Fatalf("%s: nothing came", what)
	}
	panic("unreachable")
}

func config(addr net.Addr) ads.Config {
	target := mesh.Address{Socket: addr.String()}
	if addr.Network() == "tcp" {
		target = mesh.Address{AddrPort: netip.MustParseAddrPort(addr.String())}
	}
	return ads.Config{
		Target: target, Token: "secret",
		Node:    ads.Node{ID: "web1-sidecar-proxy", Cluster: "web", Metadata: map[string]any{"partition": "default"}},
		Types:   []string{typeA, typeB},
		Backoff: ads.Backoff{Min: 10 * time.Millisecond},
	}
}

func start(t *testing.T, config ads.Config, handler ads.Handler) {
	t.Helper()
	client, err := ads.New(config)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- client.Run(ctx, handler) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v", err)
		}
	})
}

func resourceOf(typ, name, version string) *discoveryv3.Resource {
	return &discoveryv3.Resource{Name: name, Version: version, Resource: &anypb.Any{TypeUrl: typ, Value: []byte(name)}}
}

func (s *session) send(t *testing.T, response *discoveryv3.DeltaDiscoveryResponse) {
	t.Helper()
	if err := s.stream.Send(response); err != nil {
		t.Fatal(err)
	}
}

func TestTrap01SubscribesToAllAndAcknowledges(t *testing.T) {
	t.Parallel()
	srv, addr := serve(t, "tcp", "127.0.0.1:0", nil)
	handler := newRecorder()
	start(t, config(addr), handler)
	s := next(t, srv.sessions, "stream")
	if md, _ := metadata.FromIncomingContext(s.stream.Context()); !cmp.Equal(md.Get("x-consul-token"), []string{"secret"}) {
		t.Errorf("token: got %v", md)
	}
	for i, typ := range []string{typeA, typeB} {
		r := next(t, s.requests, "subscription")
		if r.GetTypeUrl() != typ || len(r.GetResourceNamesSubscribe()) != 0 || r.GetResponseNonce() != "" {
			t.Errorf("subscription %d: got %v", i, r)
		}
		if (r.GetNode() != nil) != (i == 0) {
			t.Errorf("subscription %d: node is %v", i, r.GetNode())
		}
		if i == 0 {
			version := r.GetNode().GetUserAgentBuildVersion().GetVersion()
			if r.GetNode().GetId() != "web1-sidecar-proxy" || r.GetNode().GetUserAgentName() != "envoy" || version.GetMinorNumber() != 35 ||
				r.GetNode().GetMetadata().GetFields()["partition"].GetStringValue() != "default" {
				t.Errorf("node: got %v", r.GetNode())
			}
		}
	}
	next(t, handler.up, "up")
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1", Resources: []*discoveryv3.Resource{resourceOf(typeA, "x", "v1")}})
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeB, Nonce: "2"})
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "3", RemovedResources: []string{"x"}})
	want := []*ads.Update{
		{Type: typeA, First: true, Resources: []ads.Resource{{Name: "x", Version: "v1", Body: []byte("x")}}},
		{Type: typeB, First: true},
		{Type: typeA, Removed: []string{"x"}},
	}
	for i, nonce := range []string{"1", "2", "3"} {
		if diff := cmp.Diff(want[i], next(t, handler.updates, "update")); diff != "" {
			t.Errorf("update %d: %s", i, diff)
		}
		ack := next(t, s.requests, "ack")
		if ack.GetResponseNonce() != nonce || ack.GetErrorDetail() != nil || ack.GetTypeUrl() != want[i].Type {
			t.Errorf("ack %d: got %v", i, ack)
		}
	}
}

func TestTrap02NackIsLateAndNeverHot(t *testing.T) {
	t.Parallel()
	srv, addr := serve(t, "tcp", "127.0.0.1:0", nil)
	handler := newRecorder()
	handler.answer = func(*ads.Update) error { return errors.New("garbage") }
	c := config(addr)
	c.Backoff.Min = 25 * time.Millisecond
	start(t, c, handler)
	s := next(t, srv.sessions, "stream")
	next(t, s.requests, "subscription")
	next(t, s.requests, "subscription")
	began, nacks := time.Now(), 0
	for time.Since(began) < 600*time.Millisecond {
		s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "n", Resources: []*discoveryv3.Resource{resourceOf(typeA, "x", "v1")}})
		nack := next(t, s.requests, "nack") // Consul sends the same again at once
		if nack.GetErrorDetail().GetMessage() != "garbage" || nack.GetResponseNonce() != "n" {
			t.Fatalf("got %v", nack)
		}
		nacks++
	}
	if nacks > 4 {
		t.Errorf("%d NACKs in %v", nacks, time.Since(began))
	}
}

func TestWrongTypeIsNacked(t *testing.T) {
	t.Parallel()
	srv, addr := serve(t, "tcp", "127.0.0.1:0", nil)
	handler := newRecorder()
	start(t, config(addr), handler)
	s := next(t, srv.sessions, "stream")
	next(t, s.requests, "subscription")
	next(t, s.requests, "subscription")
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "n", Resources: []*discoveryv3.Resource{resourceOf(typeB, "x", "v1")}})
	if nack := next(t, s.requests, "nack"); !strings.Contains(nack.GetErrorDetail().GetMessage(), typeB) {
		t.Errorf("got %v", nack)
	}
}

func TestResumesWithVersions(t *testing.T) {
	t.Parallel()
	srv, addr := serve(t, "tcp", "127.0.0.1:0", nil)
	handler := newRecorder()
	start(t, config(addr), handler)
	s := next(t, srv.sessions, "stream")
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1", Resources: []*discoveryv3.Resource{
		resourceOf(typeA, "x", "v1"), resourceOf(typeA, "y", "v1"),
	}})
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "2", Resources: []*discoveryv3.Resource{resourceOf(typeA, "x", "v2")}, RemovedResources: []string{"y"}})
	for range 4 {
		next(t, s.requests, "subscription or ack")
	}
	s.finish <- status.Error(codes.ResourceExhausted, "too many xDS streams")
	if err := next(t, handler.down, "down"); err.Kind != ads.Unavailable || !err.Connected {
		t.Errorf("got %v", err)
	}
	s = next(t, srv.sessions, "second stream")
	first := next(t, s.requests, "subscription")
	if diff := cmp.Diff(map[string]string{"x": "v2"}, first.GetInitialResourceVersions()); diff != "" || first.GetNode() == nil {
		t.Errorf("%s%v", diff, first.GetNode())
	}
	if second := next(t, s.requests, "subscription"); len(second.GetInitialResourceVersions()) != 0 {
		t.Errorf("got %v", second)
	}
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1"})
	for range 3 {
		u := next(t, handler.updates, "update")
		if want := len(u.Removed) == 0; u.First != want {
			t.Errorf("first is %v: %v", u.First, u)
		}
	}
}

func TestSilence(t *testing.T) {
	t.Parallel()
	srv, addr := serve(t, "unix", filepath.Join(t.TempDir(), "grpc.sock"), nil)
	handler := newRecorder()
	c := config(addr)
	c.Silence = 50 * time.Millisecond
	start(t, c, handler)
	s := next(t, srv.sessions, "stream")
	next(t, handler.silent, "silence")
	s.send(t, &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typeA, Nonce: "1"}) // still waiting
	next(t, handler.updates, "update")
	if len(handler.down) != 0 {
		t.Errorf("got %v", <-handler.down)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		refuse error
		token  string
		kind   ads.Kind
		want   string
	}{
		{"denied", status.Error(codes.PermissionDenied, "no"), "x", ads.Denied, `token denied by Consul at`},
		{"denied for", status.Error(codes.Unauthenticated, "no"), "x", ads.Denied, `it needs service:write on "web"`},
		{"no token", status.Error(codes.PermissionDenied, "no"), "", ads.Denied, `wants a token, and none is given`},
		{"rejected", status.Error(codes.InvalidArgument, "version"), "x", ads.Rejected, `does not take proxy "web1-sidecar-proxy": version`},
		{"aborted", status.Error(codes.Aborted, "gone"), "x", ads.Ended, "has ended: gone"},
		{"unavailable", status.Error(codes.Unavailable, "later"), "x", ads.Ended, "has ended: later"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, addr := serve(t, "tcp", "127.0.0.1:0", tt.refuse)
			handler := newRecorder()
			c := config(addr)
			c.Token = tt.token
			start(t, c, handler)
			if err := next(t, handler.down, "down"); err.Kind != tt.kind || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got kind %d: %v, want %d: %s", err.Kind, err, tt.kind, tt.want)
			}
		})
	}
}

func TestFindsAnAgentThatComesBack(t *testing.T) {
	t.Parallel()
	listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := listener.Addr()
	if err := listener.Close(); err != nil {
		t.Fatal(err)
	}
	handler := newRecorder()
	c := config(addr)
	c.Backoff.Refused = 100 * time.Millisecond
	start(t, c, handler)
	for range 20 { // long enough for waits to have grown
		e := next(t, handler.down, "down")
		if e.Kind != ads.Unreachable || !strings.Contains(e.Error(), "not reachable at "+addr.String()+": is the agent running and its grpc port open?") {
			t.Fatalf("got kind %d: %v", e.Kind, e)
		}
	}
	// Unbounded, the wait would be half a minute by now, which next does not give.
	srv, _ := serve(t, "tcp", addr.String(), nil)
	next(t, srv.sessions, "stream")
}

func TestNewErrors(t *testing.T) {
	t.Parallel()
	addr := mesh.Address{Socket: "x"}
	for want, c := range map[string]ads.Config{
		"no node ID":    {Target: addr},
		"no address":    {Node: ads.Node{ID: "a"}},
		"node metadata": {Target: addr, Node: ads.Node{ID: "a", Metadata: map[string]any{"a": make(chan int)}}},
	} {
		if _, err := ads.New(c); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}
