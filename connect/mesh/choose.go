package mesh

import "math/rand/v2"

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
	at := rand.Uint32N(total)
	for i := range targets {
		if at < targets[i].Weight {
			return &targets[i]
		}
		at -= targets[i].Weight
	}
	return nil
}
