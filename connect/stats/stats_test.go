package stats_test

import (
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/stats"
)

// many is an owner of numbers.
type many struct{ hits, misses stats.Counter }

func (m *many) all(yield func(stats.Stat) bool) {
	_ = yield(stats.Stat{Name: "hits", Value: m.hits.Load()}) && yield(stats.Stat{Name: "misses", Value: m.misses.Load()})
}

func TestRegistry(t *testing.T) {
	t.Parallel()
	r := &stats.Registry{}
	http := r.Scope("http.").Scope("public_listener.")
	http.Counter("rbac.allowed").Add(2)
	http.Counter("rbac.allowed").Add(3) // the same one
	http.Gauge("active").Set(7)
	http.Gauge("rbac.allowed").Set(99) // is a counter
	stats.Own(r.Scope("cache."), (*many).all).hits.Add(1)
	stats.Own(r.Scope("cache."), (*many).all).hits.Add(1)
	r.Add(func(yield func(stats.Stat) bool) {
		yield(stats.Stat{Name: "server.live", Kind: stats.KindGauge, Value: 1})
	})
	got := map[string]int64{}
	for s := range r.All() {
		got[s.Name] = s.Value
	}
	want := map[string]int64{
		"http.public_listener.rbac.allowed": 5, "http.public_listener.active": 7, "cache.hits": 2, "cache.misses": 0, "server.live": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for range r.All() {
		break // whoever has seen enough may go
	}
}

func TestNil(t *testing.T) {
	t.Parallel()
	var r *stats.Registry
	r.Add(nil)
	r.Scope("a").Scope("b").Counter("c").Add(1)
	r.Scope("a").Histogram("c").Record(1)
	stats.Own(r.Scope("a"), (*many).all).hits.Add(1)
	if n := len(maps.Collect(func(yield func(string, int64) bool) {
		for s := range r.All() {
			yield(s.Name, s.Value)
		}
	})); n != 0 {
		t.Errorf("%d numbers of nothing", n)
	}
}

func TestHistogram(t *testing.T) {
	h := &stats.Histogram{}
	if _, ok := h.Read().Quantile(0.5); ok {
		t.Error("a quantile of nothing")
	}
	for _, d := range []time.Duration{0, 300 * time.Microsecond, time.Millisecond, 7 * time.Millisecond, 2 * time.Hour, -time.Second} {
		h.Observe(d)
	}
	r := h.Read()
	if r.Count != 6 || r.Sum != 0+0+1+7+7200000 || r.Cumulative[0] != 3 || r.Cumulative[1] != 4 || r.Cumulative[2] != 4 || r.Cumulative[3] != 5 || r.Cumulative[18] != 5 {
		t.Errorf("%+v", r)
	}
	for share, want := range map[float64]float64{0: 0, 0.5: 0.5, 0.75: 7.5, 1: 3600000} {
		if got, _ := r.Quantile(share); got != want {
			t.Errorf("quantile %v: %v, want %v", share, got, want)
		}
	}
	if n := testing.AllocsPerRun(100, func() { h.Observe(5 * time.Millisecond) }); n != 0 {
		t.Errorf("observing allocates %v times", n)
	}
}
