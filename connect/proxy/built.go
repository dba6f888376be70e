package proxy

import (
	"slices"

	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/xds"
)

// index is the very tables by which connections find their chains, and what these
// were made of, by the names of listeners.
type index map[string]*built

// built is the chains of one listener, and all that they were made of. It is not
// changed once it is in force.
type built struct {
	listener *mesh.Listener
	// named are the route tables that its chains name.
	named   []namedRoute
	spec    *listen.Spec
	entries []listen.Entry
	parts   []part
	refused []xds.Refusal // what could not be compiled
}

// namedRoute is a route table as it was; nil if it was not there.
type namedRoute struct {
	name  string
	table *mesh.Route
}

// part is one chain. The definition of one that is refused says why.
type part struct {
	definition *mesh.FilterChain
	key        string // its identity, or what is refused of it
	chain      *chain
}

// names notes which of all route tables the chains name.
func (b *built) names(all map[string]*mesh.Route) {
	b.each(func(d *mesh.FilterChain) {
		if d.HTTP != nil && d.HTTP.Route == nil {
			b.named = append(b.named, namedRoute{d.HTTP.RouteName, all[d.HTTP.RouteName]})
		}
	})
}

// each calls f for all definitions.
func (b *built) each(f func(*mesh.FilterChain)) {
	chains, fallback := definitions(b.listener)
	for _, d := range chains {
		f(d)
	}
	if fallback != nil {
		f(fallback)
	}
}

// stands tells whether nothing else would be made of l: neither it nor a route table
// that it names has changed. What was refused is tried again each time, since a file
// may be there now. What outlives a configuration by being asked for is asked for.
//
// What else a chain is made of stays as long as we run, but for the files of scripts:
// certificates, keys and secrets stand in the definition, and clusters are looked up by
// name for each exchange.
func (b *built) stands(l *mesh.Listener, in *building) bool {
	if b.listener != l || len(b.refused) > 0 {
		return false
	}
	for _, r := range b.named {
		if in.routes[r.name] != r.table {
			return false
		}
	}
	logs, traces := in.chains.logs, in.chains.traces
	stands := logs.Keep(l.AccessLogs)
	b.each(func(d *mesh.FilterChain) {
		switch {
		case d.TCP != nil:
			stands = stands && logs.Keep(d.TCP.AccessLogs)
		case d.HTTP != nil:
			stands = stands && logs.Keep(d.HTTP.AccessLogs) && traces.Keep(d.HTTP.Tracing) && !readsFiles(d.HTTP)
		}
	})
	return stands
}

// readsFiles tells whether a chain is made of what stands in files.
func readsFiles(h *mesh.HTTP) bool {
	for i := range h.Filters {
		if script := h.Filters[i].Lua; script != nil && script.File != "" {
			return true
		}
	}
	return false
}

// definition is what a chain of the listener was made of; nil if it is none.
func (b *built) definition(c *listen.Chain) *mesh.FilterChain {
	for _, p := range slices.Backward(b.parts) {
		if p.chain.listen == c {
			return p.definition
		}
	}
	return nil
}

// relatives are the living chains of a listener that may become those of the next
// snapshot.
type relatives struct {
	listener *mesh.Listener
	// living are the chains by their key, known the identities of definitions. One
	// that has not changed is still the same value.
	living map[string]*chain
	known  map[*mesh.FilterChain]string
	before []part
	// orphans are those whose match nobody has any more, by their kin; nil until
	// somebody looks for one.
	orphans map[string][]*chain
}

// newRelatives are those that l may go on with of what there was before, nil for
// nothing.
func newRelatives(l *mesh.Listener, before *built) *relatives {
	r := &relatives{listener: l, living: map[string]*chain{}, known: map[*mesh.FilterChain]string{}}
	if before == nil {
		return r
	}
	r.before = before.parts
	for i := range r.before {
		p := &r.before[i]
		r.living[p.key] = p.chain
		if before.listener == l {
			r.known[p.definition] = p.key
		}
	}
	return r
}

// identity is that of a definition.
func (r *relatives) identity(d *mesh.FilterChain) string {
	key, ok := r.known[d]
	if !ok {
		key = identity(r.listener, d)
		r.known[d] = key
	}
	return key
}

// of is the living chain that d goes on with, nil if it is a new one.
func (r *relatives) of(d *mesh.FilterChain) *chain {
	if c := r.living[r.identity(d)]; c != nil {
		return c
	}
	if r.orphans == nil {
		r.find()
	}
	key := kin(r.listener, d)
	left := r.orphans[key]
	if len(left) == 0 {
		return nil
	}
	r.orphans[key] = left[1:]
	return left[0]
}

// find finds the orphans.
func (r *relatives) find() {
	r.orphans = map[string][]*chain{}
	if len(r.before) == 0 {
		return
	}
	wanted := map[string]bool{}
	chains, fallback := definitions(r.listener)
	for _, d := range chains {
		wanted[r.identity(d)] = true
	}
	if fallback != nil {
		wanted[r.identity(fallback)] = true
	}
	for i := range r.before {
		if p := &r.before[i]; p.definition.Refusal == "" && !wanted[p.key] {
			r.orphans[p.chain.kin] = append(r.orphans[p.chain.kin], p.chain)
		}
	}
}
