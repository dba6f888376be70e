package ads

import (
	"slices"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
)

// Backoff bounds waits. Zero fields have the defaults in brackets.
type Backoff struct {
	// Min is the first wait [250 ms]; each one after it is 1.6 times as long.
	Min time.Duration
	// Refused is the longest wait while nothing listens at the address [1 s]: to
	// try costs next to nothing there, and a restarted agent is found soon.
	Refused time.Duration
	// Unavailable is the longest wait while the control plane is there and does
	// not serve us [5 s].
	Unavailable time.Duration
	// Max is the longest wait for all else, as for a denied token, and between
	// NACKs [30 s].
	Max time.Duration
	// Stable is how long a stream must have lived for the waits to begin anew
	// [5 s].
	Stable time.Duration
}

func (b *Backoff) defaults() {
	for _, d := range []struct {
		field    *time.Duration
		fallback time.Duration
	}{
		{&b.Min, 250 * time.Millisecond},
		{&b.Refused, time.Second},
		{&b.Unavailable, 5 * time.Second},
		{&b.Max, 30 * time.Second},
		{&b.Stable, 5 * time.Second},
	} {
		if *d.field == 0 {
			*d.field = d.fallback
		}
	}
}

// next is how long to wait after so many failed tries; random is in [0, 1).
func (b *Backoff) next(tries int, kind Kind, random float64) time.Duration {
	limit := b.Max
	switch kind {
	case Unreachable:
		limit = b.Refused
	case Unavailable, Ended:
		limit = b.Unavailable
	case Denied, Rejected:
	}
	return grow(b.Min, limit, tries, random)
}

// nack is how long to wait before NACK number n of a type, from 0.
func (b *Backoff) nack(n int) time.Duration {
	return grow(4*b.Min, b.Max, 2*n, 1)
}

// grow is min times 1.6 to the power of n, up to limit, and of that a random
// part of at least one half.
func grow(least, limit time.Duration, n int, random float64) time.Duration {
	wait := float64(least)
	for range n {
		if wait *= 1.6; wait >= float64(limit) {
			break
		}
	}
	wait = min(wait, float64(limit))
	return time.Duration(wait/2 + random*wait/2)
}

// nackQueue holds back NACKs, at most one of each type: who sends another response
// before it has the answer to the last gets an answer to the later one only.
type nackQueue struct {
	waiting []waitingNack
	timer   *time.Timer
}

type waitingNack struct {
	request *discoveryv3.DeltaDiscoveryRequest
	at      time.Time
}

func (q *nackQueue) push(request *discoveryv3.DeltaDiscoveryRequest, wait time.Duration) {
	for i := range q.waiting {
		if w := &q.waiting[i]; w.request.GetTypeUrl() == request.GetTypeUrl() {
			w.request = request // it has waited for a part of its time already
			return
		}
	}
	q.waiting = append(q.waiting, waitingNack{request, time.Now().Add(wait)})
	slices.SortFunc(q.waiting, func(a, b waitingNack) int { return a.at.Compare(b.at) })
	q.arm()
}

// due is ready when the next NACK may go; nil if there is none.
func (q *nackQueue) due() <-chan time.Time {
	if q.timer == nil {
		return nil
	}
	return q.timer.C
}

// pop takes the NACK that is due.
func (q *nackQueue) pop() *discoveryv3.DeltaDiscoveryRequest {
	request := q.waiting[0].request
	q.waiting = q.waiting[1:]
	q.arm()
	return request
}

func (q *nackQueue) arm() {
	q.stop()
	if len(q.waiting) > 0 {
		q.timer = time.NewTimer(time.Until(q.waiting[0].at))
	}
}

func (q *nackQueue) stop() {
	if q.timer != nil {
		q.timer.Stop()
		q.timer = nil
	}
}
