package stats

import "strings"

// Name is a name from a configuration as a part of a number's name: Envoy has no
// colons in them.
func Name(name string) string {
	i := strings.IndexAny(name, ":\x00")
	if i < 0 {
		return name
	}
	out := append(make([]byte, 0, len(name)), name[:i]...)
	for ; i < len(name); i++ {
		switch c := name[i]; c {
		case ':':
			out = append(out, '_')
			// "://" and ":/" are one.
			for n := 0; n < 2 && i+1 < len(name) && name[i+1] == '/'; n++ {
				i++
			}
		case 0:
			out = append(out, '_')
		default:
			out = append(out, c)
		}
	}
	return string(out)
}

// Zeros yields counters that have never counted anything here, since what they
// count cannot happen, under the names by which somebody may look for them. Between
// names is one space.
func Zeros(prefix, names string, yield func(Stat) bool) (more bool) {
	for names != "" {
		name, rest, _ := strings.Cut(names, " ")
		if !yield(Stat{Name: prefix + name}) {
			return false
		}
		names = rest
	}
	return true
}
