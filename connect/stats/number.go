package stats

import (
	"sync/atomic"
	"time"
)

// Kind is what a number does.
type Kind uint8

// Kinds of numbers.
const (
	// KindCounter only grows, KindGauge goes up and down, KindHistogram is a
	// distribution, KindText is no number at all.
	KindCounter Kind = iota
	KindGauge
	KindHistogram
	KindText
)

// Counter counts up. The zero Counter is ready for use, and safe for concurrent
// use, as are the others.
type Counter struct{ n atomic.Int64 }

// Add counts n more, which is not below 0.
func (c *Counter) Add(n int64) { c.n.Add(n) }

// Load is how many there were.
func (c *Counter) Load() int64 { return c.n.Load() }

// Reset begins again at 0 (POST /reset_counters).
func (c *Counter) Reset() { c.n.Store(0) }

// Gauge goes up and down.
type Gauge struct{ n atomic.Int64 }

// Add adds n, which may be below 0.
func (g *Gauge) Add(n int64) { g.n.Add(n) }

// Set sets the value.
func (g *Gauge) Set(n int64) { g.n.Store(n) }

// Load is the value.
func (g *Gauge) Load() int64 { return g.n.Load() }

// Bounds are the upper bounds of a Histogram's buckets: Envoy's defaults, for
// milliseconds.
func Bounds() [19]float64 {
	return [...]float64{0.5, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000}
}

// Histogram counts values in the buckets of [Bounds].
type Histogram struct {
	counts [20]atomic.Int64 // not cumulative; the last is beyond all bounds
	sum    atomic.Int64
}

// Observe counts a duration, in whole milliseconds as Envoy does.
func (h *Histogram) Observe(d time.Duration) { h.Record(max(0, d.Milliseconds())) }

// Record counts a value.
func (h *Histogram) Record(value int64) {
	// The bounds, in whole numbers: a value of 0 is below the first.
	i := 0
	for _, bound := range [...]int64{0, 1, 5, 10, 25, 50, 100, 250, 500, 1000, 2500, 5000, 10000, 30000, 60000, 300000, 600000, 1800000, 3600000} {
		if value <= bound {
			break
		}
		i++
	}
	h.counts[i].Add(1)
	h.sum.Add(value)
}

// Read returns what was counted.
func (h *Histogram) Read() *Reading {
	// The sum first: what is counted meanwhile should not be in it uncounted.
	r := &Reading{Sum: h.sum.Load()}
	for i := range h.counts {
		r.Count += h.counts[i].Load()
		if i < len(r.Cumulative) {
			r.Cumulative[i] = r.Count
		}
	}
	return r
}

// Reading is a Histogram at one time.
type Reading struct {
	// Cumulative counts values up to each of [Bounds].
	Cumulative [19]int64
	Count, Sum int64
}

// Quantile is the value below which a share (0 to 1) of all values lies, as
// far as buckets tell; ok is false if there are no values.
func (r *Reading) Quantile(share float64) (value float64, ok bool) {
	if r.Count == 0 {
		return 0, false
	}
	rank := share * float64(r.Count)
	lower, before := 0.0, int64(0)
	for i, bound := range Bounds() {
		n := r.Cumulative[i] - before
		if n > 0 && float64(r.Cumulative[i]) >= rank {
			return lower + (bound-lower)*max(0, rank-float64(before))/float64(n), true
		}
		lower, before = bound, r.Cumulative[i]
	}
	return lower, true
}
