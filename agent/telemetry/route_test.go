package telemetry_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/wire"
)

// TestRouteCountsAlike counts the same exchanges with what each route remembers,
// and by names alone: of several clusters and consumers for a route, in sequence
// and in turn, and of more routes than there is room for.
func TestRouteCountsAlike(t *testing.T) {
	t.Parallel()
	for _, direction := range []telemetry.Direction{telemetry.Edge, telemetry.Outbound, telemetry.Inbound} {
		t.Run(string(direction), func(t *testing.T) {
			t.Parallel()
			const routes, rounds = 40, 3
			clusters := []string{"", "catalog/a", "catalog/a/tag=x", "catalog/b"}
			count := func(remembered *[routes]telemetry.Route) map[string]float64 {
				m, o := observer(&telemetry.MetricsConfig{MaxSeries: 100})
				place := telemetry.Place{Direction: direction, Service: "web"}
				for i := range routes * rounds * len(clusters) {
					peer := fmt.Sprintf("/ns/default/dc/dc1/svc/s%d", i%2)
					pass(t, o, place, with(t, peer, func(x *wire.Exchange) {
						route := i % routes
						x.Route, x.Cluster = fmt.Sprintf("r%d", route), clusters[i/routes%len(clusters)]
						if i%5 == 0 {
							x.Cluster = clusters[i%len(clusters)]
						}
						x.Consumer, x.Status = fmt.Sprintf("c%d", i%3), 200+i%2
						if remembered != nil {
							x.Counted = &remembered[route]
						}
					}))
				}
				return values(t, m, "serai_requests_total", all()...)
			}
			want, got := count(nil), count(&[routes]telemetry.Route{})
			if diff := cmp.Diff(want, got); diff != "" {
				t.Errorf("-by names +remembered:\n%s", diff)
			}
		})
	}
}
