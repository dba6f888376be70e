package stats

import "strings"

// Name is a name from a configuration as a part of a number's name: Envoy has no
// colons in them.
func Name(name string) string {
	return strings.NewReplacer("://", "_", ":/", "_", ":", "_", "\x00", "_").Replace(name)
}

// Zeros yields counters that have never counted anything here, since what they
// count cannot happen, under the names by which somebody may look for them.
func Zeros(prefix, names string, yield func(Stat) bool) (more bool) {
	for name := range strings.FieldsSeq(names) {
		if !yield(Stat{Name: prefix + name}) {
			return false
		}
	}
	return true
}
