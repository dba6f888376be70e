package xds_test

import (
	"testing"
	"time"

	"github.com/serai-net/serai/connect/xds/resource"
)

// A listener that moves to another address stays where it is until all that it needs
// there has come; if that never comes, it moves without.
func TestListenerMoves(t *testing.T) {
	for name, comes := range map[string]bool{"comes": true, "never comes": false} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(r *rig) {
				r.bring()
				r.change(resource.ListenerType, []string{"api:1"}, rdsListener(r.t, "api:2", 2))
				r.wantForce("listeners [api:1] routes [] clusters [api]")
				if comes {
					r.update(resource.RouteType, routeTo("api", "api"))
					r.wantForce("listeners [api:2] routes [api] clusters [api]")
					return
				}
				r.pass(16 * time.Second)
				r.wantForce("listeners [api:2] routes [] clusters [api]")
			})
		})
	}
}

// One that is only removed goes at once, whatever others wait for.
func TestListenerGoes(t *testing.T) {
	bubble(t, func(r *rig) {
		r.bring()
		r.change(resource.ListenerType, []string{"api:1"}, rdsListener(r.t, "web:2", 2))
		r.wantForce("listeners [] routes [] clusters [api]")
	})
}
