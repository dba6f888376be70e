package stats

import (
	"iter"
	"slices"
	"strings"
)

// ordered are numbers by their whole names, which are not put together: the names of a
// thousand clusters are the same behind those of the clusters.
type ordered struct {
	all    []Stat
	groups []group
	order  []int32 // of all
}

// group is what one owner has yielded in one go.
type group struct {
	owner string
	order []int32 // of ordered.all, by name
}

// shape is the names that many owners have, as they yield them, and their order.
type shape struct {
	names []string
	order []int32
}

// shapes are those that were seen last. The zero shapes is empty.
type shapes struct {
	seen [16]*shape
	next int
}

// small is how many names are sorted sooner than their shape is found.
const small = 12

// of is the order of names, the first of which has the index base.
func (s *shapes) of(all []Stat, base int) []int32 {
	order := make([]int32, len(all))
	if known := s.find(all); known != nil {
		for i, at := range known.order {
			order[i] = at + int32(base)
		}
		return order
	}
	for i := range order {
		order[i] = int32(i)
	}
	slices.SortFunc(order, func(a, b int32) int { return strings.Compare(all[a].Name, all[b].Name) })
	if len(all) > small {
		one := &shape{names: make([]string, len(all)), order: slices.Clone(order)}
		for i := range all {
			one.names[i] = all[i].Name
		}
		s.seen[s.next%len(s.seen)] = one
		s.next++
	}
	for i := range order {
		order[i] += int32(base)
	}
	return order
}

func (s *shapes) find(all []Stat) *shape {
	if len(all) <= small {
		return nil
	}
	for _, one := range s.seen {
		if one != nil && len(one.names) == len(all) && one.fits(all) {
			return one
		}
	}
	return nil
}

func (s *shape) fits(all []Stat) bool {
	for i := range all {
		if all[i].Name != s.names[i] {
			return false
		}
	}
	return true
}

// split makes an owner of all of a whole name but its last part. It is none of which
// labels are known: its Scope is below 0.
func (s *Stat) split() {
	if s.Owner == "" {
		i := strings.LastIndexByte(s.Name, '.') + 1
		s.Owner, s.Name, s.Scope = s.Name[:i], s.Name[i:], -1
	} else if s.Scope == 0 {
		s.Scope = len(s.Owner)
	}
}

// arrange puts what was collected in order. Of a name that two have, what has counted
// more is left.
func (o *ordered) arrange() {
	var known shapes
	for i := 0; i < len(o.all); {
		j := i + 1
		for j < len(o.all) && o.all[j].Owner == o.all[i].Owner {
			j++
		}
		o.groups = append(o.groups, group{o.all[i].Owner, known.of(o.all[i:j], i)})
		i = j
	}
	slices.SortStableFunc(o.groups, func(a, b group) int { return strings.Compare(a.owner, b.owner) })
	o.order = o.flatten(make([]int32, 0, len(o.all)), o.groups)
	o.order = slices.CompactFunc(o.order, func(a, b int32) bool {
		x, y := &o.all[a], &o.all[b]
		if rank(x.Kind) != rank(y.Kind) || !x.same(y) {
			return false
		}
		x.Value = max(x.Value, y.Value)
		y.Value = x.Value
		return true
	})
}

// flatten appends the order of groups, which are sorted.
func (o *ordered) flatten(out []int32, groups []group) []int32 {
	for i := 0; i < len(groups); {
		j := i + 1
		for j < len(groups) && strings.HasPrefix(groups[j].owner, groups[i].owner) {
			j++
		}
		if j == i+1 {
			out = append(out, groups[i].order...)
		} else {
			out = o.merge(out, &groups[i], o.flatten(nil, groups[i+1:j]))
		}
		i = j
	}
	return out
}

// merge appends the names of an owner and those of owners whose names begin with its.
func (o *ordered) merge(out []int32, g *group, below []int32) []int32 {
	i := 0
	for _, at := range g.order {
		for i < len(below) {
			b := &o.all[below[i]]
			if compare(o.all[at].Name, b.Owner[len(g.owner):], b.Name) <= 0 {
				break
			}
			out = append(out, below[i])
			i++
		}
		out = append(out, at)
	}
	return append(out, below[i:]...)
}

// compare compares a with b and c together.
func compare(a, b, c string) int {
	if len(a) <= len(b) {
		if by := strings.Compare(a, b[:len(a)]); by != 0 {
			return by
		}
		return -min(1, len(b)-len(a)+len(c))
	}
	if by := strings.Compare(a[:len(b)], b); by != 0 {
		return by
	}
	return strings.Compare(a[len(b):], c)
}

// same tells whether both have one name.
func (s *Stat) same(other *Stat) bool {
	if len(s.Owner)+len(s.Name) != len(other.Owner)+len(other.Name) {
		return false
	}
	if len(s.Owner) < len(other.Owner) {
		s, other = other, s
	}
	return strings.HasPrefix(s.Owner, other.Owner) && compare(other.Name, s.Owner[len(other.Owner):], s.Name) == 0
}

// rank is how far at the back a kind is shown.
func rank(k Kind) int {
	switch k {
	case KindText:
		return 0
	case KindHistogram:
		return 2
	default:
		return 1
	}
}

// each yields numbers as they are shown: texts first, then counters and gauges, then
// histograms. They must not be changed.
func (o *ordered) each() iter.Seq[*Stat] {
	return func(yield func(*Stat) bool) {
		for r := range 3 {
			for _, at := range o.order {
				if s := &o.all[at]; rank(s.Kind) == r && !yield(s) {
					return
				}
			}
		}
	}
}
