package mesh

import (
	"math"
	"math/rand/v2"
)

// Choose takes one of targets at random, as often as its weight says. One
// target needs no weight; it returns nil for none, or if all weights are zero.
func Choose(targets []Target) *Target {
	if len(targets) == 1 {
		return &targets[0]
	}
	var total uint32
	for i := range targets {
		total += targets[i].Weight
	}
	if total == 0 {
		return nil
	}
	return chooseAt(targets, rand.Uint32N(total))
}

// ChooseBy is Choose by a number that somebody has given, in the place of chance.
func ChooseBy(targets []Target, number uint64) *Target {
	total := uint64(0)
	for i := range targets {
		total += uint64(targets[i].Weight)
	}
	if total == 0 || total > math.MaxUint32 {
		return Choose(targets)
	}
	return chooseAt(targets, uint32(number%total))
}

func chooseAt(targets []Target, at uint32) *Target {
	for i := range targets {
		if at < targets[i].Weight {
			return &targets[i]
		}
		at -= targets[i].Weight
	}
	return nil
}
