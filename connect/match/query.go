package match

import (
	"fmt"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// QueryMatcher is a compiled [mesh.QueryMatch]. It is safe for concurrent use.
type QueryMatcher struct {
	name    string
	present bool
	value   *StringMatcher
}

// Query compiles m. It fails for a parameter without a name and where [String]
// does.
func Query(m mesh.QueryMatch) (*QueryMatcher, error) {
	if m.Name == "" {
		return nil, fmt.Errorf("query match without a name")
	}
	q := &QueryMatcher{name: m.Name, present: m.Present}
	if m.Present {
		return q, nil
	}
	value, err := String(m.Value)
	if err != nil {
		return nil, fmt.Errorf("query parameter %s: %w", m.Name, err)
	}
	q.value = value
	return q, nil
}

// Match looks into a raw query, as wire.Request.Query returns it.
func (q *QueryMatcher) Match(query string) bool {
	for query != "" {
		var pair string
		pair, query, _ = strings.Cut(query, "&")
		if name, value, _ := strings.Cut(pair, "="); name == q.name {
			return q.present || q.value.Match(value)
		}
	}
	return false
}
