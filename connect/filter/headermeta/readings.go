package headermeta

import (
	"hash/maphash"
	"strings"
	"sync/atomic"

	"github.com/serai-net/serai/connect/match"
)

// Consul has five rules read the x-forwarded-client-cert of each request by one
// expression. It holds certificates, some kilobytes of them, and is the same for all
// requests of a caller. So who shares an expression is read at once, and what was made
// of the last few texts is remembered.

// remembered is how many texts a filter remembers for an expression: a few hundred
// kilobytes if clients send such as are as long as may be.
const remembered = 16

// readings are what the values of one expression make of texts. They are safe for
// concurrent use.
type readings struct {
	values   []*value
	rewrites []*match.Rewriter
	seed     maphash.Seed
	last     [remembered]atomic.Pointer[reading]
}

// reading is what each of the values makes of a text; nil for what is not set.
type reading struct {
	text string
	made []any
}

// of is what the value with number at makes of text, a view that may die.
func (r *readings) of(at int, text string) (any, bool) {
	place := r.place(text)
	known := place.Load()
	if known == nil || known.text != text {
		known = r.read(text)
		if len(text) < maxValue {
			place.Store(known)
		}
	}
	made := known.made[at]
	return made, made != nil
}

// place is where a text is remembered. Callers differ in the hash that stands in front,
// and in the name at the end.
func (r *readings) place(text string) *atomic.Pointer[reading] {
	const enough = 256
	front, end := text[:min(len(text), enough)], text[max(0, len(text)-enough):]
	return &r.last[(maphash.String(r.seed, front)^maphash.String(r.seed, end)*3)%remembered]
}

func (r *readings) read(text string) *reading {
	text = strings.Clone(text)
	out := &reading{text: text, made: make([]any, len(r.values))}
	for i, found := range match.ReplaceEach(r.rewrites, text) {
		if made, ok := r.values[i].read(found); ok {
			out.made[i] = made
		}
	}
	return out
}

// share lets values of one expression be read at once, but for those whose metadata
// others could change.
func share(rules []rule) {
	by := map[string]*readings{}
	for i := range rules {
		v := rules[i].present
		if v == nil || v.rewrite == nil || v.text != "" || !v.lasting() {
			continue
		}
		r := by[v.rewrite.Pattern()]
		if r == nil {
			r = &readings{seed: maphash.MakeSeed()}
			by[v.rewrite.Pattern()] = r
		}
		v.shared, v.at = r, len(r.values)
		r.values, r.rewrites = append(r.values, v), append(r.rewrites, v.rewrite)
	}
}
