package rules

import (
	"slices"
	"strings"

	"github.com/serai-net/serai/plugins"
)

// rule is one change, with its condition.
type rule struct {
	what action
	// name is the field that is changed; a prefix of names for removePrefix.
	name string
	// arg is the value for set, the new name for rename.
	arg  string
	when condition
}

type action uint8

const (
	set action = iota
	rename
	remove
	removePrefix
)

// condition looks at one field. The zero one is always true.
type condition struct {
	name string
	// absent wants that the field is not there; else value must be one of its
	// values, or anyValue.
	absent, anyValue bool
	value            string
}

func (c *condition) holds(header []plugins.Field) bool {
	if c.name == "" {
		return true
	}
	found := slices.ContainsFunc(header, func(f plugins.Field) bool {
		return f.Name == c.name && (c.absent || c.anyValue || f.Value == c.value)
	})
	return found != c.absent
}

// apply changes header and returns what it has become.
func (r *rule) apply(header []plugins.Field) []plugins.Field {
	if !r.when.holds(header) {
		return header
	}
	switch r.what {
	case remove:
		return slices.DeleteFunc(header, func(f plugins.Field) bool { return f.Name == r.name })
	case removePrefix:
		return slices.DeleteFunc(header, func(f plugins.Field) bool { return strings.HasPrefix(f.Name, r.name) && check(f.Name) == nil })
	case rename:
		return r.renamed(header)
	case set:
	}
	return r.assigned(header)
}

// renamed gives all fields of one name another one, in the place of those that
// had it. A field that is not there renames nothing.
func (r *rule) renamed(header []plugins.Field) []plugins.Field {
	if r.name == r.arg || !slices.ContainsFunc(header, func(f plugins.Field) bool { return f.Name == r.name }) {
		return header
	}
	header = slices.DeleteFunc(header, func(f plugins.Field) bool { return f.Name == r.arg })
	for i := range header {
		if header[i].Name == r.name {
			header[i].Name = r.arg
		}
	}
	return header
}

// assigned puts a value in the place of all that the field has.
func (r *rule) assigned(header []plugins.Field) []plugins.Field {
	header = slices.DeleteFunc(header, func(f plugins.Field) bool { return f.Name == r.name })
	return append(header, plugins.Field{Name: r.name, Value: r.arg})
}
