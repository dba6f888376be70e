package upstream_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
)

// port is an address with this port.
func port(n int) string { return fmt.Sprintf("10.0.0.1:%d", n) }

func TestSchedule(t *testing.T) {
	t.Parallel()
	type weights = []uint32
	tests := []struct {
		weights weights
		want    []int
	}{
		{nil, nil},
		{weights{7}, []int{0}},
		{weights{1, 1, 1}, []int{0, 1, 2}},
		{weights{128, 128}, []int{0, 1}},
		{weights{0, 0}, []int{0, 1}},
		{weights{2, 1}, []int{0, 1, 0}},
		{weights{5, 1, 1}, []int{0, 0, 1, 0, 2, 0, 0}},
		{weights{20, 10, 10}, []int{0, 1, 2, 0}},
	}
	for _, tt := range tests {
		c := static("c")
		for i, w := range tt.weights {
			c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, weighted(port(i+1), w))
		}
		var want []string
		for _, i := range tt.want {
			want = append(want, port(i+1))
		}
		if diff := cmp.Diff(want, newSet(t, c).Cluster("c").Schedule()); diff != "" {
			t.Errorf("%v: -want +got:\n%s", tt.weights, diff)
		}
	}
}

// However long a window of picks is, each host has had its share in it, give or
// take one.
func TestScheduleIsEven(t *testing.T) {
	t.Parallel()
	for _, weights := range [][]uint32{{3, 5, 7}, {1, 128}, {100, 50, 25, 12, 6, 3, 1}, {9, 9, 1}} {
		c, total := static("c"), 0
		for i, w := range weights {
			c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, weighted(port(i+1), w))
			total += int(w)
		}
		schedule := newSet(t, c).Cluster("c").Schedule()
		counts := map[string]int{}
		for n, text := range schedule {
			counts[text]++
			for i, w := range weights {
				fair := float64(n+1) * float64(w) / float64(total)
				if got := float64(counts[port(i+1)]); got < fair-2 || got > fair+2 {
					t.Fatalf("%v: host %d has %v of the first %d picks, fair were %.1f", weights, i, got, n+1, fair)
				}
			}
		}
	}
}

// Weights that have nothing in common must not make a schedule of any length.
func TestScheduleIsBounded(t *testing.T) {
	t.Parallel()
	c := static("c", weighted(port(1), 4294967291), weighted(port(2), 4294967279), weighted(port(3), 1))
	schedule := newSet(t, c).Cluster("c").Schedule()
	counts := map[string]int{}
	for _, text := range schedule {
		counts[text]++
	}
	if len(schedule) > 4096 || counts[port(3)] == 0 || counts[port(1)] < 1000 || counts[port(1)]-counts[port(2)] > 1 {
		t.Errorf("%d picks: %v", len(schedule), counts)
	}
	many := static("c")
	for i := range 5000 {
		many.Endpoints.Endpoints = append(many.Endpoints.Endpoints, weighted(port(i+1), uint32(i%7+1)))
	}
	if n := len(newSet(t, many).Cluster("c").Schedule()); n != 5000 {
		t.Errorf("%d picks of 5000 hosts", n)
	}
}

func TestUsable(t *testing.T) {
	t.Parallel()
	second := func(address string, h mesh.Health) mesh.Endpoint {
		e := at(address)
		e.Priority, e.Health = 1, h
		return e
	}
	tests := []struct {
		name      string
		percent   uint32
		endpoints []mesh.Endpoint
		want      []string
	}{
		{"none", 50, nil, nil},
		{"all unhealthy", 0, []mesh.Endpoint{unhealthy(port(1))}, nil},
		{"draining is not healthy", 0, []mesh.Endpoint{{Address: at(port(1)).Address, Health: mesh.Draining}, at(port(2))}, []string{port(2)}},
		{"one is left", 0, []mesh.Endpoint{unhealthy(port(1)), at(port(2)), unhealthy(port(3))}, []string{port(2)}},
		{"enough are left", 50, []mesh.Endpoint{unhealthy(port(1)), at(port(2))}, []string{port(2)}},
		{"panic", 50, []mesh.Endpoint{unhealthy(port(1)), at(port(2)), unhealthy(port(3))}, []string{port(1), port(2), port(3)}},
		{"panic with none", 1, []mesh.Endpoint{unhealthy(port(1))}, []string{port(1)}},
		{"twice the same", 0, []mesh.Endpoint{at(port(1)), at(port(1)), at(port(2))}, []string{port(1), port(2)}},
		{"best priority", 0, []mesh.Endpoint{second(port(1), mesh.Healthy), at(port(2)), second(port(3), mesh.Healthy)}, []string{port(2)}},
		{"next priority", 0, []mesh.Endpoint{unhealthy(port(1)), second(port(2), mesh.Healthy), second(port(3), mesh.Unhealthy)}, []string{port(2)}},
	}
	for _, tt := range tests {
		c := static("c", tt.endpoints...)
		c.PanicPercent = tt.percent
		cluster := newSet(t, c).Cluster("c")
		if diff := cmp.Diff(tt.want, cluster.Schedule()); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
		if got := cluster.Healthy(); got != len(tt.want) {
			t.Errorf("%s: %d may be used, want %d", tt.name, got, len(tt.want))
		}
	}
	if got := newSet(t, static("c", weighted(port(1), 100), weighted(port(2), 1))).Cluster("c").Healthy(); got != 2 {
		t.Errorf("two hosts with weights: %d may be used", got)
	}
}

func TestPick(t *testing.T) {
	t.Parallel()
	c := newSet(t, static("c", at(port(1)), at(port(2)), at(port(3)))).Cluster("c")
	now := time.Now()
	hosts := c.Hosts()
	counts := map[*upstream.Host]int{}
	for range 30 {
		counts[c.Pick(now)]++
	}
	for _, h := range hosts {
		if counts[h] != 10 {
			t.Errorf("%s was picked %d times of 30", h.Address(), counts[h])
		}
	}
	hosts[0].Failed(now)
	for range 6 {
		if h := c.Pick(now); h == hosts[0] {
			t.Error("a paused host was picked though there are others")
		}
		if h := c.Pick(now, hosts[1]); h != hosts[2] {
			t.Error("not the one that is neither paused nor tried")
		}
		if h := c.Pick(now, hosts[1], hosts[2]); h != hosts[0] {
			t.Error("not the paused one, though it is the last")
		}
		if h := c.Pick(now, hosts...); h != nil {
			t.Errorf("%s, though all were tried", h.Address())
		}
	}
	hosts[1].Failed(now)
	hosts[2].Failed(now)
	if c.Pick(now) == nil {
		t.Error("none, though all are as good as any")
	}
}

// A host that fails is passed over for longer each time, until it succeeds.
func TestPause(t *testing.T) {
	t.Parallel()
	c := newSet(t, static("c", at(port(1)), at(port(2)))).Cluster("c")
	h, now := c.Hosts()[0], time.Now()
	paused := func(at time.Time) bool {
		t.Helper()
		first, second := c.Pick(at), c.Pick(at)
		return first != h && second != h
	}
	for i, want := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 15 * time.Second, 15 * time.Second} {
		h.Failed(now)
		if !paused(now.Add(want - time.Millisecond)) {
			t.Errorf("failure %d: back before %v", i+1, want)
		}
		if paused(now.Add(want)) {
			t.Errorf("failure %d: not back after %v", i+1, want)
		}
		now = now.Add(want)
	}
	h.Failed(now)
	h.Succeeded()
	if paused(now) {
		t.Error("passed over after a success")
	}
	h.Failed(now)
	if paused(now.Add(500 * time.Millisecond)) {
		t.Error("the pause of before the success goes on")
	}
}

func TestPickAllocates(t *testing.T) {
	c := newSet(t, static("c", at(port(1)), weighted(port(2), 3), at(port(3)))).Cluster("c")
	now := time.Now()
	first := c.Pick(now)
	tried := []*upstream.Host{first}
	if n := testing.AllocsPerRun(100, func() { c.Pick(now, tried...) }); n != 0 {
		t.Errorf("a pick allocates %v times", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{1, 3, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			c := static("c")
			for i := range n {
				c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, at(port(i+1)))
			}
			cluster, now := newSet(b, c).Cluster("c"), time.Now()
			b.ReportAllocs()
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					if cluster.Pick(now) == nil {
						b.Error("none")
					}
				}
			})
		})
	}
}
