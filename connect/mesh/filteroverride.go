package mesh

// FilterOverride is what a target, a rule, a virtual host or a table says of an HTTP filter of
// the chain (xDS: typed_per_filter_config). The zero FilterOverride enables one that is
// disabled.
type FilterOverride struct {
	// Disabled leaves the filter out. With a Filter, of which only the kind counts then,
	// that is how it is met, also where something more specific enables it.
	Disabled bool
	// Filter takes the place of the filter, with what it leaves open as there.
	Filter *HTTPFilter
	// Refusal says what is not understood: requests get 503, if the chain has such a
	// filter.
	Refusal string
}

// Overrides tells whether the table has something to say about the filter of that name.
// A nil Route has not.
func (r *Route) Overrides(name string) bool { return len(r.OverridesOf(name)) > 0 }

// OverridesOf is all that the table says about the filter of that name.
func (r *Route) OverridesOf(name string) []*FilterOverride {
	if r == nil {
		return nil
	}
	var all []*FilterOverride
	add := func(from map[string]*FilterOverride) {
		if o := from[name]; o != nil {
			all = append(all, o)
		}
	}
	add(r.Filters)
	for _, vh := range r.VirtualHosts {
		add(vh.Filters)
		for _, rule := range vh.Rules {
			add(rule.Filters)
			for i := range rule.Targets {
				add(rule.Targets[i].Filters)
			}
		}
	}
	return all
}
