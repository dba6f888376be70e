package telemetry

import (
	"sync/atomic"
	"time"
)

// histograms count durations of three kinds in the same fixed buckets. Of one
// exchange they are much alike, so that what is counted of it lies close
// together in memory. The zero value is ready for use, observing costs two
// atomic additions.
type histograms struct {
	sums   [kinds]atomic.Int64                    // nanoseconds
	counts [len(bounds{}) + 1][kinds]atomic.Int64 // not cumulative; the last is beyond all bounds
}

// kind is what a duration is of.
type kind int

const (
	inProxy kind = iota
	inUpstream
	inAll
	kinds
)

// bounds are upper bounds of buckets, in ascending order.
type bounds [19]time.Duration

// requestBounds are fit for what a proxy costs and for what a slow service does.
func requestBounds() *bounds {
	return &bounds{
		50 * time.Microsecond, 100 * time.Microsecond, 250 * time.Microsecond, 500 * time.Microsecond,
		time.Millisecond, 2500 * time.Microsecond, 5 * time.Millisecond, 10 * time.Millisecond, 25 * time.Millisecond,
		50 * time.Millisecond, 100 * time.Millisecond, 250 * time.Millisecond, 500 * time.Millisecond,
		time.Second, 2500 * time.Millisecond, 5 * time.Second, 10 * time.Second, 30 * time.Second, time.Minute,
	}
}

// connectionBounds are fit for connections, which may live for days.
func connectionBounds() *bounds {
	return &bounds{
		time.Millisecond, 5 * time.Millisecond, 10 * time.Millisecond, 50 * time.Millisecond, 100 * time.Millisecond,
		500 * time.Millisecond, time.Second, 5 * time.Second, 10 * time.Second, 30 * time.Second,
		time.Minute, 5 * time.Minute, 15 * time.Minute, time.Hour, 3 * time.Hour, 6 * time.Hour,
		12 * time.Hour, 24 * time.Hour, 7 * 24 * time.Hour,
	}
}

// observe counts d in the first bucket whose bound is not below it.
func (h *histograms) observe(k kind, b *bounds, d time.Duration) {
	low, high := 0, len(b)
	for low < high {
		if middle := (low + high) / 2; b[middle] < d {
			low = middle + 1
		} else {
			high = middle
		}
	}
	h.counts[low][k].Add(1)
	h.sums[k].Add(int64(max(0, d)))
}

// read returns the cumulative counts by bound in seconds, how many durations
// there were, and their sum in seconds.
func (h *histograms) read(k kind, b *bounds) (cumulative map[float64]uint64, count uint64, sum float64) {
	// The sum first: what is observed meanwhile should not be in it uncounted.
	sum = time.Duration(h.sums[k].Load()).Seconds()
	cumulative = make(map[float64]uint64, len(b))
	for i := range h.counts {
		count += uint64(h.counts[i][k].Load())
		if i < len(b) {
			cumulative[b[i].Seconds()] = count
		}
	}
	return cumulative, count, sum
}
