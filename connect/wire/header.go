package wire

import (
	"iter"
	"strings"
)

// Field is one header field. Names are lower-case: a codec lowers what it
// reads, and whoever sets a field spells it so. Values have no space around.
type Field struct {
	Name, Value string
}

// Header is an ordered list of fields, repeated names in the order in which
// they came. The zero Header is empty and ready for use. It is not safe for
// concurrent use.
type Header struct {
	fields []Field
}

// Len is the number of fields.
func (h *Header) Len() int {
	if h == nil {
		return 0
	}
	return len(h.fields)
}

// At returns field i, 0 <= i < Len().
func (h *Header) At(i int) Field { return h.fields[i] }

// Get returns the first value of name, "" if there is none.
func (h *Header) Get(name string) string {
	value, _ := h.Lookup(name)
	return value
}

// Lookup returns the first value of name and whether the field is there.
func (h *Header) Lookup(name string) (string, bool) {
	if h == nil {
		return "", false
	}
	for i := range h.fields {
		if h.fields[i].Name == name {
			return h.fields[i].Value, true
		}
	}
	return "", false
}

// Has tells whether a field of that name is there.
func (h *Header) Has(name string) bool {
	_, ok := h.Lookup(name)
	return ok
}

// Values yields the values of name in order.
func (h *Header) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range h.Len() {
			if h.fields[i].Name == name && !yield(h.fields[i].Value) {
				return
			}
		}
	}
}

// All yields every field in order. The header must not change meanwhile.
func (h *Header) All() iter.Seq2[string, string] {
	return func(yield func(string, string) bool) {
		for i := range h.Len() {
			if !yield(h.fields[i].Name, h.fields[i].Value) {
				return
			}
		}
	}
}

// Joined returns all values of name in one, separated by commas (RFC 9110
// section 5.3). It allocates only if the name occurs more than once.
func (h *Header) Joined(name string) string {
	var first string
	n := 0
	for value := range h.Values(name) {
		if n == 0 {
			first = value
		} else {
			first += "," + value
		}
		n++
	}
	return first
}

// Add appends a field.
func (h *Header) Add(name, value string) {
	h.fields = append(h.fields, Field{name, value})
}

// Set puts value in the place of the first field of that name, drops the
// others, and appends if there was none.
func (h *Header) Set(name, value string) {
	for i := range h.fields {
		if h.fields[i].Name == name {
			h.fields[i].Value = value
			h.deleteFrom(i+1, name)
			return
		}
	}
	h.Add(name, value)
}

// Replace puts fields in the place of all others of their names.
func (h *Header) Replace(fields []Field) {
	for i := range fields {
		h.Del(fields[i].Name)
	}
	h.fields = append(h.fields, fields...)
}

// Del drops all fields of that name.
func (h *Header) Del(name string) { h.deleteFrom(0, name) }

func (h *Header) deleteFrom(start int, name string) {
	kept := start
	for i := start; i < len(h.fields); i++ {
		if h.fields[i].Name != name {
			h.fields[kept] = h.fields[i]
			kept++
		}
	}
	h.fields = h.fields[:kept]
}

// DelFunc drops every field for which drop returns true.
func (h *Header) DelFunc(drop func(name, value string) bool) {
	kept := 0
	for _, f := range h.fields {
		if !drop(f.Name, f.Value) {
			h.fields[kept] = f
			kept++
		}
	}
	h.fields = h.fields[:kept]
}

// Reset empties the header and keeps its memory.
func (h *Header) Reset() { h.fields = h.fields[:0] }

// Clone copies the header and every string in it, to be kept for longer than
// the exchange.
func (h *Header) Clone() Header {
	clone := Header{fields: make([]Field, h.Len())}
	for i := range clone.fields {
		clone.fields[i] = Field{strings.Clone(h.fields[i].Name), strings.Clone(h.fields[i].Value)}
	}
	return clone
}
