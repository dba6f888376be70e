package upstream_test

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
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

// TestZones: hosts of our zone take all as long as enough of them are healthy, then
// those of our region help, then the others.
func TestZones(t *testing.T) {
	t.Parallel()
	place := func(host string) netip.Addr { return netip.MustParseAddr(host) }
	where := &mesh.Map{Own: mesh.Place{Region: "r", Zone: "a"}, Places: map[netip.Addr]mesh.Place{
		place("10.0.0.1"): {Region: "r", Zone: "a"}, place("10.0.0.2"): {Region: "r", Zone: "a"},
		place("10.0.0.3"): {Region: "r", Zone: "b"}, place("10.0.0.4"): {Region: "s", Zone: "a"},
	}}
	hosts := []string{"10.0.0.1:80", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.4:80", "10.0.0.5:80"}
	for _, tt := range []struct {
		name string
		sick []int
		want []float64
		// choices are all in our zone, some there, and those elsewhere, in Envoy's names
		choices []float64
	}{
		{"all are well", nil, []float64{.5, .5, 0, 0, 0}, []float64{1, 0, 0}},
		{"half of our zone", []int{0}, []float64{0, .7, .3, 0, 0}, []float64{0, .7, .3}},
		{"nobody in our zone", []int{0, 1}, []float64{0, 0, 1, 0, 0}, []float64{0, 0, 0}},
		{"nobody in our region", []int{0, 1, 2}, []float64{0, 0, 0, .5, .5}, []float64{0, 0, 0}},
	} {
		endpoints := set("c")
		for i, host := range hosts {
			e := at(host)
			if slices.Contains(tt.sick, i) {
				e.Health = mesh.Unhealthy
			}
			endpoints.Endpoints = append(endpoints.Endpoints, e)
		}
		s := newSet(t, eds("c"))
		s.SetEndpoints(endpoints)
		s.Locate(where)
		near(t, tt.name, tt.want, shares(s.Cluster("c"), 20000, nil), .03)
		near(t, tt.name+", as counted", tt.choices, zones(s), .03)
		s.Locate(nil)
		if got := shares(s.Cluster("c"), 1000, nil); got[4] < .1 {
			t.Errorf("%s: a host is left out though no place is known: %.2f", tt.name, got)
		}
	}
}

// zones are the shares of the choices of [TestZones].
func zones(s *upstream.Set) []float64 {
	counted := map[string]int64{}
	for _, c := range s.Clusters() {
		each(&c, func(stat stats.Stat) { counted[strings.TrimPrefix(stat.Name, "c.")] = stat.Value })
	}
	all := []float64{}
	for _, name := range []string{"lb_zone_routing_all_directly", "lb_zone_routing_sampled", "lb_zone_routing_cross_zone"} {
		all = append(all, float64(counted[name])/20000)
	}
	return all
}
