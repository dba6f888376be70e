package upstream

import (
	"math"
	"time"

	"github.com/serai-net/serai/connect/mesh"
)

// maxSchedule bounds a schedule; weights beyond it are scaled down.
const maxSchedule = 4096

// weightsOf are the weights of hosts out of all of a level; nil if they are equal.
func weightsOf(b *mesh.Balance, hosts, all []*Host) []float64 {
	weights := make([]float64, len(hosts))
	for i, h := range hosts {
		weights[i] = float64(max(1, h.endpoint.Load().Weight))
	}
	if b.LocalityWeighted {
		byLocality(hosts, all, weights)
	}
	for _, w := range weights {
		if w != weights[0] {
			return weights
		}
	}
	return nil
}

// byLocality makes the weights of each locality's hosts add up to the locality's
// own, which is less where too few of its hosts are healthy.
func byLocality(hosts, all []*Host, weights []float64) {
	type sums struct{ all, healthy, weight, sum float64 }
	localities := map[uint32]*sums{}
	known := false
	for _, h := range all {
		e := h.endpoint.Load()
		if localities[e.Locality] == nil {
			localities[e.Locality] = &sums{weight: float64(e.LocalityWeight)}
		}
		localities[e.Locality].all++
		known = known || e.LocalityWeight > 0
	}
	if !known {
		return
	}
	for i, h := range hosts {
		l := localities[h.endpoint.Load().Locality]
		l.healthy++
		l.sum += weights[i]
	}
	for i, h := range hosts {
		l := localities[h.endpoint.Load().Locality]
		weights[i] *= l.weight * min(1, overprovision/100.0*l.healthy/l.all) / l.sum
	}
}

// ramp lowers the weights of hosts that are new, and tells whether there are such.
func ramp(s *mesh.SlowStart, hosts []*Host, weights []float64, now time.Time) ([]float64, bool) {
	if s.Window <= 0 {
		return weights, false
	}
	ramping := false
	for i, h := range hosts {
		age := now.Sub(h.since)
		if age >= s.Window {
			continue
		}
		if !ramping && weights == nil {
			weights = make([]float64, len(hosts))
			for j := range weights {
				weights[j] = 1
			}
		}
		ramping = true
		weights[i] *= share(s, age)
	}
	return weights, ramping
}

// share is how much of its weight a host of that age has.
func share(s *mesh.SlowStart, age time.Duration) float64 {
	factor := max(age.Seconds(), 1) / s.Window.Seconds()
	if s.Aggression > 0 && s.Aggression != 1 {
		factor = math.Pow(factor, 1/s.Aggression)
	}
	least := 0.1
	if s.HasMin {
		least = s.MinPercent / 100
	}
	return min(1, max(least, factor))
}

// spread makes a schedule by smooth weighted round robin: at each step every
// host gains its weight, the richest is taken and pays the total. Hosts of weight
// 0 are not in it, unless all are. nil weights are equal ones.
func spread(all []*Host, given []float64) []*Host {
	weights, total := wholeWeights(given)
	if total == 0 {
		return all
	}
	schedule := make([]*Host, 0, total)
	credit := make([]int, len(all))
	for range total {
		best := 0
		for i := range credit {
			credit[i] += weights[i]
			if credit[i] > credit[best] {
				best = i
			}
		}
		credit[best] -= total
		schedule = append(schedule, all[best])
	}
	return schedule
}

// wholeWeights makes whole numbers of weights, as small as they can be, and their
// sum; 0 if all are equal.
func wholeWeights(given []float64) (weights []int, total int) {
	if given == nil {
		return nil, 0
	}
	scale := 1.0
	for _, w := range given {
		if w != math.Trunc(w) {
			scale = 100
		}
	}
	if most := maxOf(given); scale > 1 && most*scale < 100 {
		scale = 100 / most
	}
	weights = make([]int, len(given))
	divisor, positive := 0, 0
	for i, w := range given {
		if w <= 0 {
			continue
		}
		weights[i] = max(1, int(math.Round(w*scale)))
		divisor = gcd(divisor, weights[i])
		positive++
	}
	if positive == 0 {
		return nil, 0
	}
	for i := range weights {
		weights[i] /= divisor
		total += weights[i]
	}
	for total > maxSchedule && total > positive {
		total = 0
		for i := range weights {
			if weights[i] > 0 {
				weights[i] = max(1, weights[i]/2)
			}
			total += weights[i]
		}
	}
	if total == len(weights) && positive == total {
		return nil, 0
	}
	return weights, total
}

func maxOf(all []float64) float64 {
	most := math.SmallestNonzeroFloat64
	for _, w := range all {
		most = max(most, w)
	}
	return most
}

func gcd(a, b int) int {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}
