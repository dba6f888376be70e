package xds_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	aggregatev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/clusters/aggregate/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// source is a control plane in the test's hand.
type source struct {
	handler ads.Handler
	started chan struct{}
}

func (s *source) Run(ctx context.Context, handler ads.Handler) error {
	s.handler = handler
	close(s.started)
	<-ctx.Done()
	return ctx.Err()
}

// rig is a Watcher with all that it needs.
type rig struct {
	t       *testing.T
	source  *source
	store   *mesh.Store
	watcher *xds.Watcher

	mu     sync.Mutex // guards:
	sets   map[string]*mesh.EndpointSet
	pushes int
	steps  []string
	refuse error
	dead   map[string]bool
	probes int
	logs   strings.Builder
}

// SetEndpoints implements [xds.Endpoints].
func (r *rig) SetEndpoints(set *mesh.EndpointSet) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sets[set.Name] = set
	r.pushes++
}

// stage writes down when it is called.
type stage struct {
	rig  *rig
	name string
}

func (s stage) Prepare(next *mesh.Snapshot) (func(), error) {
	s.rig.mu.Lock()
	defer s.rig.mu.Unlock()
	s.rig.steps = append(s.rig.steps, "prepare "+s.name)
	if s.rig.refuse != nil && s.name == "second" {
		return nil, s.rig.refuse
	}
	return func() {
		s.rig.mu.Lock()
		defer s.rig.mu.Unlock()
		s.rig.steps = append(s.rig.steps, "commit "+s.name)
	}, nil
}

func (r *rig) probe(ctx context.Context, addr mesh.Address) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.probes++
	if r.dead[addr.String()] {
		return errors.New("connection refused")
	}
	return ctx.Err()
}

func (r *rig) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.logs.Write(p)
}

// begin makes a rig within a synctest bubble, with the stream up.
func begin(t *testing.T) *rig {
	t.Helper()
	r, _ := beginWith(t, func(*xds.Config) {})
	r.source.handler.Up()
	return r
}

// beginWith makes a rig whose stream is not up yet; what it returns ends its Watcher.
func beginWith(t *testing.T, change func(*xds.Config)) (*rig, func()) {
	t.Helper()
	r := &rig{
		t: t, source: &source{started: make(chan struct{})}, store: &mesh.Store{},
		sets: map[string]*mesh.EndpointSet{}, dead: map[string]bool{},
	}
	log := slog.New(slog.NewTextHandler(r, &slog.HandlerOptions{Level: slog.LevelDebug}))
	var err error
	config := xds.Config{
		Source: r.source, Probe: r.probe,
		ADS: ads.Config{Node: ads.Node{ID: "web1"}, Target: mesh.Address{Socket: "/consul"}},
	}
	change(&config)
	r.watcher, err = xds.New(config, r.store, r, []xds.Stage{stage{r, "first"}, stage{r, "second"}}, log)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- r.watcher.Run(ctx) }()
	end := sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: got %v", err)
		}
	})
	t.Cleanup(end)
	<-r.source.started
	return r, end
}

// reconnect loses the stream and opens it again.
func (r *rig) reconnect() {
	r.source.handler.Down(&ads.Error{Kind: ads.Ended})
	r.pass(time.Second)
	r.source.handler.Up()
}

func (r *rig) update(typ string, resources ...proto.Message) {
	r.t.Helper()
	r.change(typ, nil, resources...)
}

// resource is what the control plane sends of m.
func (r *rig) resource(m proto.Message) ads.Resource {
	r.t.Helper()
	body, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		r.t.Fatal(err)
	}
	name := ""
	switch m := m.(type) {
	case interface{ GetName() string }:
		name = m.GetName()
	case *endpointv3.ClusterLoadAssignment:
		name = m.GetClusterName()
	}
	return ads.Resource{Name: name, Version: "v", Body: body}
}

func (r *rig) change(typ string, removed []string, resources ...proto.Message) {
	r.t.Helper()
	update := &ads.Update{Type: typ, Removed: removed}
	for _, m := range resources {
		update.Resources = append(update.Resources, r.resource(m))
	}
	if err := r.source.handler.Update(update); err != nil {
		r.t.Errorf("update of %s: %v", typ, err)
	}
	synctest.Wait()
}

// endpoints is how many healthy endpoints of a set are in force, -1 for none.
func (r *rig) endpoints(name string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.sets[name] == nil {
		return -1
	}
	return r.sets[name].Healthy()
}

// pass lets time go by in the bubble.
func (r *rig) pass(d time.Duration) {
	time.Sleep(d) //nolint:forbidigo // the bubble's clock jumps
	synctest.Wait()
}

func (r *rig) locked(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	f()
}

// logged counts the lines of the log that have text.
func (r *rig) logged(text string) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := 0
	for line := range strings.SplitSeq(r.logs.String(), "\n") {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// wantForce compares the snapshot in force.
func (r *rig) wantForce(want string) {
	r.t.Helper()
	got := "none"
	if s := r.store.Load(); s != nil {
		got = fmt.Sprintf("listeners %v routes %v clusters %v", names(s.Listeners), names(s.Routes), names(s.Clusters))
	}
	if got != want {
		r.t.Errorf("in force:\n got %s\nwant %s", got, want)
	}
}

func edsCluster(name string, timeout int) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		Name: name, AltStatName: fmt.Sprint(timeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS},
		EdsClusterConfig: &clusterv3.Cluster_EdsClusterConfig{
			EdsConfig: &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}},
		},
	}
	return c
}

func staticCluster(name string) *clusterv3.Cluster {
	return &clusterv3.Cluster{Name: name, LoadAssignment: claWith(name, 1)}
}

func aggregate(t *testing.T, name string, members ...string) *clusterv3.Cluster {
	t.Helper()
	return &clusterv3.Cluster{
		Name: name, LbPolicy: clusterv3.Cluster_CLUSTER_PROVIDED,
		ClusterDiscoveryType: &clusterv3.Cluster_ClusterType{ClusterType: &clusterv3.Cluster_CustomClusterType{
			Name: "envoy.clusters.aggregate", TypedConfig: typed(t, &aggregatev3.ClusterConfig{Clusters: members}),
		}},
	}
}

// claWith has that many healthy endpoints; a negative number counts unhealthy
// ones.
func claWith(name string, healthy int) *endpointv3.ClusterLoadAssignment {
	status := corev3.HealthStatus_HEALTHY
	if healthy < 0 {
		status, healthy = corev3.HealthStatus_UNHEALTHY, -healthy
	}
	group := &endpointv3.LocalityLbEndpoints{}
	for i := range healthy {
		group.LbEndpoints = append(group.LbEndpoints, &endpointv3.LbEndpoint{
			HealthStatus:   status,
			HostIdentifier: &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: tcpAddress(uint32(1000 + i))}},
		})
	}
	return &endpointv3.ClusterLoadAssignment{ClusterName: name, Endpoints: []*endpointv3.LocalityLbEndpoints{group}}
}

func tcpAddress(port uint32) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: netip.IPv6Loopback().String(), PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: port},
	}}}
}

func typed(t *testing.T, m proto.Message) *anypb.Any {
	t.Helper()
	out, err := anypb.New(m)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func listenerOf(t *testing.T, name string, port uint32, filter proto.Message) *listenerv3.Listener {
	t.Helper()
	return &listenerv3.Listener{
		Name: name, Address: tcpAddress(port), TrafficDirection: corev3.TrafficDirection_OUTBOUND,
		FilterChains: []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{
			Name: "f", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: typed(t, filter)},
		}}}},
	}
}

func tcpListener(t *testing.T, name string, port uint32, cluster string) *listenerv3.Listener {
	t.Helper()
	return listenerOf(t, name, port, &tcpv3.TcpProxy{StatPrefix: name, ClusterSpecifier: &tcpv3.TcpProxy_Cluster{Cluster: cluster}})
}

func rdsListener(t *testing.T, name string, port uint32) *listenerv3.Listener {
	t.Helper()
	return listenerOf(t, name, port, &hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{
			RouteConfigName: "api",
			ConfigSource:    &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}},
		}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "r", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: typed(t, &routerv3.Router{})},
		}},
	})
}

func routeTo(name, cluster string) *routev3.RouteConfiguration {
	return &routev3.RouteConfiguration{Name: name, VirtualHosts: []*routev3.VirtualHost{{
		Domains: []string{"*"},
		Routes: []*routev3.Route{{
			Match:  &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}},
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: cluster}}},
		}},
	}}}
}

// bring puts a cluster "api" with two healthy endpoints and a listener in force.
func (r *rig) bring() {
	r.t.Helper()
	r.update(resource.ClusterType, edsCluster("api", 1))
	r.update(resource.EndpointsType, claWith("api", 2))
	r.update(resource.ListenerType, tcpListener(r.t, "api:1", 1, "api"))
	r.wantForce("listeners [api:1] routes [] clusters [api]")
}
