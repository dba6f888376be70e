package stats

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Pattern matches a name. Exactly one field is set, but for IgnoreCase.
type Pattern struct {
	Exact, Prefix, Suffix, Contains, Regex string
	IgnoreCase                             bool
}

// Matcher says which numbers are shown (xDS: config.metrics.v3.StatsMatcher). A
// nil Matcher shows all.
type Matcher struct {
	reject    bool
	only, not []func(name string) bool
	limited   bool
}

// NewMatcher returns a Matcher that shows nothing if reject, else what one of
// only matches, unless only is nil, and none of not does.
func NewMatcher(reject bool, only, not []Pattern) (*Matcher, error) {
	m := &Matcher{reject: reject, limited: only != nil}
	var err error
	if m.only, err = compile(only); err != nil {
		return nil, err
	}
	if m.not, err = compile(not); err != nil {
		return nil, err
	}
	return m, nil
}

func compile(all []Pattern) ([]func(string) bool, error) {
	var out []func(string) bool
	for _, p := range all {
		fold := func(text string) string {
			if p.IgnoreCase {
				return strings.ToLower(text)
			}
			return text
		}
		switch {
		case p.Regex != "":
			re, err := regexp.Compile(`^(?:` + p.Regex + `)$`)
			if err != nil {
				return nil, fmt.Errorf("stats matcher: %w", err)
			}
			out = append(out, re.MatchString)
		case p.Exact != "":
			out = append(out, func(name string) bool { return fold(name) == fold(p.Exact) })
		case p.Prefix != "":
			out = append(out, func(name string) bool { return strings.HasPrefix(fold(name), fold(p.Prefix)) })
		case p.Suffix != "":
			out = append(out, func(name string) bool { return strings.HasSuffix(fold(name), fold(p.Suffix)) })
		case p.Contains != "":
			out = append(out, func(name string) bool { return strings.Contains(fold(name), fold(p.Contains)) })
		default:
			return nil, fmt.Errorf("stats matcher: a pattern that matches nothing")
		}
	}
	return out, nil
}

// Shows tells whether a number is shown.
func (m *Matcher) Shows(name string) bool {
	if m == nil {
		return true
	}
	matches := func(f func(string) bool) bool { return f(name) }
	return !m.reject && (!m.limited || slices.ContainsFunc(m.only, matches)) && !slices.ContainsFunc(m.not, matches)
}
