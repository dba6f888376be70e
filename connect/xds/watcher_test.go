package xds_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	tcpv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

func names[T any](m map[string]T) []string { return slices.Sorted(maps.Keys(m)) }

// bubble runs a test with a clock of its own.
func bubble(t *testing.T, f func(r *rig)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, func(t *testing.T) { f(begin(t)) })
}

func TestFirstSnapshotIsWhole(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.update(resource.ClusterType, edsCluster("api", 1), staticCluster("local_app"))
		r.wantForce("none")
		r.update(resource.ListenerType, rdsListener(t, "api:1", 1))
		r.wantForce("none")
		r.update(resource.EndpointsType, claWith("api", 2))
		r.wantForce("none")
		select {
		case <-r.watcher.Ready():
			t.Error("ready before it is whole")
		default:
		}
		r.update(resource.RouteType, routeTo("api", "api"))
		r.wantForce("listeners [api:1] routes [api] clusters [api local_app]")
		<-r.watcher.Ready()
		if got := r.endpoints("api"); got != 2 {
			t.Errorf("got %d endpoints", got)
		}
		want := []string{"prepare first", "prepare second", "commit first", "commit second"}
		r.locked(func() {
			if diff := cmp.Diff(want, r.steps); diff != "" {
				t.Error(diff)
			}
		})
	})
}

func TestTrap29EmptyConfigurationIsWhole(t *testing.T) {
	bubble(t, func(r *rig) {
		r.update(resource.ClusterType)
		r.wantForce("none")
		r.update(resource.ListenerType)
		r.wantForce("listeners [] routes [] clusters []")
		<-r.watcher.Ready()
	})
}

func TestWaitsEndAfter15Seconds(t *testing.T) {
	bubble(t, func(r *rig) {
		r.update(resource.ClusterType, edsCluster("api", 1))
		r.pass(5 * time.Second)
		r.update(resource.ListenerType, rdsListener(r.t, "api:1", 1))
		r.pass(14 * time.Second) // the route's wait ends last
		r.wantForce("none")
		r.pass(time.Second)
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		if r.logged("cluster has no endpoints") != 1 {
			t := r.t
			t.Error("not told")
		}
		r.update(resource.RouteType, routeTo("api", "api")) // late, but welcome
		r.wantForce("listeners [api:1] routes [api] clusters [api]")
	})
}

func TestNewListenerWaitsForItsCluster(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		before := r.store.Load()
		r.update(resource.ClusterType, edsCluster("db", 1))
		r.update(resource.ListenerType, tcpListener(t, "db:2", 2, "db"), tcpListener(t, "api:1", 1, "db"))
		r.wantForce("listeners [api:1] routes [] clusters [api]") // api:1 as before
		if r.store.Load() != before {
			t.Error("a snapshot though nothing is whole")
		}
		r.update(resource.EndpointsType, claWith("db", 1))
		r.wantForce("listeners [api:1 db:2] routes [] clusters [api db]")
		if got := r.store.Load().Listeners["api:1"].Chains[0].TCP.Targets[0].Cluster; got != "db" {
			t.Errorf("api:1 goes to %s", got)
		}
	})
}

func TestUnchangedPartsAreShared(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		before := r.store.Load()
		r.update(resource.ClusterType, edsCluster("api", 1)) // as it was
		if r.store.Load() != before {
			t.Error("a new snapshot though nothing has changed")
		}
		r.update(resource.ClusterType, edsCluster("api", 1), staticCluster("local_app"))
		after := r.store.Load()
		if before.Clusters["api"] != after.Clusters["api"] || before.Listeners["api:1"] != after.Listeners["api:1"] {
			t.Error("unchanged parts are not shared")
		}
		if after.Version != before.Version+1 {
			t.Errorf("version %d after %d", after.Version, before.Version)
		}
	})
}

func TestTrap06ClusterUpdateKeepsEndpoints(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.update(resource.ClusterType, edsCluster("api", 2))
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		if r.store.Load().Clusters["api"].StatName != "2" || r.endpoints("api") != 2 {
			t.Errorf("got %d endpoints", r.endpoints("api"))
		}
		pushes := 0
		r.locked(func() { pushes = r.pushes })
		r.update(resource.EndpointsType, claWith("api", 2)) // the resend that follows
		r.locked(func() {
			if r.pushes != pushes {
				t.Error("equal endpoints were set again")
			}
		})
	})
}

func TestEndpointsMakeNoSnapshot(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		before := r.store.Load()
		r.update(resource.EndpointsType, claWith("api", 5))
		if r.endpoints("api") != 5 || r.store.Load() != before {
			t.Errorf("got %d endpoints", r.endpoints("api"))
		}
		r.update(resource.EndpointsType, claWith("api", -5)) // no reconnect: it is true
		if r.endpoints("api") != 0 {
			t.Errorf("got %d endpoints", r.endpoints("api"))
		}
	})
}

func TestRemovedClusterOutlivesItsListener(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.change(resource.ClusterType, []string{"api"})
		r.change(resource.EndpointsType, []string{"api"})
		r.pass(time.Minute)
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		if r.endpoints("api") != 2 {
			t.Errorf("got %d endpoints", r.endpoints("api"))
		}
		r.change(resource.ListenerType, []string{"api:1"})
		r.pass(time.Second)
		r.wantForce("listeners [] routes [] clusters []")
	})
}

func TestRemovedRouteOutlivesItsListener(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.update(resource.ClusterType, staticCluster("api"))
		r.update(resource.RouteType, routeTo("api", "api"))
		r.update(resource.ListenerType, rdsListener(t, "api:1", 1))
		r.change(resource.RouteType, []string{"api"})
		r.change(resource.ClusterType, []string{"api"})
		r.pass(time.Minute)
		r.wantForce("listeners [api:1] routes [api] clusters [api]")
		r.change(resource.ListenerType, []string{"api:1"})
		r.wantForce("listeners [] routes [] clusters []")
	})
}

func TestTrap12AggregateWaitsForMembers(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.change(resource.ClusterType, nil, aggregate(t, "api", "one", "two"), edsCluster("one", 1), edsCluster("two", 1))
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		if r.store.Load().Clusters["api"].Kind != mesh.ClusterEDS {
			t.Error("the aggregate came before its members")
		}
		r.change(resource.EndpointsType, []string{"api"}, claWith("one", 1), claWith("two", 1))
		r.wantForce("listeners [api:1] routes [] clusters [api one two]")
		if r.store.Load().Clusters["api"].Kind != mesh.ClusterAggregate {
			t.Error("no aggregate")
		}
	})
}

func TestLastGoodStays(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		good := r.store.Load()
		r.locked(func() { r.refuse, r.steps = errors.New("port in use"), nil })
		r.update(resource.ClusterType, staticCluster("a"))
		r.update(resource.ClusterType, staticCluster("b"))
		if r.store.Load() != good {
			t.Error("a snapshot that no stage took is in force")
		}
		r.locked(func() {
			if slices.ContainsFunc(r.steps, func(s string) bool { return strings.HasPrefix(s, "commit") }) {
				t.Errorf("got %v", r.steps)
			}
			r.refuse = nil
		})
		if got := r.watcher.Status(); got.Failed != 2 || got.LastError != "port in use" {
			t.Errorf("got %+v", got)
		}
		if got := r.logged("the last good one stays"); got != 1 {
			t.Errorf("told %d times", got)
		}
		r.pass(time.Second) // tried again
		r.wantForce("listeners [api:1] routes [] clusters [a api b]")
		if got := r.watcher.Status(); got.LastError != "" {
			t.Errorf("got %+v", got)
		}

		// A stage that ends is no fault: nobody is told, and nothing is counted.
		r.locked(func() { r.refuse = fmt.Errorf("%w: drained", xds.ErrStopped) })
		r.update(resource.ClusterType, staticCluster("c"))
		r.wantForce("listeners [api:1] routes [] clusters [a api b]")
		if got := r.watcher.Status(); got.Failed != 2 {
			t.Errorf("counted: %+v", got)
		}
		if got := r.logged("the last good one stays"); got != 1 {
			t.Errorf("told %d times", got)
		}
	})
}

// What a stage does not take is tried again, less and less often, whatever else comes
// meanwhile; and at once when there is something else to try.
func TestRefusedIsTriedAgain(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		tries := func() (n int) {
			r.locked(func() {
				for _, step := range r.steps {
					if step == "prepare second" {
						n++
					}
				}
			})
			return n
		}
		want := func(what string, n int) {
			t.Helper()
			if got := tries(); got != n {
				t.Errorf("%s: tried %d times, want %d", what, got, n)
			}
		}
		r.locked(func() { r.refuse, r.steps = errors.New("port in use"), nil })
		r.update(resource.ClusterType, staticCluster("a"))
		want("at once", 1)
		for range 100 { // which are no reason to try again
			r.update(resource.EndpointsType, claWith("api", 3))
			r.update(resource.ListenerType)
		}
		want("after updates that change nothing", 1)
		if got := r.watcher.Status().LastError; got != "port in use" {
			t.Errorf("it is not told any more: %q", got)
		}
		for i, pause := range []time.Duration{1, 2, 4, 8, 16, 30, 30} {
			r.pass(pause*time.Second - time.Millisecond)
			want("before the pause is over", i+1)
			r.pass(time.Millisecond)
			want("after the pause", i+2)
		}
		r.update(resource.ClusterType, staticCluster("b"))
		want("another one", 9)
		r.pass(time.Second)
		want("its first pause", 10)
		r.locked(func() { r.refuse = nil })
		r.pass(2 * time.Second)
		r.wantForce("listeners [api:1] routes [] clusters [a api b]")
		want("in force", 11)
		r.pass(time.Hour)
		want("for ever", 11)
		if got := r.watcher.Status().LastError; got != "" {
			t.Errorf("told: %q", got)
		}
		// What is given up is not tried any more.
		r.locked(func() { r.refuse = errors.New("port in use") })
		r.update(resource.ListenerType, tcpListener(t, "api:2", 2, "api"))
		r.change(resource.ListenerType, []string{"api:2"})
		want("given up", 12)
		r.pass(time.Hour)
		want("after it was given up", 12)
	})
}

func TestUndecodableIsNotTaken(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		good := r.store.Load()
		for _, typ := range []string{resource.ClusterType, resource.EndpointsType, resource.ListenerType, resource.RouteType} {
			update := &ads.Update{Type: typ, Resources: []ads.Resource{{Name: "api", Version: "x", Body: []byte{0xff}}}}
			if err := r.source.handler.Update(update); err == nil {
				t.Errorf("%s: garbage was taken", typ)
			}
		}
		if r.store.Load() != good || r.endpoints("api") != 2 {
			t.Error("garbage has changed something")
		}
		if got := r.watcher.Status(); got.Nacks != 4 || got.Acks != 3 || got.Updates != 7 {
			t.Errorf("got %+v", got)
		}
		if err := r.source.handler.Update(&ads.Update{Type: resource.SecretType}); err != nil {
			t.Error(err)
		}
	})
}

func TestStatusTells(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		bad := listenerOf(t, "bad:2", 2, &tcpv3.TcpProxy{StatPrefix: "bad", ClusterSpecifier: &tcpv3.TcpProxy_WeightedClusters{}})
		r.update(resource.ListenerType, bad)
		r.update(resource.ListenerType, tcpListener(t, "good:3", 3, "api"))
		got := r.watcher.Status()
		want := []xds.Refusal{{
			Kind: "filter chain", Name: "bad:2",
			Reason: "network filter f: no cluster among weighted_clusters",
		}}
		if diff := cmp.Diff(want, got.Refusals); diff != "" {
			t.Error(diff)
		}
		if !got.Connected || got.Version != 3 || got.LastError != "" {
			t.Errorf("got %+v", got)
		}
		if r.logged("refuses its traffic") != 1 {
			t.Error("a refusal is told once")
		}
		r.source.handler.Silent()
		r.source.handler.Silent()
		if r.logged("seems not to be registered at this agent") != 1 {
			t.Error("silence is told once")
		}
		reason := &ads.Error{Kind: ads.Denied}
		r.source.handler.Down(reason)
		r.source.handler.Down(reason)
		if got := r.watcher.Status(); got.Connected || got.Since.IsZero() {
			t.Errorf("got %+v", got)
		}
		r.wantForce("listeners [api:1 bad:2 good:3] routes [] clusters [api]")
	})
}

func TestClusterThatComesBackHasItsEndpoints(t *testing.T) {
	bubble(t, func(r *rig) {
		r.bring()
		r.change(resource.ListenerType, []string{"api:1"})
		r.change(resource.ClusterType, []string{"api"})
		r.pass(time.Minute)
		r.wantForce("listeners [] routes [] clusters []")
		r.locked(func() { clear(r.sets) })
		r.update(resource.ClusterType, edsCluster("api", 1))
		r.update(resource.EndpointsType, claWith("api", 2)) // Consul sends them again
		r.wantForce("listeners [] routes [] clusters [api]")
		if got := r.endpoints("api"); got != 2 {
			r.t.Errorf("got %d endpoints", got)
		}
	})
}

// An aggregate waits for what its members wait for, in whatever order they are looked at.
func TestAggregateOfAggregatesWaits(t *testing.T) {
	bubble(t, func(r *rig) {
		r.bring()
		for i := range 20 {
			inner, outer := fmt.Sprintf("inner%d", i), fmt.Sprintf("outer%d", i)
			r.update(resource.ClusterType, edsCluster("late", 1), aggregate(r.t, inner, "late"), aggregate(r.t, outer, inner))
			r.wantForce("listeners [api:1] routes [] clusters [api]")
			r.change(resource.ClusterType, []string{"late", inner, outer})
			r.pass(time.Minute)
		}
	})
}
