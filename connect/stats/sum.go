package stats

import "slices"

// Sum adds up what several count under the same names. The zero Sum is empty. It is
// not safe for concurrent use.
type Sum struct {
	at  map[string]int
	all []Stat
}

// Add adds a number, whose name is as it was yielded. Of texts the first stays.
func (s *Sum) Add(one Stat) {
	i, ok := s.at[one.Name]
	if !ok {
		if s.at == nil {
			s.at = map[string]int{}
		}
		s.at[one.Name] = len(s.all)
		if one.Histogram != nil {
			own := *one.Histogram
			one.Histogram = &own
		}
		s.all = append(s.all, one)
		return
	}
	to := &s.all[i]
	to.Value += one.Value
	if to.Histogram != nil && one.Histogram != nil {
		to.Histogram.add(one.Histogram)
	}
}

// AddAll adds all of another; nil adds nothing.
func (s *Sum) AddAll(other *Sum) {
	if other == nil {
		return
	}
	for i := range other.all {
		s.Add(other.all[i])
	}
}

// Each yields the sums and tells whether to go on.
func (s *Sum) Each(yield func(Stat) bool) (more bool) {
	for i := range s.all {
		one := s.all[i]
		if one.Histogram != nil {
			own := *one.Histogram
			one.Histogram = &own // who reads it keeps it
		}
		if !yield(one) {
			return false
		}
	}
	return true
}

// Keep keeps what was counted of something that is gone: nothing of it lives.
func (s *Sum) Keep() {
	s.all = slices.DeleteFunc(s.all, func(one Stat) bool {
		return one.Kind == KindGauge || one.Kind == KindText || one.Value == 0 && (one.Histogram == nil || one.Histogram.Count == 0)
	})
	clear(s.at)
	for i := range s.all {
		s.at[s.all[i].Name] = i
	}
}

func (r *Reading) add(other *Reading) {
	for i := range r.Cumulative {
		r.Cumulative[i] += other.Cumulative[i]
	}
	r.Count += other.Count
	r.Sum += other.Sum
}
