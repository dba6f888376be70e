package stats

import (
	"strconv"
	"strings"
)

// Buckets is a way to show a histogram.
type Buckets uint8

const (
	// Quantiles shows the values below which shares of all values lie.
	Quantiles Buckets = iota
	// Cumulative shows how many values are up to each bound.
	Cumulative
	// Disjoint shows how many of those are beyond the bound before.
	Disjoint
)

// ParseBuckets reads Envoy's name of a way; "" is summary.
func ParseBuckets(name string) (b Buckets, ok bool) {
	switch name {
	case "", "summary":
		return Quantiles, true
	case "cumulative":
		return Cumulative, true
	case "disjoint":
		return Disjoint, true
	default:
		return Quantiles, false
	}
}

// at is the count of the bucket i.
func (b Buckets) at(r *Reading, i int) int64 {
	n := r.Cumulative[i]
	if b == Disjoint && i > 0 {
		n -= r.Cumulative[i-1]
	}
	return n
}

// text is a histogram as Envoy writes it. Of the last interval, which Envoy writes
// before what came since the start, nothing is kept here.
func (b Buckets) text(r *Reading) string {
	if b == Quantiles || r.Count == 0 {
		return summary(r)
	}
	var parts []string
	for i, bound := range Bounds() {
		parts = append(parts, "B"+strconv.FormatFloat(bound, 'g', 6, 64)+"(nan,"+strconv.FormatInt(b.at(r, i), 10)+")")
	}
	return strings.Join(parts, " ")
}

// object is a histogram in JSON.
func (b Buckets) object(s *Stat) any {
	type bucket struct {
		Bound      float64 `json:"upper_bound"`
		Interval   *int64  `json:"interval"`
		Cumulative int64   `json:"cumulative"`
	}
	var all []bucket
	for i, bound := range Bounds() {
		all = append(all, bucket{Bound: bound, Cumulative: b.at(s.Histogram, i)})
	}
	return map[string]any{"name": s.Name, "buckets": all}
}
