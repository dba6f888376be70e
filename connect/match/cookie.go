package match

import (
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// Cookie is the first value of a cookie of that name, "" if there is none, without
// the quotes around it.
func Cookie(header *wire.Header, name string) string {
	for line := range header.Values("cookie") {
		for line != "" {
			var pair string
			pair, line, _ = strings.Cut(line, ";")
			key, value, ok := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
			if !ok || key != name {
				continue
			}
			value = strings.TrimRight(value, " \t")
			if len(value) >= 2 && value[0] == '"' && value[len(value)-1] == '"' {
				value = value[1 : len(value)-1]
			}
			return value
		}
	}
	return ""
}
