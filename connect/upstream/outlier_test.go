package upstream_test

import (
	"fmt"
	"maps"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// detecting is a cluster with outlier detection in which any number of hosts may
// be ejected, but for what change says.
func detecting(change func(o *mesh.Outlier), endpoints ...mesh.Endpoint) *mesh.Cluster {
	c := static("c", endpoints...)
	c.Outlier = mesh.DefaultOutlier()
	c.Outlier.MaxEjectionPercent = 100
	if change != nil {
		change(c.Outlier)
	}
	return c
}

// counters are those of outlier detection that are not 0.
func counters(c *upstream.Cluster) map[string]int64 {
	all := map[string]int64{}
	stats := c.Stats()
	for name, value := range maps.All(maps.Collect(stats.All())) {
		if value != 0 && len(name) > 18 && name[:18] == "outlier_detection." {
			all[name[18:]] = value
		}
	}
	return all
}

// Original destinations are not watched.
func TestNoEjectionOfOriginals(t *testing.T) {
	t.Parallel()
	definition := detecting(func(o *mesh.Outlier) { o.Consecutive5xx = 1 })
	definition.Kind = mesh.ClusterOriginalDst
	c := newSet(t, definition).Cluster("c")
	h := c.PickFor(wanting("10.0.0.1:1", true))
	for range 10 {
		c.Answered(h, false, &wire.Response{Status: http.StatusInternalServerError})
	}
	if got := counters(c); len(got) > 0 || h.Ejected() {
		t.Errorf("%v", got)
	}
}

// answering answers with what status says.
func answering(t *testing.T, status *atomic.Int64) string {
	t.Helper()
	return serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(int(status.Load())) })
}

// What comes of an exchange with a host that has gone meanwhile ejects nobody.
func TestNoEjectionOfTheGone(t *testing.T) {
	t.Parallel()
	for name, next := range map[string]*mesh.Cluster{
		"gone": detecting(nil, at("10.0.0.2:1")), "no detection": static("c", at("10.0.0.1:1")),
	} {
		s := newSet(t, detecting(nil, at("10.0.0.1:1")))
		c := s.Cluster("c")
		h := c.Hosts()[0]
		commit(t, s, next)
		for range 10 {
			c.Answered(h, false, &wire.Response{Status: http.StatusInternalServerError})
		}
		if got := counters(c); len(got) > 0 || h.Ejected() {
			t.Errorf("%s: %v", name, got)
		}
	}
}

func TestConsecutive(t *testing.T) {
	t.Parallel()
	gateway := func(o *mesh.Outlier) {
		o.EnforcingConsecutive5xx, o.EnforcingConsecutiveGatewayFailure, o.ConsecutiveGatewayFailure = 0, 100, 3
	}
	tests := []struct {
		name     string
		change   func(o *mesh.Outlier)
		statuses []int
		want     map[string]int64
	}{
		{"four are too few", nil, []int{500, 503, 500, 599}, map[string]int64{}},
		{"five", nil, []int{500, 501, 500, 500, 500}, map[string]int64{
			"ejections_active": 1, "ejections_enforced_total": 1, "ejections_detected_consecutive_5xx": 1, "ejections_enforced_consecutive_5xx": 1,
			"ejections_total": 1, "ejections_consecutive_5xx": 1,
		}},
		{"one answer between", nil, []int{500, 500, 500, 404, 500, 500}, map[string]int64{}},
		{"0 detects nothing", func(o *mesh.Outlier) { o.Consecutive5xx = 0 }, []int{500, 500, 500, 500, 500, 500}, map[string]int64{}},
		{"not enforced", func(o *mesh.Outlier) { o.EnforcingConsecutive5xx = 0 }, []int{500, 500, 500, 500, 500, 500, 500, 500, 500, 500}, map[string]int64{
			"ejections_detected_consecutive_5xx": 2, "ejections_consecutive_5xx": 2, "ejections_total": 2,
		}},
		{"gateway failures", gateway, []int{502, 503, 504}, map[string]int64{
			"ejections_active": 1, "ejections_enforced_total": 1,
			"ejections_detected_consecutive_gateway_failure": 1, "ejections_enforced_consecutive_gateway_failure": 1,
		}},
		{"500 is none", gateway, []int{502, 503, 500, 502, 503, 200}, map[string]int64{
			"ejections_detected_consecutive_5xx": 1, "ejections_consecutive_5xx": 1, "ejections_total": 1,
		}},
		{"gateway failures are not enforced by default", func(o *mesh.Outlier) { o.Consecutive5xx = 9 }, []int{503, 503, 503, 503, 503}, map[string]int64{
			"ejections_detected_consecutive_gateway_failure": 1,
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var status atomic.Int64
			c := newSet(t, detecting(tt.change, at(answering(t, &status)))).Cluster("c")
			for _, code := range tt.statuses {
				status.Store(int64(code))
				do(t, c, request(http.MethodGet, ""))
			}
			if got := counters(c); !maps.Equal(got, tt.want) {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

// An ejected host gets nothing until its time is over, which grows each time and
// shrinks when it behaves.
func TestEjection(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	status.Store(200)
	bad, good := answering(t, &status), named(t, "good")
	s := newSet(t, detecting(nil, at(bad), at(good)))
	c := s.Cluster("c")
	begun := time.Now()
	eject := func(after time.Duration) {
		t.Helper()
		status.Store(503)
		for range 10 {
			do(t, c, request(http.MethodGet, ""))
		}
		s.Sweep(t.Context(), begun) // what Run does when it is told
		if got := c.Stats(); got.Healthy != 1 || got.Outlier.Active != 1 {
			t.Fatalf("after %v: %+v", after, got)
		}
		for range 10 {
			if got := do(t, c, request(http.MethodGet, "")); got.Body != "good " {
				t.Fatalf("an answer of the ejected host: %+v", got)
			}
		}
	}
	isBack := func(after time.Duration) bool {
		s.Sweep(t.Context(), time.Now().Add(after))
		return c.Stats().Healthy == 2
	}
	for times, out := range []time.Duration{30 * time.Second, 60 * time.Second} {
		eject(out)
		if isBack(out - time.Second) {
			t.Errorf("ejection %d: back before %v", times+1, out)
		}
		if !isBack(out + 11*time.Second) {
			t.Errorf("ejection %d: not back after %v", times+1, out)
		}
	}
	status.Store(200)
	for i := range 3 { // intervals in which it behaves
		isBack(time.Duration(i+10) * time.Minute)
	}
	eject(0)
	if !isBack(time.Hour) || counters(c)["ejections_enforced_total"] != 3 || counters(c)["ejections_active"] != 0 {
		t.Errorf("%v", counters(c))
	}
}

func TestEjectionTimes(t *testing.T) {
	t.Parallel()
	o := mesh.DefaultOutlier()
	now := time.Now()
	for times, want := range map[int]time.Duration{1: 30 * time.Second, 2: time.Minute, 9: 270 * time.Second, 11: 300 * time.Second, 100: 300 * time.Second} {
		if upstream.SpellOver(o, times, 0, now, now.Add(want-1)) || !upstream.SpellOver(o, times, 0, now, now.Add(want)) {
			t.Errorf("%d times: not over after %v", times, want)
		}
	}
	if upstream.SpellOver(o, 1, 5*time.Second, now, now.Add(34*time.Second)) {
		t.Error("jitter does not count")
	}
	o.BaseEjection = 10 * time.Minute // more than MaxEjection: whatever is larger
	if upstream.SpellOver(o, 3, 0, now, now.Add(9*time.Minute)) || !upstream.SpellOver(o, 3, 0, now, now.Add(10*time.Minute)) {
		t.Error("a base longer than the most")
	}
}

// No more are ejected than max_ejection_percent says.
func TestMaxEjection(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		percent  uint32
		one      bool
		hosts    int
		ejected  int64
		overflow bool
	}{
		{100, false, 4, 4, false},
		{50, false, 4, 2, true},
		{49, false, 4, 1, true},
		{10, false, 10, 1, true},
		{10, false, 4, 0, true},
		{10, true, 4, 1, true},
		{0, false, 4, 0, true},
		{0, true, 1, 1, false},
	} {
		var status atomic.Int64
		status.Store(500)
		var all []mesh.Endpoint
		for range tt.hosts {
			all = append(all, at(answering(t, &status)))
		}
		s := newSet(t, detecting(func(o *mesh.Outlier) { o.MaxEjectionPercent, o.AlwaysEjectOne = tt.percent, tt.one }, all...))
		c := s.Cluster("c")
		for range 5 * tt.hosts {
			do(t, c, request(http.MethodGet, ""))
		}
		stats := c.Stats().Outlier
		if stats.Active != tt.ejected || (stats.Overflow > 0) != tt.overflow {
			t.Errorf("%d %% of %d: %d ejected, %d not for the limit", tt.percent, tt.hosts, stats.Active, stats.Overflow)
		}
	}
}

// What happens to a host is kept over changes of endpoints and configuration, and
// forgotten with the host or when detection ends.
func TestEjectionSurvives(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	status.Store(500)
	bad := at(answering(t, &status))
	detect := detecting(nil)
	definition := func() *mesh.Cluster { return &mesh.Cluster{Name: "c", Outlier: detect.Outlier} }
	s := newSet(t, definition())
	s.SetEndpoints(set("c", bad, at(port(1))))
	c := s.Cluster("c")
	c.Hosts()[1].Failed(time.Now().Add(time.Hour)) // it gets nothing
	for range 5 {
		do(t, c, request(http.MethodGet, ""))
	}
	wantActive := func(when string, want int64, healthy int) {
		t.Helper()
		s.Sweep(t.Context(), time.Now())
		if stats := c.Stats(); stats.Outlier.Active != want || stats.Healthy != healthy {
			t.Errorf("%s: %d ejected, %d healthy", when, stats.Outlier.Active, stats.Healthy)
		}
	}
	wantActive("at first", 1, 1)
	s.SetEndpoints(set("c", at(port(2)), bad, at(port(1))))
	wantActive("with one more endpoint", 1, 2)
	again := definition()
	again.ConnectTimeout = time.Minute
	commit(t, s, again)
	wantActive("with another configuration", 1, 2)
	s.SetEndpoints(set("c", at(port(2))))
	wantActive("without the host", 0, 1)
	s.SetEndpoints(set("c", bad))
	wantActive("as a new host", 0, 1)
	for range 5 {
		do(t, c, request(http.MethodGet, ""))
	}
	wantActive("ejected again", 1, 0)
	off := definition()
	off.Outlier = nil
	commit(t, s, off)
	wantActive("without detection", 0, 1)
}

// A threshold that comes to be less than what was counted still counts.
func TestThresholdLowered(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	status.Store(500)
	endpoint := at(answering(t, &status))
	s := newSet(t, detecting(func(o *mesh.Outlier) { o.Consecutive5xx = 10 }, endpoint))
	for range 6 {
		do(t, s.Cluster("c"), request(http.MethodGet, ""))
	}
	commit(t, s, detecting(func(o *mesh.Outlier) { o.Consecutive5xx = 3 }, endpoint))
	do(t, s.Cluster("c"), request(http.MethodGet, ""))
	if got := counters(s.Cluster("c"))["ejections_active"]; got != 1 {
		t.Errorf("%d ejected", got)
	}
}

func TestLocalOrigin(t *testing.T) {
	t.Parallel()
	split := func(o *mesh.Outlier) { o.SplitLocalOrigin, o.ConsecutiveLocalOriginFailure = true, 3 }
	enforced := func(name string) map[string]int64 {
		all := map[string]int64{
			"ejections_active": 1, "ejections_enforced_total": 1, "ejections_detected_" + name: 1, "ejections_enforced_" + name: 1,
		}
		if name == "consecutive_5xx" { // which has older names besides
			all["ejections_total"], all["ejections_consecutive_5xx"] = 1, 1
		}
		return all
	}
	for _, tt := range []struct {
		name   string
		change func(o *mesh.Outlier)
		tries  int
		want   map[string]int64
	}{
		{"told apart", split, 3, enforced("consecutive_local_origin_failure")},
		{"told apart, too few", split, 2, map[string]int64{}},
		{"counted as 503", func(o *mesh.Outlier) { o.Consecutive5xx, o.ConsecutiveGatewayFailure = 3, 0 }, 3, enforced("consecutive_5xx")},
	} {
		closed := closedPort(t)
		c := newSet(t, detecting(tt.change, at(closed))).Cluster("c")
		for range tt.tries {
			do(t, c, request(http.MethodPost, "x"))
		}
		if got := counters(c); !maps.Equal(got, tt.want) {
			t.Errorf("%s: got %v, want %v", tt.name, got, tt.want)
		}
		// Raw connections count alike.
		raw := newSet(t, detecting(tt.change, at(closed))).Cluster("c")
		for range tt.tries {
			raw.Dial(t.Context(), wire.Choice{}) //nolint:errcheck // refused
		}
		if got := counters(raw); !maps.Equal(got, tt.want) {
			t.Errorf("%s: raw: got %v, want %v", tt.name, got, tt.want)
		}
	}
	slow := detecting(func(o *mesh.Outlier) {
		o.Consecutive5xx, o.ConsecutiveGatewayFailure, o.EnforcingConsecutive5xx = 1, 1, 0
	}, at(silent(t)))
	c := newSet(t, slow).Cluster("c")
	x := newExchange()
	x.Deadline = time.Now().Add(time.Second) // by then it has been asked
	finish(t, x, c, request(http.MethodGet, ""))
	x.Done(time.Now())
	gone := newExchange()
	gone.Abort(wire.ErrClientGone)
	finish(t, gone, c, request(http.MethodGet, "")) // says nothing of the host
	gone.Done(time.Now())
	want := map[string]int64{"ejections_total": 1, "ejections_consecutive_5xx": 1, "ejections_detected_consecutive_5xx": 1, "ejections_detected_consecutive_gateway_failure": 1}
	if got := counters(c); !maps.Equal(got, want) {
		t.Errorf("a timeout: %v", got)
	}
}

// Hosts are compared with one another once an interval.
func TestSuccessRate(t *testing.T) {
	t.Parallel()
	onlyRate := func(o *mesh.Outlier) { o.Consecutive5xx, o.ConsecutiveGatewayFailure = 0, 0 }
	percentage := func(o *mesh.Outlier) {
		onlyRate(o)
		o.EnforcingSuccessRate, o.EnforcingFailurePercentage, o.FailurePercentageThreshold = 0, 100, 50
	}
	for _, tt := range []struct {
		name   string
		change func(o *mesh.Outlier)
		volume int
		rates  []int // of success in percent, by host
		want   []bool
	}{
		{"one is far below", onlyRate, 100, []int{100, 100, 100, 100, 20}, []bool{false, false, false, false, true}},
		{"all are as bad", onlyRate, 100, []int{50, 50, 50, 50, 50}, []bool{false, false, false, false, false}},
		{"too few hosts", onlyRate, 100, []int{100, 100, 100, 20}, []bool{false, false, false, false}},
		{"too few requests", onlyRate, 90, []int{100, 100, 100, 100, 20}, []bool{false, false, false, false, false}},
		{"failure percentage", percentage, 60, []int{100, 51, 50, 40, 0}, []bool{false, false, true, true, true}},
		{"too few for a percentage", percentage, 40, []int{100, 51, 50, 40, 0}, []bool{false, false, false, false, false}},
	} {
		var all []mesh.Endpoint
		for i := range tt.rates {
			all = append(all, at(port(i+1)))
		}
		s := newSet(t, detecting(tt.change, all...))
		c := s.Cluster("c")
		for i, rate := range tt.rates {
			for n := range tt.volume {
				resp := &wire.Response{Status: 200}
				if n*100 >= rate*tt.volume {
					resp.Status = 500
				}
				c.Answered(c.Hosts()[i], false, resp)
			}
		}
		s.Sweep(t.Context(), time.Now().Add(11*time.Second))
		for i, h := range c.Hosts() {
			if h.Ejected() != tt.want[i] {
				t.Errorf("%s: host %d: ejected %v; %v", tt.name, i, h.Ejected(), counters(c))
			}
		}
	}
}

func TestOutlierGRPC(t *testing.T) {
	t.Parallel()
	for status, want := range map[string]int64{"": 0, "0": 0, "5": 0, "14": 1, "13": 1, "2": 1, "4": 1, "8": 0, "x": 1, "1": 0, "12": 1, "16": 0, "7": 0, "3": 0, "6": 0} {
		c := newSet(t, detecting(func(o *mesh.Outlier) { o.Consecutive5xx = 1 }, at(port(1)))).Cluster("c")
		resp := &wire.Response{Status: 200}
		if status != "" {
			resp.Header.Add("grpc-status", status)
		}
		c.Answered(c.Hosts()[0], true, resp)
		if got := counters(c)["ejections_active"]; got != want {
			t.Errorf("grpc-status %q: %d ejected, want %d", status, got, want)
		}
	}
}

// Run puts an ejection into effect at once.
func TestRunEjects(t *testing.T) {
	t.Parallel()
	var status atomic.Int64
	status.Store(500)
	s := newSet(t, detecting(nil, at(answering(t, &status)), at(named(t, "good"))))
	run(t, s)
	for range 12 {
		do(t, s.Cluster("c"), request(http.MethodGet, ""))
	}
	eventually(t, "one host to be left", func() bool { return s.Cluster("c").Healthy() == 1 })
	if fmt.Sprint(counters(s.Cluster("c"))) == "map[]" {
		t.Error("nothing is counted")
	}
}
