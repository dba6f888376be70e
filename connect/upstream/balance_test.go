package upstream_test

import (
	"fmt"
	"math"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// balanced is a cluster of n hosts, of which change may say more.
func balanced(n int, b mesh.Balance, change func(i int, e *mesh.Endpoint)) *mesh.Cluster {
	c := static("c")
	c.Balance = b
	for i := range n {
		e := at(fmt.Sprintf("10.0.%d.%d:80", i/250, i%250))
		if change != nil {
			change(i, &e)
		}
		c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, e)
	}
	return c
}

// shares are how often each host was picked of n times, by its index.
func shares(c *upstream.Cluster, n int, choice func(i int) wire.Choice) []float64 {
	index := map[*upstream.Host]int{}
	for i, h := range c.Hosts() {
		index[h] = i
	}
	counts := make([]float64, len(index))
	now := time.Now()
	for i := range n {
		var w wire.Choice
		if choice != nil {
			w = choice(i)
		}
		counts[index[c.PickAs(now, w)]] += 1 / float64(n)
	}
	return counts
}

// keyed is a hash that differs from one to the next.
func keyed(i int) wire.Choice {
	return wire.Choice{Hashed: true, Hash: uint64(i) * 0x9e3779b97f4a7c15}
}

func near(t *testing.T, what string, want, got []float64, off float64) {
	t.Helper()
	for i := range want {
		if math.Abs(got[i]-want[i]) > off {
			t.Errorf("%s: host %d has %.3f, want about %.3f; all: %.3f", what, i, got[i], want[i], got)
			return
		}
	}
}

func TestShares(t *testing.T) {
	t.Parallel()
	heavier := func(i int, e *mesh.Endpoint) { e.Weight = uint32(i + 1) } // 1, 2, 3, 4
	byWeight, equal := []float64{.1, .2, .3, .4}, []float64{.25, .25, .25, .25}
	tests := []struct {
		balance mesh.Balance
		want    []float64
		off     float64
	}{
		{mesh.Balance{Policy: mesh.RoundRobin}, byWeight, .001},
		{mesh.Balance{Policy: mesh.Random}, equal, .03},
		{mesh.Balance{Policy: mesh.LeastRequest}, byWeight, .03}, // all idle
		{mesh.Balance{Policy: mesh.LeastRequest, HasBias: true}, byWeight, .03},
		{mesh.Balance{Policy: mesh.RingHash}, byWeight, .08},
		{mesh.Balance{Policy: mesh.RingHash, MinRing: 1 << 16}, byWeight, .03},
		{mesh.Balance{Policy: mesh.Maglev}, byWeight, .02},
		{mesh.Balance{Policy: mesh.Maglev, Table: 1009}, byWeight, .04},
	}
	for _, tt := range tests {
		c := newSet(t, balanced(4, tt.balance, heavier)).Cluster("c")
		near(t, fmt.Sprintf("%+v", tt.balance), tt.want, shares(c, 20000, keyed), tt.off)
	}
}

// Without a hash, consistent hashing is random.
func TestHashWithoutKey(t *testing.T) {
	t.Parallel()
	for _, policy := range []mesh.Policy{mesh.RingHash, mesh.Maglev} {
		c := newSet(t, balanced(2, mesh.Balance{Policy: policy}, nil)).Cluster("c")
		near(t, policy.String(), []float64{.5, .5}, shares(c, 5000, nil), .1)
	}
}

// A host that leaves takes its own keys along, and few or no others.
func TestHashIsConsistent(t *testing.T) {
	t.Parallel()
	const keys, hosts = 10000, 20
	// A ring has a few more points for each of the hosts that stay, which take some.
	for _, policy := range []mesh.Policy{mesh.RingHash, mesh.Maglev} {
		s := newSet(t, &mesh.Cluster{Name: "c", Balance: mesh.Balance{Policy: policy}})
		all := balanced(hosts, mesh.Balance{}, nil).Endpoints.Endpoints
		where := func() []string {
			var at []string
			for i := range keys {
				at = append(at, s.Cluster("c").PickAs(time.Now(), keyed(i)).Address())
			}
			return at
		}
		s.SetEndpoints(set("c", all...))
		before := where()
		if !slices.Equal(before, where()) {
			t.Errorf("%s: a key does not stay", policy)
		}
		// The order of endpoints must not matter.
		all = slices.Clone(all) // which is kept
		slices.Reverse(all)
		s.SetEndpoints(set("c", all...))
		if !slices.Equal(before, where()) {
			t.Errorf("%s: a key goes elsewhere when the order changes", policy)
		}
		gone := all[7].Address.String()
		s.SetEndpoints(set("c", slices.Delete(slices.Clone(all), 7, 8)...))
		moved := 0
		for i, address := range where() {
			switch {
			case address == gone:
				t.Fatalf("%s: the host that is gone was picked", policy)
			case before[i] != gone && before[i] != address:
				moved++
			}
		}
		if share := float64(moved) / keys; share > .05 {
			t.Errorf("%s: %.3f of the keys of other hosts have moved", policy, share)
		}
	}
}

// Of two, the one with fewer exchanges under way is taken.
func TestLeastRequest(t *testing.T) {
	t.Parallel()
	c := newSet(t, balanced(4, mesh.Balance{Policy: mesh.LeastRequest}, nil)).Cluster("c")
	c.Hosts()[0].Busy(5)
	// It is taken only if both draws are on it.
	near(t, "one busy host", []float64{1. / 16, 5. / 16, 5. / 16, 5. / 16}, shares(c, 20000, nil), .03)
	many := newSet(t, balanced(4, mesh.Balance{Policy: mesh.LeastRequest, Choices: 50}, nil)).Cluster("c")
	for i, h := range many.Hosts() {
		h.Busy(i)
	}
	near(t, "many choices", []float64{1, 0, 0, 0}, shares(many, 1000, nil), .01)
	// The load of a host counts by its weight: 3 of 4 are less busy than 1 of 1.
	weighted := newSet(t, balanced(2, mesh.Balance{Policy: mesh.LeastRequest, Choices: 50}, func(i int, e *mesh.Endpoint) {
		e.Weight = uint32(1 + 3*i)
	})).Cluster("c")
	weighted.Hosts()[0].Busy(1)
	weighted.Hosts()[1].Busy(3)
	near(t, "weights", []float64{0, 1}, shares(weighted, 1000, nil), .01)
}

// priorities makes the first hosts healthy, by their numbers for each priority.
func priorities(panicPercent uint32, counts ...[2]int) *mesh.Cluster {
	c := static("c")
	c.PanicPercent = panicPercent
	n := 0
	for p, count := range counts {
		for i := range count[1] {
			e := at(fmt.Sprintf("10.0.%d.%d:80", n/250, n%250))
			if n++; i >= count[0] {
				e.Health = mesh.Unhealthy
			}
			e.Priority = uint32(p)
			c.Endpoints.Endpoints = append(c.Endpoints.Endpoints, e)
		}
	}
	return c
}

// The numbers are those of Envoy's documentation on priority levels and panic.
func TestPriorities(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name         string
		panicPercent uint32
		counts       [][2]int
		want         []float64 // of each priority
		unhealthy    bool      // take part, too
	}{
		{"all healthy", 50, [][2]int{{10, 10}, {10, 10}}, []float64{1, 0}, false},
		{"72 % are enough", 50, [][2]int{{72, 100}, {10, 10}}, []float64{1, 0}, false},
		{"71 % are nearly", 50, [][2]int{{71, 100}, {10, 10}}, []float64{.99, .01}, false},
		{"half", 50, [][2]int{{5, 10}, {10, 10}}, []float64{.7, .3}, false},
		{"a quarter", 50, [][2]int{{25, 100}, {100, 100}}, []float64{.35, .65}, false},
		{"none", 50, [][2]int{{0, 10}, {10, 10}}, []float64{0, 1}, false},
		{"both are short, no panic", 0, [][2]int{{25, 100}, {25, 100}}, []float64{.5, .5}, false},
		{"three levels", 0, [][2]int{{25, 100}, {25, 100}, {20, 100}}, []float64{.36, .36, .28}, false},
		{"panic in all", 50, [][2]int{{1, 10}, {4, 30}}, []float64{.25, .75}, true},
		{"no panic at 50 %", 50, [][2]int{{5, 10}}, []float64{1}, false},
		{"panic below", 50, [][2]int{{4, 10}}, []float64{1}, true},
		{"panic with none", 50, [][2]int{{0, 10}, {0, 30}}, []float64{.25, .75}, true},
		{"panic in one", 50, [][2]int{{1, 10}, {10, 20}}, []float64{.16, .84}, true},
	}
	for _, tt := range tests {
		c := newSet(t, priorities(tt.panicPercent, tt.counts...)).Cluster("c")
		byHost, at := shares(c, 20000, nil), 0
		var got []float64
		unhealthy := false
		for _, count := range tt.counts {
			sum := 0.0
			for i := range count[1] {
				unhealthy = unhealthy || i >= count[0] && byHost[at] > 0
				sum += byHost[at]
				at++
			}
			got = append(got, sum)
		}
		near(t, tt.name, tt.want, got, .03)
		if unhealthy != tt.unhealthy {
			t.Errorf("%s: unhealthy hosts take part: %v", tt.name, unhealthy)
		}
		if panics := c.Stats().Panics; (panics > 0) != tt.unhealthy {
			t.Errorf("%s: %d panics", tt.name, panics)
		}
	}
	none := newSet(t, priorities(0, [2]int{0, 3}, [2]int{0, 3})).Cluster("c")
	if h := none.Pick(time.Now()); h != nil {
		t.Errorf("without panic, %s was picked though nobody is healthy", h.Address())
	}
}

// Members of an aggregate share as priorities do.
func TestAggregateShares(t *testing.T) {
	t.Parallel()
	one, two := named(t, "one"), named(t, "two")
	c := &mesh.Cluster{Name: "both", Kind: mesh.ClusterAggregate, Members: []string{"a", "b"}}
	s := newSet(t, static("a", at(one), unhealthy(port(1))), static("b", at(two)), c)
	counts := map[string]int{}
	for range 400 {
		counts[do(t, s.Cluster("both"), request("GET", "")).Body]++
	}
	if n := counts["two "]; n < 70 || n > 170 || counts["one "] != 400-n { // 30 %
		t.Errorf("%v", counts)
	}
	// A retry that avoids priorities goes to the other.
	x := newExchange()
	x.Choice.AvoidPriorities = 1
	var first string
	for i := range 4 {
		got := finish(t, x, s.Cluster("both"), request("GET", "")).Body
		if i == 0 {
			first = got
		} else if i == 1 && got == first {
			t.Errorf("%q again", got)
		}
	}
	x.Done(time.Now())
}

func TestPreviousPriorities(t *testing.T) {
	t.Parallel()
	c := newSet(t, priorities(0, [2]int{2, 2}, [2]int{2, 2})).Cluster("c")
	hosts := c.Hosts()
	tried := func(h *upstream.Host) wire.Attempt { return wire.Attempt{Cluster: "c", Endpoint: h.Address()} }
	pick := func(every int, tries ...wire.Attempt) int {
		return slices.Index(hosts, c.PickAs(time.Now(), wire.Choice{AvoidPriorities: every}, tries...)) / 2
	}
	for range 20 {
		for _, tt := range []struct {
			every, want int
			tries       []wire.Attempt
		}{
			{1, 0, nil},
			{1, 1, []wire.Attempt{tried(hosts[0])}},
			{2, 0, []wire.Attempt{tried(hosts[0])}},
			{2, 1, []wire.Attempt{tried(hosts[0]), tried(hosts[1])}},
			{1, 0, []wire.Attempt{tried(hosts[0]), tried(hosts[2])}}, // all tried: from the start
			{0, 0, []wire.Attempt{tried(hosts[0])}},
		} {
			if got := pick(tt.every, tt.tries...); got != tt.want {
				t.Fatalf("every %d after %d tries: priority %d, want %d", tt.every, len(tt.tries), got, tt.want)
			}
		}
	}
}

func TestPreviousHosts(t *testing.T) {
	t.Parallel()
	for _, policy := range []mesh.Policy{mesh.RoundRobin, mesh.LeastRequest, mesh.Random, mesh.RingHash, mesh.Maglev} {
		c := newSet(t, balanced(3, mesh.Balance{Policy: policy}, nil)).Cluster("c")
		hosts := c.Hosts()
		tries := []wire.Attempt{{Cluster: "c", Endpoint: hosts[0].Address()}, {Cluster: "c", Endpoint: hosts[1].Address()}}
		others := 0
		for i := range 200 {
			want := keyed(i)
			want.AvoidHosts, want.HostAttempts = true, 30
			if got := c.PickAs(time.Now(), want, tries...); got != hosts[2] {
				t.Errorf("%s: a host that was tried", policy)
			}
			want.HostAttempts = 0 // once
			if got := c.PickAs(time.Now(), want, tries...); got != hosts[2] {
				others++
			}
		}
		if others == 0 {
			t.Errorf("%s: more than one attempt to find another", policy)
		}
		only := newSet(t, balanced(1, mesh.Balance{Policy: policy}, nil)).Cluster("c")
		tried := wire.Attempt{Cluster: "c", Endpoint: only.Hosts()[0].Address()}
		if only.PickAs(time.Now(), wire.Choice{AvoidHosts: true, HostAttempts: 5}, tried) == nil {
			t.Errorf("%s: none, though there is one that was tried", policy)
		}
	}
}

func TestLocalityWeights(t *testing.T) {
	t.Parallel()
	// Two localities of 2 and 1 hosts that are to get 1 and 3 parts; the last, of
	// no weight, none.
	c := balanced(4, mesh.Balance{LocalityWeighted: true}, func(i int, e *mesh.Endpoint) {
		e.Locality, e.LocalityWeight = uint32(i/2), uint32(1+2*(i/2))
		if i == 3 {
			e.Locality, e.LocalityWeight = 2, 0
		}
	})
	near(t, "localities", []float64{.125, .125, .75, 0}, shares(newSet(t, c).Cluster("c"), 8000, nil), .01)
	// With half of its hosts, a locality is fit for 70 % of its share.
	c.Endpoints.Endpoints[0].Health = mesh.Unhealthy
	near(t, "half of one", []float64{0, .7 / 3.7, 3 / 3.7, 0}, shares(newSet(t, c).Cluster("c"), 8000, nil), .01)
}

func TestSlowStart(t *testing.T) {
	t.Parallel()
	for _, policy := range []mesh.Policy{mesh.RoundRobin, mesh.LeastRequest} {
		s := newSet(t, &mesh.Cluster{Name: "c", Balance: mesh.Balance{Policy: policy, SlowStart: mesh.SlowStart{Window: 100 * time.Second}}})
		old, fresh := at(port(1)), at(port(2))
		s.SetEndpoints(set("c", old))
		c := s.Cluster("c")
		c.Hosts()[0].CameAt(time.Now().Add(-time.Hour))
		s.SetEndpoints(set("c", old, fresh))
		begun := time.Now()
		share := func(after time.Duration) float64 {
			s.Sweep(t.Context(), begun.Add(after))
			return shares(c, 20000, nil)[1]
		}
		for _, tt := range []struct {
			after time.Duration
			want  float64
		}{
			{0, .1 / 1.1}, {5 * time.Second, .1 / 1.1}, {50 * time.Second, .5 / 1.5}, {80 * time.Second, .8 / 1.8}, {101 * time.Second, .5}, {time.Hour, .5},
		} {
			if got := share(tt.after); math.Abs(got-tt.want) > .03 {
				t.Errorf("%s: after %v it has %.3f, want %.3f", policy, tt.after, got, tt.want)
			}
		}
		// One that was unhealthy begins anew.
		ill := old
		ill.Health = mesh.Unhealthy
		s.SetEndpoints(set("c", ill, fresh))
		s.SetEndpoints(set("c", old, fresh))
		c.Hosts()[1].CameAt(begun.Add(-time.Hour))
		if got := 1 - share(0); math.Abs(got-.1/1.1) > .03 {
			t.Errorf("%s: back, it has %.3f", policy, got)
		}
	}
}

func TestSlowStartShape(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		start mesh.SlowStart
		want  float64 // after a quarter of the window
	}{
		{mesh.SlowStart{}, .25},
		{mesh.SlowStart{Aggression: 2}, .5},
		{mesh.SlowStart{Aggression: .5, HasMin: true}, .0625},
		{mesh.SlowStart{MinPercent: 40, HasMin: true}, .4},
	} {
		tt.start.Window = 100 * time.Second
		if got := upstream.SlowShare(tt.start, 25*time.Second); math.Abs(got-tt.want) > 1e-9 {
			t.Errorf("%+v: %v, want %v", tt.start, got, tt.want)
		}
	}
}

func policies() []mesh.Policy {
	return []mesh.Policy{mesh.RoundRobin, mesh.LeastRequest, mesh.Random, mesh.RingHash, mesh.Maglev}
}

func TestPolicyAllocates(t *testing.T) {
	for _, policy := range policies() {
		c := newSet(t, balanced(100, mesh.Balance{Policy: policy}, func(i int, e *mesh.Endpoint) { e.Weight = uint32(i%3 + 1) })).Cluster("c")
		now, i := time.Now(), 0
		tries := []wire.Attempt{{Cluster: "c", Endpoint: c.Hosts()[0].Address()}}
		if n := testing.AllocsPerRun(1000, func() {
			want := keyed(i)
			want.AvoidHosts, want.AvoidPriorities = true, 1
			c.PickAs(now, want, tries...)
			i++
		}); n != 0 {
			t.Errorf("%s: a pick allocates %v times", policy, n)
		}
	}
}

func BenchmarkPolicy(b *testing.B) {
	for _, policy := range policies() {
		for _, n := range []int{10, 1000} {
			b.Run(fmt.Sprintf("%s/%d", policy, n), func(b *testing.B) {
				c := newSet(b, balanced(n, mesh.Balance{Policy: policy}, nil)).Cluster("c")
				now, i := time.Now(), 0
				b.ReportAllocs()
				for b.Loop() {
					i++
					c.PickAs(now, keyed(i))
				}
			})
		}
	}
}

func BenchmarkPlan(b *testing.B) {
	for _, policy := range policies() {
		b.Run(policy.String(), func(b *testing.B) {
			definition := balanced(1000, mesh.Balance{Policy: policy}, nil)
			s := newSet(b, &mesh.Cluster{Name: "c", Balance: definition.Balance})
			for b.Loop() {
				s.SetEndpoints(definition.Endpoints)
			}
		})
	}
}

// Tables are made only for clusters that ask for them, so that many clusters stay
// small.
func TestManyClusters(t *testing.T) {
	const clusters = 100
	settled := func() int64 { // pools give things up by and by
		var m runtime.MemStats
		for range 3 {
			runtime.GC()
		}
		runtime.ReadMemStats(&m)
		return int64(m.HeapAlloc)
	}
	measure := func(policy mesh.Policy) int64 {
		var definitions []*mesh.Cluster
		for i := range clusters {
			c := balanced(10, mesh.Balance{Policy: policy}, nil)
			c.Name, c.Outlier = fmt.Sprint(i), mesh.DefaultOutlier()
			definitions = append(definitions, c)
		}
		before := settled()
		s := newSet(t, definitions...)
		after := settled()
		runtime.KeepAlive(s)
		return (after - before) / clusters
	}
	for policy, most := range map[mesh.Policy]int64{mesh.RoundRobin: 10 << 10, mesh.LeastRequest: 10 << 10, mesh.RingHash: 40 << 10, mesh.Maglev: 160 << 10} {
		n := measure(policy)
		t.Logf("%s: %d bytes for a cluster of 10 endpoints", policy, n)
		if n > most {
			t.Errorf("%s: %d bytes for a cluster of 10 endpoints", policy, n)
		}
	}
}
