package stats

import (
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
)

// Stat is one number at the time it is read.
type Stat struct {
	// Name is Envoy's, with dots.
	Name string
	// Owner stands before Name as long as nobody wants the whole: most numbers are 0,
	// and who leaves those out does not need their names. Who reads a Registry finds it
	// in Name.
	Owner string
	// Scope is how many bytes of Name, its last dot included, are the owner's name,
	// of which labels are mostly made; 0 if that is not known.
	Scope int
	Kind  Kind
	// Value of a counter or gauge.
	Value int64
	// Histogram is what a histogram has counted, Text what a text says.
	Histogram *Reading
	Text      string
}

// Source yields numbers with names of their own, below the name that it is
// added by. It is called for each reading, from any goroutine.
type Source func(yield func(Stat) bool)

// maxNames bounds the names of a Registry, which come from configurations.
const maxNames = 200_000

// Registry is all that a process counts. A nil Registry keeps nothing.
type Registry struct {
	mu sync.Mutex // guards:
	// named are *Counter, *Gauge, *Histogram and owners, by name.
	named   map[string]any
	sources []Source
}

// Add lets numbers be read whose names are whole.
func (r *Registry) Add(source Source) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.sources = append(r.sources, source)
}

// Scope is where names begin with prefix, which ends with a dot unless it is
// "". What is counted under a name is the same for all that ask for it.
func (r *Registry) Scope(prefix string) *Scope {
	if r == nil {
		return nil
	}
	return &Scope{r, prefix}
}

// Scope is a part of a Registry. A nil Scope keeps nothing.
type Scope struct {
	registry *Registry
	prefix   string
}

// Scope is a part of s.
func (s *Scope) Scope(prefix string) *Scope {
	if s == nil {
		return nil
	}
	return &Scope{s.registry, s.prefix + prefix}
}

// Counter finds or makes a counter.
func (s *Scope) Counter(name string) *Counter { return find[Counter](s, name) }

// Gauge finds or makes a gauge.
func (s *Scope) Gauge(name string) *Gauge { return find[Gauge](s, name) }

// Histogram finds or makes a histogram.
func (s *Scope) Histogram(name string) *Histogram { return find[Histogram](s, name) }

// owner has many numbers, below one name.
type owner struct {
	value  any
	source Source
}

// Own finds or makes a struct that has many numbers: whose names are put
// together only when they are read. all yields them, with names below that of
// the scope.
func Own[T any](s *Scope, all func(*T, func(Stat) bool)) *T {
	if s == nil {
		return new(T)
	}
	s.registry.mu.Lock()
	defer s.registry.mu.Unlock()
	if o, ok := s.registry.named[s.prefix].(*owner); ok {
		if value, ok := o.value.(*T); ok {
			return value
		}
	}
	value := new(T)
	s.registry.keepLocked(s.prefix, &owner{value, func(yield func(Stat) bool) { all(value, yield) }})
	return value
}

// find finds or makes a number. Under a name that is something else, or that
// there is no room for, it makes one that nobody reads.
func find[T any](s *Scope, name string) *T {
	if s == nil {
		return new(T)
	}
	r := s.registry
	r.mu.Lock()
	defer r.mu.Unlock()
	name = s.prefix + name
	if value, ok := r.named[name].(*T); ok {
		return value
	}
	value := new(T)
	if r.named[name] == nil {
		r.keepLocked(name, value)
	}
	return value
}

func (r *Registry) keepLocked(name string, value any) {
	if len(r.named) >= maxNames {
		return
	}
	if r.named == nil {
		r.named = map[string]any{}
	}
	r.named[strings.Clone(name)] = value
}

// Forget drops what is counted below scopes of which living says that they are gone: it
// tells of each beginning of a name, the longest first, whether it is a scope, and
// whether that lives. Who counts there still does so for nobody.
func (r *Registry) Forget(living func(scope string) (lives, known bool)) {
	if r == nil {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for name := range r.named {
		for i := strings.LastIndexByte(name, '.'); i >= 0; i = strings.LastIndexByte(name[:i], '.') {
			if lives, known := living(name[:i+1]); known {
				if !lives {
					delete(r.named, name)
				}
				break
			}
		}
	}
}

// whole puts the name together.
func (s *Stat) whole() {
	if s.Owner == "" {
		s.Scope = max(0, s.Scope)
		return
	}
	switch {
	case s.Scope == 0:
		s.Scope = len(s.Owner)
	case s.Scope < 0: // see split
		s.Scope = 0
	}
	s.Name, s.Owner = s.Owner+s.Name, ""
}

// used tells whether anything was counted.
func (s *Stat) used() bool {
	return s.Value != 0 || s.Text != "" || s.Histogram != nil && s.Histogram.Count > 0
}

// All yields all numbers, in no order that means anything.
func (r *Registry) All() iter.Seq[Stat] {
	return func(yield func(Stat) bool) {
		for s := range r.each() {
			s.whole()
			if !yield(s) {
				return
			}
		}
	}
}

// each yields all numbers, whose names are still to be put together.
func (r *Registry) each() iter.Seq[Stat] {
	return func(yield func(Stat) bool) {
		if r == nil {
			return
		}
		r.mu.Lock()
		named, sources := maps.Clone(r.named), slices.Clone(r.sources)
		r.mu.Unlock()
		for name, value := range named {
			if !read(name, value, yield) {
				return
			}
		}
		for _, source := range sources {
			if !source.each("", yield) {
				return
			}
		}
	}
}

// each yields with prefix before the names, and tells whether to go on.
func (s Source) each(prefix string, yield func(Stat) bool) (more bool) {
	more = true
	s(func(stat Stat) bool {
		if prefix != "" {
			stat.Owner = prefix + stat.Owner
		}
		more = yield(stat)
		return more
	})
	return more
}

func read(name string, value any, yield func(Stat) bool) (more bool) {
	switch v := value.(type) {
	case *Counter:
		return yield(Stat{Name: name, Kind: KindCounter, Value: v.Load()})
	case *Gauge:
		return yield(Stat{Name: name, Kind: KindGauge, Value: v.Load()})
	case *Histogram:
		return yield(Stat{Name: name, Kind: KindHistogram, Histogram: v.Read()})
	case *owner:
		return v.source.each(name, yield)
	}
	return true
}
