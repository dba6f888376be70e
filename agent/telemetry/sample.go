package telemetry

import (
	"iter"
)

// Kind is what a Sample's value does.
type Kind uint8

// Kinds of sample.
const (
	// Counter only grows, Gauge goes up and down.
	Counter Kind = iota
	Gauge
)

// Label is one label of a Sample.
type Label struct{ Name, Value string }

// Sample is one number that its owner counts. Samples of one Name have the same
// Help, Kind and label names; a Name ends in _total if it counts.
type Sample struct {
	Name, Help string
	Kind       Kind
	Labels     []Label
	Value      float64
}

// joined yields what all sources do.
func joined(sources []iter.Seq[Sample]) iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		for _, source := range sources {
			for sample := range source {
				if !yield(sample) {
					return
				}
			}
		}
	}
}

// number makes a sample's value of a counter.
func number[T int | int64 | uint64](value T) float64 { return float64(value) }

// yesNo is 1 for true.
func yesNo(value bool) float64 {
	if value {
		return 1
	}
	return 0
}
