package xds_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/xds/resource"
)

func TestHoldsBackAnEmptySetAfterAReconnect(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.reconnect()
		r.pass(5 * time.Second)
		r.update(resource.EndpointsType, claWith("api", -2))
		if got := r.endpoints("api"); got != 2 {
			t.Errorf("got %d endpoints", got)
		}
		r.pass(10 * time.Second)
		r.update(resource.EndpointsType, claWith("api", 0)) // worse still
		synctest.Wait()
		if got := r.endpoints("api"); got != 2 {
			t.Errorf("got %d endpoints", got)
		}
		if got := r.watcher.Status().Held; got != 1 || r.logged("right after a reconnect") != 1 {
			t.Errorf("held %d times, told %d times", got, r.logged("right after a reconnect"))
		}
		r.update(resource.EndpointsType, claWith("api", 1))
		if got := r.endpoints("api"); got != 1 || r.logged("Consul sends healthy endpoints again") != 1 {
			t.Errorf("got %d endpoints", got)
		}
		r.pass(2 * time.Minute) // nothing is left over
		if got := r.endpoints("api"); got != 1 {
			t.Errorf("got %d endpoints", got)
		}
	})
}

func TestHoldEndsWhenNothingAccepts(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.reconnect()
		r.update(resource.EndpointsType, claWith("api", -2))
		r.locked(func() { r.dead["[::1]:1000"] = true })
		r.pass(5 * time.Second)
		if got := r.endpoints("api"); got != 2 {
			t.Errorf("one endpoint still accepts: got %d endpoints", got)
		}
		r.locked(func() { r.dead["[::1]:1001"] = true })
		r.pass(1100 * time.Millisecond)
		if got := r.endpoints("api"); got != 0 || r.logged("no endpoint accepts connections") != 1 {
			t.Errorf("got %d endpoints", got)
		}
	})
}

func TestHoldEndsWithTheMinute(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.reconnect()
		r.update(resource.EndpointsType, claWith("api", -2))
		r.pass(59 * time.Second)
		if got := r.endpoints("api"); got != 2 {
			t.Errorf("got %d endpoints", got)
		}
		r.pass(2 * time.Second)
		if got := r.endpoints("api"); got != 0 || r.logged("time is up") != 1 {
			t.Errorf("got %d endpoints", got)
		}
		r.locked(func() {
			if r.probes < 30 || r.probes > 130 {
				t.Errorf("%d probes", r.probes)
			}
		})
	})
}

func TestWhatIsNotHeldBack(t *testing.T) {
	t.Run("first connect", func(t *testing.T) {
		bubble(t, func(r *rig) {
			t := r.t
			r.bring()
			r.update(resource.EndpointsType, claWith("api", -2))
			if got := r.endpoints("api"); got != 0 {
				t.Errorf("got %d endpoints", got)
			}
		})
	})
	t.Run("partial shrink", func(t *testing.T) {
		bubble(t, func(r *rig) {
			t := r.t
			r.bring()
			r.reconnect()
			r.update(resource.EndpointsType, claWith("api", 1))
			if got := r.endpoints("api"); got != 1 {
				t.Errorf("got %d endpoints", got)
			}
		})
	})
	t.Run("after a minute", func(t *testing.T) {
		bubble(t, func(r *rig) {
			t := r.t
			r.bring()
			r.reconnect()
			r.pass(61 * time.Second)
			r.update(resource.EndpointsType, claWith("api", -2))
			if got := r.endpoints("api"); got != 0 {
				t.Errorf("got %d endpoints", got)
			}
		})
	})
	t.Run("member of an aggregate", func(t *testing.T) {
		bubble(t, func(r *rig) {
			t := r.t
			r.update(resource.ClusterType, aggregate(t, "api", "one", "two"), edsCluster("one", 1), edsCluster("two", 1))
			r.update(resource.EndpointsType, claWith("one", 1), claWith("two", 1))
			r.update(resource.ListenerType, tcpListener(t, "api:1", 1, "api"))
			r.reconnect()
			r.update(resource.EndpointsType, claWith("one", -1))
			if got := r.endpoints("one"); got != 0 {
				t.Errorf("got %d endpoints", got)
			}
		})
	})
}

// TestRestartedAgent plays what a Consul agent sends after a restart.
func TestRestartedAgent(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		before := r.store.Load()
		r.reconnect()
		r.pass(10 * time.Second)
		r.update(resource.ClusterType)
		r.change(resource.ListenerType, []string{"api:1"})
		r.change(resource.ClusterType, []string{"api"})
		if r.store.Load() != before {
			t.Error("a removal right after a reconnect is believed")
		}
		r.pass(3 * time.Second)
		r.update(resource.ClusterType, edsCluster("api", 2)) // a new leaf
		r.update(resource.EndpointsType, claWith("api", -2))
		r.update(resource.ListenerType, tcpListener(t, "api:1", 1, "api"))
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		if got := r.store.Load(); got.Listeners["api:1"] != before.Listeners["api:1"] || got.Clusters["api"].StatName != "2" {
			t.Error("listener or cluster is not what it should be")
		}
		if got := r.endpoints("api"); got != 2 {
			t.Errorf("got %d endpoints", got)
		}
		r.pass(6 * time.Second)
		r.update(resource.EndpointsType, claWith("api", 2))
		r.pass(2 * time.Minute)
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		if got := r.endpoints("api"); got != 2 {
			t.Errorf("got %d endpoints", got)
		}
	})
}

func TestRemovalAfterAReconnectComesTrue(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.reconnect()
		r.change(resource.ClusterType, []string{"api"})
		r.change(resource.ListenerType, []string{"api:1"})
		r.change(resource.EndpointsType, []string{"api"})
		r.pass(59 * time.Second)
		r.wantForce("listeners [api:1] routes [] clusters [api]")
		if r.logged("removes a listener right after a reconnect") != 1 {
			t.Error("not told once")
		}
		r.pass(2 * time.Second)
		r.wantForce("listeners [] routes [] clusters []")
	})
}

func TestRemovalAfterAReconnectGivesWay(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		r.reconnect()
		r.change(resource.ListenerType, []string{"api:1"}, tcpListener(t, "other:1", 1, "api"))
		r.wantForce("listeners [other:1] routes [] clusters [api]")
	})
}

// TestClusterThatIsGoneForAMomentKeepsItsEndpoints: nothing names it, and yet it
// is not forgotten right after a reconnect.
func TestClusterThatIsGoneForAMomentKeepsItsEndpoints(t *testing.T) {
	bubble(t, func(r *rig) {
		r.update(resource.ListenerType)
		r.update(resource.ClusterType, edsCluster("api", 1))
		r.update(resource.EndpointsType, claWith("api", 2))
		r.reconnect()
		r.change(resource.ClusterType, []string{"api"})
		r.change(resource.EndpointsType, []string{"api"})
		r.pass(30 * time.Second)
		r.wantForce("listeners [] routes [] clusters [api]")
		r.update(resource.ClusterType, edsCluster("api", 1))
		r.update(resource.EndpointsType, claWith("api", -2))
		if got := r.endpoints("api"); got != 2 {
			r.t.Errorf("got %d endpoints", got)
		}
	})
}
