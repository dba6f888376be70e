//go:build linux

package main

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/serai-net/serai/integration/harness"
)

// recording is what Consul has said to a sidecar on one stream: a line of JSON, then every response as protobuf with
// its length in front, all through gzip. It holds the sidecar's key, as the stream does.
type recording struct {
	header    recordingHeader
	responses []*discoveryv3.DeltaDiscoveryResponse
}

// recordingHeader is what is needed to stand for the rest of the world.
type recordingHeader struct {
	// Bootstrap is the sidecar's bootstrap file.
	Bootstrap string
	// Certificate and Key are those of the backends, which listen from BackendPort on.
	Certificate, Key string
	BackendPort      int
}

// recordedChanges is how many changed sets of endpoints are recorded.
const recordedChanges = 2000

// typesInOrder is as Envoy asks, all of them by wildcard.
func typesInOrder() []string {
	return []string{typeCluster, typeEndpoints, typeListener, typeRoute}
}

const (
	typePrefix    = "type.googleapis.com/envoy.config."
	typeCluster   = typePrefix + "cluster.v3.Cluster"
	typeEndpoints = typePrefix + "endpoint.v3.ClusterLoadAssignment"
	typeListener  = typePrefix + "listener.v3.Listener"
	typeRoute     = typePrefix + "route.v3.RouteConfiguration"
)

// listen follows Consul's stream to the sidecar until f is false, and answers all of it.
func (m *crowd) listen(ctx context.Context, f func(response *discoveryv3.DeltaDiscoveryResponse) bool) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	conn, err := grpc.NewClient(m.consul.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return fmt.Errorf("listen to Consul: %w", err)
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("listen to Consul: %w", err)
	}
	for i, typ := range typesInOrder() {
		request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ}
		if i == 0 {
			request.Node = &corev3.Node{Id: busyID + "-sidecar-proxy"}
		}
		if err := stream.Send(request); err != nil {
			return fmt.Errorf("listen to Consul: %w", err)
		}
	}
	for {
		response, err := stream.Recv()
		if err != nil {
			return fmt.Errorf("listen to Consul: %w", err)
		}
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}); err != nil {
			return fmt.Errorf("listen to Consul: %w", err)
		}
		if !f(response) {
			return nil
		}
	}
}

// whole tells whether responses have brought all upstreams, with their endpoints.
type whole struct{ listeners, sets map[string]bool }

func (w *whole) add(response *discoveryv3.DeltaDiscoveryResponse, upstreams int) bool {
	if w.listeners == nil {
		w.listeners, w.sets = map[string]bool{}, map[string]bool{}
	}
	for _, r := range response.GetResources() {
		switch response.GetTypeUrl() {
		case typeListener:
			w.listeners[r.GetName()] = true
		case typeEndpoints:
			w.sets[r.GetName()] = true
		}
	}
	return len(w.listeners) > upstreams && len(w.sets) >= upstreams
}

// warm waits until Consul has all that it will tell the sidecar: what it takes it to find out is not the proxy's time.
func (m *crowd) warm(ctx context.Context) error {
	var w whole
	return m.listen(ctx, func(response *discoveryv3.DeltaDiscoveryResponse) bool { return !w.add(response, m.options.upstreams) })
}

// streamAlone takes the time from changes to when the stream tells of them, with no proxy at all.
func (s *scale) streamAlone(ctx context.Context, m *crowd, row *scaleRow) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var now atomic.Uint32
	ended := make(chan error, 1)
	go func() {
		ended <- m.listen(ctx, func(response *discoveryv3.DeltaDiscoveryResponse) bool {
			for _, r := range response.GetResources() {
				if name := healthyName(r, m.names.ports[0]); name != 0 {
					now.Store(uint32(name))
				}
			}
			return true
		})
	}()
	err := harness.Until(ctx, "the stream to begin", func(context.Context) error {
		if now.Load() == 0 {
			return errors.New("it has said nothing")
		}
		return nil
	})
	if err == nil {
		row.effects, err = s.effects(ctx, nil, func(context.Context) (byte, error) { return byte(now.Load()), nil }, m.turn)
	}
	cancel()
	why := <-ended // that we have cancelled it is no error
	if err != nil {
		err = errors.Join(err, why)
	}
	return err
}

// healthyName is the backend that a set of the first upstream calls healthy; 0 if r is none of it.
func healthyName(r *discoveryv3.Resource, first int) byte {
	if !strings.HasPrefix(r.GetName(), serviceName(0)+".") || r.GetResource().GetTypeUrl() != typeEndpoints {
		return 0
	}
	var set endpointv3.ClusterLoadAssignment
	if proto.Unmarshal(r.GetResource().GetValue(), &set) != nil {
		return 0
	}
	for _, group := range set.GetEndpoints() {
		for _, e := range group.GetLbEndpoints() {
			address := e.GetEndpoint().GetAddress().GetSocketAddress()
			if address.GetAddress() == "127.0.0.1" && e.GetHealthStatus() == corev3.HealthStatus_HEALTHY {
				return 'A' + byte(int(address.GetPortValue())-first)
			}
		}
	}
	return 0
}

// record writes what Consul says while everything changes.
func (m *crowd) record(ctx context.Context, file string) error {
	r := &recording{}
	var w whole
	var storm func() int64
	changes := 0
	err := m.listen(ctx, func(response *discoveryv3.DeltaDiscoveryResponse) bool {
		r.responses = append(r.responses, response)
		switch {
		case storm != nil && response.GetTypeUrl() == typeEndpoints:
			changes += len(response.GetResources())
		case storm == nil && w.add(response, m.options.upstreams):
			storm = m.storm(ctx)
		}
		return changes < recordedChanges
	})
	if storm != nil {
		storm()
	}
	if err != nil {
		return err
	}
	text, err := os.ReadFile(m.busy)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	r.header = recordingHeader{Bootstrap: string(text), Certificate: m.leaf.CertPEM, Key: m.leaf.PrivateKeyPEM, BackendPort: m.names.ports[0]}
	return r.write(file)
}

func (r *recording) write(file string) error {
	var text bytes.Buffer
	z := gzip.NewWriter(&text)
	if err := json.NewEncoder(z).Encode(&r.header); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	for _, response := range r.responses {
		if _, err := protodelim.MarshalTo(z, response); err != nil {
			return fmt.Errorf("write %s: %w", file, err)
		}
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("write %s: %w", file, err)
	}
	return os.WriteFile(file, text.Bytes(), 0o600)
}

func readRecording(file string) (*recording, error) {
	text, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("read the recorded stream: %w", err)
	}
	defer text.Close()
	z, err := gzip.NewReader(text)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	in := bufio.NewReader(z)
	line, err := in.ReadBytes('\n')
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	r := &recording{}
	if err := json.Unmarshal(line, &r.header); err != nil {
		return nil, fmt.Errorf("read %s: %w", file, err)
	}
	for {
		response := &discoveryv3.DeltaDiscoveryResponse{}
		err := (protodelim.UnmarshalOptions{MaxSize: 64 << 20}).UnmarshalFrom(in, response)
		if errors.Is(err, io.EOF) {
			return r, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", file, err)
		}
		r.responses = append(r.responses, response)
	}
}
