//go:build linux

package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
)

// replayer is a control plane that says what Consul once said, with the changes of endpoints at a rate of ours.
type replayer struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	// set before it serves
	state   map[string]map[string]*discoveryv3.Resource // by type and name: all that there is
	changes []*discoveryv3.Resource                     // of endpoints, one after the other
	probed  string                                      // the cluster of the probe
	every   time.Duration

	turns chan *discoveryv3.Resource // of the probe's cluster, to be sent at once
	mu    sync.Mutex                 // guards:
	sent  int
}

// replay is a proxy under the recorded stream.
func (s *scale) replay(ctx context.Context, proxy string) (*scaleRow, error) {
	recorded, err := readRecording(s.options.record)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	pair, err := tls.X509KeyPair([]byte(recorded.header.Certificate), []byte(recorded.header.Key))
	if err != nil {
		return nil, fmt.Errorf("leaf of the recorded backends: %w", err)
	}
	if _, err := serveNames(ctx, recorded.header.BackendPort, &pair); err != nil {
		return nil, err
	}
	r, err := newReplayer(recorded, s.options.rate)
	if err != nil {
		return nil, err
	}
	port, err := s.env.Port()
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", local(port))
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	server := grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(server, r)
	go server.Serve(listener) //nolint:errcheck // ends with Stop
	defer server.Stop()
	bootstrap, err := s.toward(recorded.header.Bootstrap, port)
	if err != nil {
		return nil, err
	}
	probe := newVisitor(s.options.upstreams)
	p, row, err := s.first(ctx, proxy, bootstrap, probe)
	if err != nil {
		return nil, err
	}
	defer p.stop(ctx)
	before, began, sent := p.cpu(), time.Now(), r.count()
	if row.effects, err = s.effects(ctx, p, probe.who, r.turn); err != nil {
		return nil, err
	}
	row.cpuShare = float64(p.cpu()-before) / float64(time.Since(began))
	row.rate = float64(r.count()-sent) / time.Since(began).Seconds()
	return row, p.memory(row)
}

// toward writes a bootstrap file whose control plane is at a port here.
func (s *scale) toward(bootstrap string, port int) (string, error) {
	var document any
	if err := json.Unmarshal([]byte(bootstrap), &document); err != nil {
		return "", fmt.Errorf("bootstrap of the recorded stream: %w", err)
	}
	redirect(document, false, port)
	text, err := json.Marshal(document)
	if err != nil {
		return "", fmt.Errorf("bootstrap of the recorded stream: %w", err)
	}
	file := filepath.Join(s.env.Dir(), "replay-"+strconv.Itoa(port)+".json")
	return file, os.WriteFile(file, text, 0o600)
}

// redirect changes the port of the cluster local_agent, wherever it stands.
func redirect(v any, inside bool, port int) {
	switch v := v.(type) {
	case map[string]any:
		inside = inside || v["name"] == "local_agent"
		if _, ok := v["port_value"]; ok && inside {
			v["port_value"] = port
		}
		for _, value := range v {
			redirect(value, inside, port)
		}
	case []any:
		for _, value := range v {
			redirect(value, inside, port)
		}
	}
}

// newReplayer takes the state from before the first change, and then the changes one by one.
func newReplayer(from *recording, rate int) (*replayer, error) {
	r := &replayer{state: map[string]map[string]*discoveryv3.Resource{}, every: time.Second / time.Duration(rate), turns: make(chan *discoveryv3.Resource)}
	upstreams := 0
	for _, response := range from.responses {
		typ := response.GetTypeUrl()
		if r.state[typ] == nil {
			r.state[typ] = map[string]*discoveryv3.Resource{}
		}
		for _, resource := range response.GetResources() {
			switch {
			case typ == typeEndpoints && r.all(upstreams) && !strings.HasPrefix(resource.GetName(), serviceName(0)+"."):
				r.changes = append(r.changes, resource)
			default:
				r.state[typ][resource.GetName()] = resource
			}
			if typ == typeEndpoints && strings.HasPrefix(resource.GetName(), serviceName(0)+".") {
				r.probed = resource.GetName()
			}
		}
		upstreams = max(upstreams, len(r.state[typeCluster])-1)
	}
	if r.probed == "" || len(r.changes) == 0 {
		return nil, errors.New("replay: the recorded stream has no changes of endpoints")
	}
	return r, nil
}

// all tells whether the state has every upstream, so that what comes is a change.
func (r *replayer) all(upstreams int) bool {
	return upstreams > 0 && len(r.state[typeListener]) > upstreams && len(r.state[typeEndpoints]) >= upstreams
}

func (r *replayer) count() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent
}

// turn makes one of the two backends the healthy one.
func (r *replayer) turn(ctx context.Context, to byte) (time.Time, error) {
	var set endpointv3.ClusterLoadAssignment
	body := r.state[typeEndpoints][r.probed]
	if err := proto.Unmarshal(body.GetResource().GetValue(), &set); err != nil {
		return time.Time{}, fmt.Errorf("replay: %w", err)
	}
	first := lowestPort(&set)
	for _, group := range set.GetEndpoints() {
		for _, e := range group.GetLbEndpoints() {
			address := e.GetEndpoint().GetAddress().GetSocketAddress()
			if e.HealthStatus = corev3.HealthStatus_UNHEALTHY; address.GetAddress() == "127.0.0.1" && address.GetPortValue() == first+uint32(to-'A') {
				e.HealthStatus = corev3.HealthStatus_HEALTHY
			}
		}
	}
	text, err := proto.Marshal(&set)
	if err != nil {
		return time.Time{}, fmt.Errorf("replay: %w", err)
	}
	said := time.Now()
	select {
	case r.turns <- &discoveryv3.Resource{Name: r.probed, Version: "turn-" + strconv.FormatInt(said.UnixNano(), 36), Resource: &anypb.Any{TypeUrl: typeEndpoints, Value: text}}:
		return said, nil
	case <-ctx.Done():
		return said, ctx.Err()
	}
}

func lowestPort(set *endpointv3.ClusterLoadAssignment) uint32 {
	lowest := uint32(1 << 16)
	for _, group := range set.GetEndpoints() {
		for _, e := range group.GetLbEndpoints() {
			if address := e.GetEndpoint().GetAddress().GetSocketAddress(); address.GetAddress() == "127.0.0.1" {
				lowest = min(lowest, address.GetPortValue())
			}
		}
	}
	return lowest
}

// DeltaAggregatedResources implements the service: what is asked for is answered at once, and changes come one after
// the other. As Consul does, it waits for the answer to a response before it sends the next one of its type; what
// comes meanwhile goes along.
func (r *replayer) DeltaAggregatedResources(stream discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	requests := make(chan *discoveryv3.DeltaDiscoveryRequest)
	go func() {
		defer close(requests)
		for {
			request, err := stream.Recv()
			if err != nil {
				return
			}
			select {
			case requests <- request:
			case <-stream.Context().Done():
				return
			}
		}
	}()
	t := &talk{replayer: r, stream: stream, asked: map[string]bool{}, waiting: map[string]bool{}, queue: map[string]*discoveryv3.Resource{}}
	tick := time.NewTicker(r.every)
	defer tick.Stop()
	next := rand.N(len(r.changes))
	for {
		var err error
		select {
		case request, ok := <-requests:
			if !ok {
				return nil
			}
			err = t.request(request)
		case turn := <-r.turns:
			t.queue[turn.GetName()] = turn
			err = t.flush()
		case <-tick.C:
			if !t.asked[typeListener] {
				continue // it is still starting
			}
			change := r.changes[next%len(r.changes)]
			next++
			t.queue[change.GetName()] = change
			err = t.flush()
			r.mu.Lock()
			r.sent++
			r.mu.Unlock()
		}
		if err != nil {
			return err
		}
	}
}

// talk is one stream of a replayer.
type talk struct {
	*replayer
	stream  discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	nonce   int
	asked   map[string]bool
	waiting map[string]bool // by nonce of a response of endpoints
	queue   map[string]*discoveryv3.Resource
}

func (t *talk) request(request *discoveryv3.DeltaDiscoveryRequest) error {
	typ := request.GetTypeUrl()
	delete(t.waiting, request.GetResponseNonce())
	if request.GetErrorDetail() != nil {
		return fmt.Errorf("replay: %s refused: %s", typ, request.GetErrorDetail().GetMessage())
	}
	var resources []*discoveryv3.Resource
	switch names := request.GetResourceNamesSubscribe(); {
	case len(names) > 0:
		for _, name := range names {
			if resource := t.state[typ][name]; resource != nil {
				resources = append(resources, resource)
			}
		}
	case t.asked[typ]:
		return t.flush()
	default:
		for _, resource := range t.state[typ] {
			resources = append(resources, resource)
		}
	}
	t.asked[typ] = true
	return t.send(typ, resources)
}

// flush sends what has changed, unless an answer is still to come.
func (t *talk) flush() error {
	if len(t.queue) == 0 || len(t.waiting) > 0 {
		return nil
	}
	var resources []*discoveryv3.Resource
	for _, resource := range t.queue {
		resources = append(resources, resource)
	}
	clear(t.queue)
	return t.send(typeEndpoints, resources)
}

func (t *talk) send(typ string, resources []*discoveryv3.Resource) error {
	t.nonce++
	response := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: typ, Nonce: strconv.Itoa(t.nonce), Resources: resources}
	if typ == typeEndpoints {
		t.waiting[response.GetNonce()] = true
	}
	return t.stream.Send(response)
}
