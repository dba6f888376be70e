package xds_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serai-net/serai/connect/xds/ads"
	"github.com/serai-net/serai/connect/xds/resource"
)

// garbage is a resource that no type has.
func garbage(name string) ads.Resource {
	return ads.Resource{Name: name, Version: "x", Body: []byte{0xff}}
}

// Neither secrets nor routes that nobody names are waited for: Consul may never
// answer these types.
func TestTrap01ReadyWithoutSecretsAndRoutes(t *testing.T) {
	bubble(t, func(r *rig) {
		r.bring()
		<-r.watcher.Ready()
	})
}

func TestTrap02OneBadResourceRefusesNoSibling(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		for _, typ := range []string{resource.ClusterType, resource.EndpointsType, resource.ListenerType, resource.RouteType} {
			good := map[string]ads.Resource{
				resource.ClusterType: r.resource(staticCluster("good")), resource.EndpointsType: r.resource(claWith("api", 5)),
				resource.ListenerType: r.resource(tcpListener(t, "good:2", 2, "good")), resource.RouteType: r.resource(routeTo("good", "good")),
			}[typ]
			bad := garbage("api")
			if typ == resource.EndpointsType {
				bad = garbage("elsewhere")
			}
			err := r.source.handler.Update(&ads.Update{Type: typ, Resources: []ads.Resource{bad, good}})
			if err == nil || !strings.Contains(err.Error(), bad.Name) {
				t.Errorf("%s: got %v", typ, err)
			}
		}
		r.pass(time.Second)
		r.wantForce("listeners [api:1 good:2] routes [good] clusters [api good]")
		if got := r.endpoints("api"); got != 5 {
			t.Errorf("got %d endpoints", got)
		}
		unread := r.watcher.Status().Unread
		var kinds []string
		for _, u := range unread {
			kinds = append(kinds, u.Kind+" "+u.Name)
		}
		if diff := cmp.Diff([]string{"cluster api", "endpoints elsewhere", "listener api", "route api"}, kinds); diff != "" {
			t.Error(diff)
		}
		r.update(resource.ClusterType, edsCluster("api", 2)) // can be read again
		r.change(resource.ListenerType, []string{"api"})
		r.change(resource.RouteType, []string{"api"})
		r.change(resource.EndpointsType, []string{"elsewhere"})
		if unread := r.watcher.Status().Unread; len(unread) != 0 {
			t.Errorf("still %v", unread)
		}
	})
}

// A resource of another name than it says would take another's place.
func TestAResourceHasItsOwnName(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		other := r.resource(staticCluster("api"))
		other.Name = "other"
		if err := r.source.handler.Update(&ads.Update{Type: resource.ClusterType, Resources: []ads.Resource{other}}); err == nil ||
			!strings.Contains(err.Error(), `resource "other": it calls itself "api"`) {
			t.Errorf("got %v", err)
		}
		r.wantForce("listeners [api:1] routes [] clusters [api]")
	})
}

func TestHeldIsWhatIsThere(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		held := func() map[string]map[string]string {
			all := map[string]map[string]string{}
			for _, typ := range resource.Types() {
				if some := r.source.handler.Held(typ); len(some) > 0 {
					all[typ[strings.LastIndexByte(typ, '.')+1:]] = some
				}
			}
			return all
		}
		r.bring()
		r.update(resource.RouteType, routeTo("r", "api"))
		v := func(name string) map[string]string { return map[string]string{name: "v"} }
		want := map[string]map[string]string{
			"Cluster": v("api"), "ClusterLoadAssignment": v("api"), "Listener": v("api:1"), "RouteConfiguration": v("r"),
		}
		if diff := cmp.Diff(want, held()); diff != "" {
			t.Error(diff)
		}
		// What cannot be read is not had, what was there before is.
		if err := r.source.handler.Update(&ads.Update{Type: resource.ClusterType, Resources: []ads.Resource{garbage("api"), garbage("b")}}); err == nil {
			t.Error("garbage was taken")
		}
		if diff := cmp.Diff(want, held()); diff != "" {
			t.Error(diff)
		}
		// What was removed is not had, though right after a reconnect it still serves.
		r.reconnect()
		r.change(resource.ListenerType, []string{"api:1"})
		r.change(resource.ClusterType, []string{"api"})
		r.change(resource.EndpointsType, []string{"api"})
		r.wantForce("listeners [api:1] routes [r] clusters [api]")
		delete(want, "Listener")
		delete(want, "Cluster")
		delete(want, "ClusterLoadAssignment")
		if diff := cmp.Diff(want, held()); diff != "" {
			t.Error(diff)
		}
	})
}

// Consul's own panic on some configurations ends the stream with Internal.
func TestTrap23LastGoodServesWhileTheStreamFails(t *testing.T) {
	bubble(t, func(r *rig) {
		t := r.t
		r.bring()
		good := r.store.Load()
		for range 10 {
			r.source.handler.Down(&ads.Error{Kind: ads.Ended, Err: status.Error(codes.Internal, "runtime error: nil pointer dereference")})
			r.pass(10 * time.Minute)
		}
		if r.store.Load() != good || r.endpoints("api") != 2 {
			t.Error("the end of a stream has changed something")
		}
		if got := r.watcher.Status(); got.Connected || got.LastError == "" && got.Since.IsZero() {
			t.Errorf("got %+v", got)
		}
	})
}

// A set must go straight to its cluster: it may not cost a look at all others.
func TestEndpointsCostTheSameAmongMany(t *testing.T) { //nolint:paralleltest // it counts allocations
	synctest.Test(t, func(t *testing.T) {
		r := begin(t)
		for i := range 300 {
			name := "c" + strings.Repeat("x", i)
			r.update(resource.ClusterType, edsCluster(name, 1))
			r.update(resource.EndpointsType, claWith(name, 1))
		}
		r.update(resource.ListenerType, tcpListener(t, "c:1", 1, "c"))
		one, two := r.resource(claWith("c", 1)), r.resource(claWith("c", 2))
		per := testing.AllocsPerRun(20, func() {
			for _, res := range []ads.Resource{one, two} {
				if err := r.source.handler.Update(&ads.Update{Type: resource.EndpointsType, Resources: []ads.Resource{res}}); err != nil {
					t.Fatal(err)
				}
			}
		})
		if per > 200 { // two sets decoded; a plan of 300 clusters alone makes more
			t.Errorf("%.0f allocations", per)
		}
	})
}
