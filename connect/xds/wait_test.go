package xds_test

import (
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tlsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/transport_sockets/tls/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/serai-net/serai/connect/xds/resource"
)

// waitingCluster and the others are resources that wait for so long for what they name.
func waitingCluster(name string, wait time.Duration) *clusterv3.Cluster {
	c := edsCluster(name, 1)
	c.EdsClusterConfig.EdsConfig.InitialFetchTimeout = durationpb.New(wait)
	return c
}

func waitingRoutes(t *testing.T, name string, wait time.Duration) *listenerv3.Listener {
	t.Helper()
	l, hcm := rdsListener(t, name, 1), &hcmv3.HttpConnectionManager{}
	filter := l.FilterChains[0].Filters[0]
	if err := filter.GetTypedConfig().UnmarshalTo(hcm); err != nil {
		t.Fatal(err)
	}
	hcm.GetRds().ConfigSource.InitialFetchTimeout = durationpb.New(wait)
	filter.ConfigType = &listenerv3.Filter_TypedConfig{TypedConfig: typed(t, hcm)}
	return l
}

func waitingSecret(t *testing.T, name string, wait time.Duration) *listenerv3.Listener {
	t.Helper()
	l, down := secretListener(t, name, 1, "web"), &tlsv3.DownstreamTlsContext{}
	socket := l.FilterChains[0].TransportSocket
	if err := socket.GetTypedConfig().UnmarshalTo(down); err != nil {
		t.Fatal(err)
	}
	down.CommonTlsContext.TlsCertificateSdsSecretConfigs[0].SdsConfig.InitialFetchTimeout = durationpb.New(wait)
	socket.ConfigType = &corev3.TransportSocket_TypedConfig{TypedConfig: typed(t, down)}
	return l
}

// initial_fetch_timeout says how long endpoints, routes and secrets are waited for; 0 is
// without end, as with Envoy.
func TestInitialFetchTimeout(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		resources func(t *testing.T, wait time.Duration) (cluster *clusterv3.Cluster, listener *listenerv3.Listener)
		comes     string // the type of what is waited for, and what it is
		what      proto.Message
	}{
		"endpoints": {func(t *testing.T, wait time.Duration) (*clusterv3.Cluster, *listenerv3.Listener) {
			t.Helper()
			return waitingCluster("api", wait), tcpListener(t, "l", 1, "api")
		}, resource.EndpointsType, claWith("api", 1)},
		"routes": {func(t *testing.T, wait time.Duration) (*clusterv3.Cluster, *listenerv3.Listener) {
			t.Helper()
			return staticCluster("api"), waitingRoutes(t, "l", wait)
		}, resource.RouteType, routeTo("api", "api")},
		"secret": {func(t *testing.T, wait time.Duration) (*clusterv3.Cluster, *listenerv3.Listener) {
			t.Helper()
			return staticCluster("api"), waitingSecret(t, "l", wait)
		}, resource.SecretType, nil},
	} {
		for _, wait := range []time.Duration{3 * time.Second, time.Minute, 0} {
			t.Run(name+" "+wait.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					r := begin(t)
					cluster, listener := tt.resources(t, wait)
					r.update(resource.ClusterType, cluster)
					r.update(resource.ListenerType, listener)
					if wait > 0 {
						r.pass(wait - time.Millisecond)
					} else {
						r.pass(24 * time.Hour)
					}
					if s := r.store.Load(); s != nil && len(s.Listeners) > 0 || r.ready() {
						t.Fatal("it is not waited for")
					}
					if wait > 0 {
						r.pass(time.Millisecond)
					} else {
						what := tt.what
						if what == nil {
							dir := t.TempDir()
							writePair(t, dir)
							what = fileSecret(dir)
						}
						r.update(tt.comes, what)
					}
					if s := r.store.Load(); s == nil || s.Listeners["l"] == nil || !r.ready() {
						t.Error("it is waited for no more, and yet not served")
					}
				})
			})
		}
	}
}

// A wait for routes that comes to its end is counted once, and an endpoint set that is taken away.
func TestWaitsAndRemovalsAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		r.bring()
		routed := rdsListener(t, "routed", 3)
		r.update(resource.ListenerType, routed)
		counted := func() [2]uint64 {
			return [2]uint64{r.watcher.Updates(resource.RouteType)["api"].TimedOut, r.watcher.Updates(resource.EndpointsType)["api"].Empty}
		}
		if got := counted(); got != [2]uint64{} {
			t.Errorf("at first %v", got)
		}
		r.pass(time.Minute)
		r.update(resource.ListenerType, routed, tcpListener(t, "other", 4, "api"))
		r.change(resource.EndpointsType, []string{"api", "unknown"})
		if got := counted(); got != [2]uint64{1, 1} {
			t.Errorf("after its time %v", got)
		}
		r.update(resource.RouteType, routeTo("api", "api"))
		r.change(resource.RouteType, []string{"api"})
		r.pass(time.Minute)
		r.change(resource.ClusterType, []string{"api"})
		r.change(resource.ListenerType, []string{"routed", "other", "api:1"})
		r.pass(time.Minute)
		if got := counted(); got != [2]uint64{} {
			t.Errorf("what is gone is still counted: %v", got)
		}
	})
}

// What never came, or could not be read, is not counted any longer than it is needed.
func TestCountsOfWhatNeverCame(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		r.bring()
		r.update(resource.ClusterType, edsCluster("api", 1), edsCluster("late", 1))
		r.update(resource.ListenerType, rdsListener(t, "routed", 3), tcpListener(t, "late:4", 4, "late"))
		r.pass(time.Minute)
		counted := func() [2]int {
			return [2]int{len(r.watcher.Updates(resource.RouteType)), len(r.watcher.Updates(resource.EndpointsType))}
		}
		if got := r.watcher.Updates(resource.RouteType)["api"].TimedOut; got != 1 {
			t.Errorf("the table has timed out %d times", got)
		}
		if got := counted(); got != [2]int{1, 2} {
			t.Errorf("counted %v", got)
		}
		r.change(resource.ListenerType, []string{"routed", "late:4"})
		r.change(resource.ClusterType, []string{"late"})
		r.pass(time.Minute)
		if got := counted(); got != [2]int{0, 1} {
			t.Errorf("what is gone is still counted: %v", got)
		}
	})
}

// Two chains that wait for one table for different times count once each.
func TestWaitsOfTwoChains(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		r.bring()
		l := rdsListener(t, "routed", 3)
		l.FilterChains[0].FilterChainMatch = &listenerv3.FilterChainMatch{TransportProtocol: "tls"}
		l.FilterChains = append(l.FilterChains, waitingRoutes(t, "other", time.Hour).FilterChains[0])
		r.update(resource.ListenerType, l)
		r.pass(time.Minute)
		for i := range 3 { // each of which makes a plan
			r.update(resource.ListenerType, l, tcpListener(t, fmt.Sprint("other", i), uint32(10+i), "api"))
		}
		if got := r.watcher.Updates(resource.RouteType)["api"].TimedOut; got != 1 {
			t.Errorf("timed out %d times", got)
		}
		r.pass(time.Hour)
		if got := r.watcher.Updates(resource.RouteType)["api"].TimedOut; got != 2 {
			t.Errorf("timed out %d times", got)
		}
	})
}
