package upstream

import (
	"math"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// picker chooses among the hosts of one level. It is immutable; candidate neither
// allocates nor locks.
type picker interface {
	// candidate is the choice for seed; if it does not suit, the next one is asked
	// for with n one higher, from 0 on.
	candidate(seed uint64, n int) *Host
}

// newPicker makes the picker that b asks for, of hosts out of all of a level. It
// tells whether it holds only for now, as some host begins slowly.
func newPicker(b *mesh.Balance, hosts, all []*Host, now time.Time) (p picker, ramping bool) {
	if len(hosts) == 1 {
		return single{hosts[0]}, false
	}
	switch b.Policy {
	case mesh.Random:
		return rotation{hosts}, false
	case mesh.RingHash:
		return newRing(b, hosts, weightsOf(b, hosts, all)), false
	case mesh.Maglev:
		return newMaglev(b, hosts, weightsOf(b, hosts, all)), false
	case mesh.LeastRequest:
		weights := weightsOf(b, hosts, all)
		weights, ramping = ramp(&b.SlowStart, hosts, weights, now)
		return newLeast(b, hosts, weights), ramping
	default:
		weights := weightsOf(b, hosts, all)
		weights, ramping = ramp(&b.SlowStart, hosts, weights, now)
		return rotation{spread(hosts, weights)}, ramping
	}
}

type single struct{ host *Host }

func (s single) candidate(uint64, int) *Host { return s.host }

// rotation takes hosts in the order of a schedule from seed on: round robin if
// seed counts, random if it is so.
type rotation struct{ schedule []*Host }

func (r rotation) candidate(seed uint64, n int) *Host {
	return r.schedule[(seed+uint64(n))%uint64(len(r.schedule))]
}

// least draws some hosts at random, as often as their weights say, and takes the
// one with the fewest exchanges under way for its weight.
//
// Envoy does so only where all weights are equal, and else goes round in an order
// in which the weight of a busy host is less. It needs a lock and a heap for that;
// the outcome is the same in the long run: requests under way in proportion to
// weights.
type least struct {
	schedule []*Host
	choices  int
	bias     float64
	weights  map[*Host]float64 // nil if all are equal
}

func newLeast(b *mesh.Balance, hosts []*Host, weights []float64) picker {
	l := &least{schedule: spread(hosts, weights), choices: 2, bias: 1}
	if b.Choices > 0 {
		l.choices = int(min(b.Choices, 100))
	}
	if b.HasBias {
		l.bias = b.Bias
	}
	if weights == nil {
		return l
	}
	if l.bias == 0 {
		return rotation{l.schedule}
	}
	l.weights = make(map[*Host]float64, len(hosts))
	for i, h := range hosts {
		l.weights[h] = weights[i]
	}
	return l
}

func (l *least) candidate(seed uint64, n int) *Host {
	r := mix(seed + uint64(n))
	best := l.schedule[r%uint64(len(l.schedule))]
	for range l.choices - 1 {
		r = mix(r)
		if h := l.schedule[r%uint64(len(l.schedule))]; l.lessBusy(h, best) {
			best = h
		}
	}
	return best
}

func (l *least) lessBusy(a, b *Host) bool {
	if l.weights == nil {
		return a.active.Load() < b.active.Load()
	}
	return l.busy(a) < l.busy(b)
}

func (l *least) busy(h *Host) float64 {
	active := float64(h.active.Load())
	if l.bias != 1 {
		active = math.Pow(active, l.bias)
	}
	return active / l.weights[h]
}

// mix makes a number that looks random of another (splitmix64).
func mix(z uint64) uint64 {
	z += 0x9e3779b97f4a7c15
	z = (z ^ z>>30) * 0xbf58476d1ce4e5b9
	z = (z ^ z>>27) * 0x94d049bb133111eb
	return z ^ z>>31
}
