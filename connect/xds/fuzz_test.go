package xds_test

import (
	"context"
	"log/slog"
	"net"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/encoding"
	_ "google.golang.org/grpc/encoding/proto" // the codec that raw stands in for
	"google.golang.org/grpc/mem"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// raw sends bytes as they are.
type raw struct{ encoding.CodecV2 }

func (r raw) Marshal(v any) (mem.BufferSlice, error) {
	if b, ok := v.([]byte); ok {
		return mem.BufferSlice{mem.SliceBuffer(b)}, nil
	}
	return r.CodecV2.Marshal(v)
}

// hostile sends one message of which nobody knows what it is, and ends the stream
// when it was answered or is not going to be.
type hostile struct{ message chan []byte }

func (h *hostile) serve(_ any, stream grpc.ServerStream) error {
	for range resource.Types() {
		if err := stream.RecvMsg(&discoveryv3.DeltaDiscoveryRequest{}); err != nil {
			return err
		}
	}
	select {
	case message := <-h.message:
		return stream.SendMsg(message)
	case <-stream.Context().Done():
		return stream.Context().Err()
	}
}

// nobody has no use for endpoints.
type nobody struct{}

func (nobody) SetEndpoints(*mesh.EndpointSet) {}

// tracked tells of the end of streams.
type tracked struct {
	ads.Handler
	down chan struct{}
}

func (h tracked) Down(reason *ads.Error) {
	h.Handler.Down(reason)
	h.down <- struct{}{}
}

// tracking is a Source that runs a client under a tracked handler.
type tracking struct {
	client *ads.Client
	down   chan struct{}
}

func (s tracking) Run(ctx context.Context, handler ads.Handler) error {
	return s.client.Run(ctx, tracked{handler, s.down})
}

// FuzzResponse lets a control plane send what it likes, over a real stream and
// into a whole Watcher: nothing of it ends the process or the client.
func FuzzResponse(f *testing.F) {
	for _, typ := range resource.Types() {
		for _, body := range [][]byte{nil, {0xff}, {0x0a, 1, 'x'}} {
			message, err := proto.Marshal(&discoveryv3.DeltaDiscoveryResponse{
				TypeUrl: typ, Nonce: "1", Resources: []*discoveryv3.Resource{{Name: "x", Version: "1", Resource: &anypb.Any{TypeUrl: typ, Value: []byte("x")}}, nil, {Name: "y"}}, RemovedResources: []string{"x", "z"},
			})
			if err != nil {
				f.Fatal(err)
			}
			f.Add(append(message, body...))
		}
	}
	h := &hostile{message: make(chan []byte)}
	listener, err := (&net.ListenConfig{}).Listen(f.Context(), "unix", f.TempDir()+"/s")
	if err != nil {
		f.Fatal(err)
	}
	server := grpc.NewServer(grpc.ForceServerCodecV2(raw{encoding.GetCodecV2("proto")}), grpc.UnknownServiceHandler(h.serve))
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	f.Cleanup(server.Stop)
	client, err := ads.New(ads.Config{
		Target: mesh.Address{Socket: listener.Addr().String()}, Node: ads.Node{ID: "x"}, Types: resource.Types(),
		Backoff: ads.Backoff{Min: 1, Max: 1, Refused: 1, Unavailable: 1},
	})
	if err != nil {
		f.Fatal(err)
	}
	source := tracking{client, make(chan struct{})}
	watcher, err := xds.New(xds.Config{Source: source}, &mesh.Store{}, nobody{}, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		f.Fatal(err)
	}
	go watcher.Run(f.Context()) //nolint:errcheck // ends with the context
	f.Fuzz(func(t *testing.T, message []byte) {
		select {
		case h.message <- message:
		case <-time.After(time.Minute):
			t.Fatal("the client does not come back")
		}
		select {
		case <-source.down:
		case <-time.After(time.Minute):
			t.Fatal("the client does not notice the end of the stream")
		}
	})
}
