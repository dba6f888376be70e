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
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/encoding/protodelim"
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

// record writes what Consul says while everything changes.
func (m *crowd) record(ctx context.Context, file string) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	conn, err := grpc.NewClient(m.consul.GRPCAddr, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	defer conn.Close()
	stream, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("record: %w", err)
	}
	for i, typ := range typesInOrder() {
		request := &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typ}
		if i == 0 {
			request.Node = &corev3.Node{Id: busyID + "-sidecar-proxy"}
		}
		if err := stream.Send(request); err != nil {
			return fmt.Errorf("record: %w", err)
		}
	}
	r := &recording{}
	storm, there := func() int64 { return 0 }, false
	for changes := 0; changes < recordedChanges; {
		response, err := stream.Recv()
		if err != nil {
			storm()
			return fmt.Errorf("record: %w", err)
		}
		r.responses = append(r.responses, response)
		if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: response.GetTypeUrl(), ResponseNonce: response.GetNonce()}); err != nil {
			storm()
			return fmt.Errorf("record: %w", err)
		}
		switch {
		case response.GetTypeUrl() == typeListener && len(response.GetResources()) > 1 && !there:
			there, storm = true, m.storm(ctx) // all is there
		case response.GetTypeUrl() == typeEndpoints && there:
			changes += len(response.GetResources())
		}
	}
	storm()
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
