package upstream_test

import (
	"fmt"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
)

// groups is a cluster; each group is how many hosts of a priority are healthy,
// degraded and neither.
func groups(panicPercent, factor uint32, counts ...[3]int) *mesh.Cluster {
	c := static("c")
	c.PanicPercent, c.Endpoints.Overprovisioning = panicPercent, factor
	for priority, group := range counts {
		for kind, n := range group {
			for i := range n {
				e := at(fmt.Sprintf("10.%d.%d.%d:80", priority, kind, i+1))
				e.Priority = uint32(priority)
				e.Health = []mesh.Health{mesh.Healthy, mesh.Degraded, mesh.Unhealthy}[kind]
				c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, e)
			}
		}
	}
	return c
}

// TestDegraded: degraded hosts get what the healthy ones of all priorities leave, and
// the numbers are those of Envoy's documentation of degraded endpoints.
func TestDegraded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name         string
		panicPercent uint32
		factor       uint32
		counts       [][3]int
		want         []float64 // healthy, degraded and neither, of each priority
	}{
		{"all are well", 50, 0, [][3]int{{10, 0, 0}}, []float64{1, 0, 0}},
		{"enough are well", 50, 0, [][3]int{{8, 2, 0}}, []float64{1, 0, 0}},
		{"half", 50, 0, [][3]int{{5, 5, 0}}, []float64{.7, .3, 0}},
		{"a quarter of one level", 50, 0, [][3]int{{25, 75, 0}}, []float64{.35, .65, 0}},
		{"the healthy of the next level come first", 50, 0, [][3]int{{5, 5, 0}, {10, 0, 0}}, []float64{.7, 0, 0, .3, 0, 0}},
		{"degraded of the first before those of the next", 50, 0, [][3]int{{0, 10, 0}, {0, 10, 0}}, []float64{0, 1, 0, 0, 0, 0}},
		{"degraded ones count against panic", 50, 0, [][3]int{{1, 5, 4}}, []float64{.14 / .84, .70 / .84, 0}},
		{"panic takes all", 50, 0, [][3]int{{1, 1, 8}}, []float64{.1, .1, .8}},
		{"one healthy host takes all, as prioritised by locality", 0, 100000, [][3]int{{1, 0, 99}, {100, 0, 0}}, []float64{1, 0, 0, 0, 0, 0}},
		{"none of it", 0, 100, [][3]int{{5, 0, 5}, {10, 0, 0}}, []float64{.5, 0, 0, .5, 0, 0}},
	} {
		c := newSet(t, groups(tt.panicPercent, tt.factor, tt.counts...)).Cluster("c")
		byHost, next := shares(c, 20000, nil), 0
		var got []float64
		for _, group := range tt.counts {
			for _, n := range group {
				sum := 0.0
				for range n {
					sum += byHost[next]
					next++
				}
				got = append(got, sum)
			}
		}
		near(t, tt.name, tt.want, got, .03)
	}
}
