package ads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	typev3 "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/structpb"
)

// The Envoy that we say we are, unless the node says otherwise: Consul chooses by
// it what it sends.
const (
	agentName    = "envoy"
	agentVersion = "1.35.8"
)

// rpcStream is the stream of grpc.
type rpcStream = grpc.BidiStreamingClient[discoveryv3.DeltaDiscoveryRequest, discoveryv3.DeltaDiscoveryResponse]

// stream is one open stream. One goroutine receives, the one that called run
// does all else.
type stream struct {
	client  *Client
	rpc     rpcStream
	handler Handler
	cancel  context.CancelFunc
	// owned by run:
	seen  map[string]bool
	nacks map[string]int // in a row, by type
}

// received is what the receiver hands over.
type received struct {
	response *discoveryv3.DeltaDiscoveryResponse
	err      error
}

// run subscribes and answers until the stream ends.
func (s *stream) run(ctx context.Context) error {
	s.seen, s.nacks = map[string]bool{}, map[string]int{}
	if err := s.subscribe(); err != nil {
		return err
	}
	s.handler.Up()
	responses, done := make(chan received), make(chan struct{})
	go s.receive(ctx, responses, done)
	defer func() { s.cancel(); <-done }()

	silence := time.NewTimer(s.client.config.Silence)
	defer silence.Stop()
	late := &nackQueue{}
	defer late.stop()
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-silence.C:
			if !s.client.heard {
				s.handler.Silent()
			}
		case <-late.due():
			if err := s.send(late.pop()); err != nil {
				return err
			}
		case r := <-responses:
			if r.err != nil {
				return r.err
			}
			if err := s.answer(r.response, late); err != nil {
				return err
			}
		}
	}
}

func (s *stream) receive(ctx context.Context, responses chan<- received, done chan<- struct{}) {
	defer close(done)
	for {
		response, err := s.rpc.Recv()
		select {
		case responses <- received{response, err}:
		case <-ctx.Done():
			return
		}
		if err != nil {
			return
		}
	}
}

// subscribe asks for all resources of every type: that is what a subscription
// without names means. The node is read from the first request only.
func (s *stream) subscribe() error {
	node, err := nodeOf(&s.client.config.Node)
	if err != nil {
		return err
	}
	for _, typ := range s.client.config.Types {
		request := &discoveryv3.DeltaDiscoveryRequest{
			Node: node, TypeUrl: typ, InitialResourceVersions: s.handler.Held(typ),
		}
		node = nil
		if err := s.send(request); err != nil {
			return err
		}
	}
	return nil
}

// send sends a request. That the stream has ended is no error here: why it has,
// only the receiver learns, and run hears of it from there.
func (s *stream) send(request *discoveryv3.DeltaDiscoveryRequest) error {
	if err := s.rpc.Send(request); err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	return nil
}

// answer hands a response to the handler and acknowledges it.
func (s *stream) answer(response *discoveryv3.DeltaDiscoveryResponse, late *nackQueue) error {
	typ := response.GetTypeUrl()
	s.client.heard = true
	if !slices.Contains(s.client.config.Types, typ) {
		return nil // nobody asked for it, and Envoy says nothing to it either
	}
	update := &Update{
		Type: typ, First: !s.seen[typ], Removed: response.GetRemovedResources(),
		Version: response.GetSystemVersionInfo(), ControlPlane: response.GetControlPlane().GetIdentifier(),
	}
	bad := update.read(response)
	err := errors.Join(bad, s.handler.Update(update))
	request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ, ResponseNonce: response.GetNonce()}
	if err == nil {
		s.seen[typ], s.nacks[typ] = true, 0
		return s.send(request)
	}
	request.ErrorDetail = &status.Status{Code: int32(codes.InvalidArgument), Message: cut(err.Error())}
	late.push(request, s.client.config.Backoff.nack(s.nacks[typ]))
	s.nacks[typ]++
	return nil // the control plane is told, the stream goes on
}

// cut bounds what is told of a response: the control plane logs it.
func cut(text string) string { return text[:min(len(text), maxDetail)] }

// read takes the resources of a response, save those of another type.
func (u *Update) read(response *discoveryv3.DeltaDiscoveryResponse) error {
	var bad []error
	for _, r := range response.GetResources() {
		if got := r.GetResource().GetTypeUrl(); got != u.Type {
			bad = append(bad, fmt.Errorf("resource %q of type %q in a response of type %q", r.GetName(), got, u.Type))
			continue
		}
		u.Resources = append(u.Resources, Resource{
			Name: r.GetName(), Version: r.GetVersion(), Body: r.GetResource().GetValue(),
		})
	}
	return errors.Join(bad...)
}

func nodeOf(node *Node) (*corev3.Node, error) {
	version := &typev3.SemanticVersion{}
	number := cmp.Or(node.Envoy, agentVersion)
	if _, err := fmt.Sscanf(number, "%d.%d.%d", &version.MajorNumber, &version.MinorNumber, &version.Patch); err != nil {
		return nil, fmt.Errorf("version %q of Envoy: it is written as 1.35.8: %w", number, err)
	}
	out := &corev3.Node{
		Id: node.ID, Cluster: node.Cluster, UserAgentName: agentName,
		UserAgentVersionType: &corev3.Node_UserAgentBuildVersion{UserAgentBuildVersion: &corev3.BuildVersion{Version: version}},
	}
	if len(node.Metadata) == 0 {
		return out, nil
	}
	var err error
	out.Metadata, err = structpb.NewStruct(node.Metadata)
	return out, err
}
