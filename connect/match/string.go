package match

import (
	"fmt"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// StringMatcher is a compiled [mesh.StringMatch]. It is safe for concurrent
// use. The zero StringMatcher matches only "".
type StringMatcher struct {
	kind    mesh.MatchKind
	fold    bool
	text    string
	pattern *Pattern
}

// String compiles m. It fails only for a pattern that is no RE2 expression or
// for an unknown kind.
func String(m mesh.StringMatch) (*StringMatcher, error) {
	s := &StringMatcher{kind: m.Kind, fold: m.IgnoreCase}
	switch m.Kind {
	case mesh.MatchExact:
		s.text = m.Exact
	case mesh.MatchPrefix:
		s.text = m.Prefix
	case mesh.MatchSuffix:
		s.text = m.Suffix
	case mesh.MatchContains:
		s.text = m.Contains
	case mesh.MatchRegex:
		pattern, err := Regex(m.Regex)
		if err != nil {
			return nil, err
		}
		s.pattern = pattern
	default:
		return nil, fmt.Errorf("string match of unknown kind %d", m.Kind)
	}
	return s, nil
}

// Match tells whether s matches.
func (m *StringMatcher) Match(s string) bool {
	switch m.kind {
	case mesh.MatchPrefix:
		return len(s) >= len(m.text) && m.equal(s[:len(m.text)])
	case mesh.MatchSuffix:
		return len(s) >= len(m.text) && m.equal(s[len(s)-len(m.text):])
	case mesh.MatchContains:
		return m.contains(s)
	case mesh.MatchRegex:
		return m.pattern.Match(s)
	default:
		return len(s) == len(m.text) && m.equal(s)
	}
}

// equal compares s, which is as long as m.text, with it.
func (m *StringMatcher) equal(s string) bool {
	if !m.fold {
		return s == m.text
	}
	return equalFold(s, m.text)
}

func (m *StringMatcher) contains(s string) bool {
	if !m.fold {
		return strings.Contains(s, m.text)
	}
	for i := 0; i+len(m.text) <= len(s); i++ {
		if equalFold(s[i:i+len(m.text)], m.text) {
			return true
		}
	}
	return false
}

// equalFold compares two strings of one length, ASCII letters without their
// case. strings.EqualFold would also equate "k" with the Kelvin sign.
func equalFold(a, b string) bool {
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + ('a' - 'A')
	}
	return c
}
