package match

import (
	"fmt"
	"regexp"
	"regexp/syntax"
	"slices"
	"strings"
	"unicode/utf8"
)

// Pattern is an RE2 expression that matches strings in full. It is safe for
// concurrent use.
//
// Most patterns that Consul writes are one of two shapes, which are decided
// without the regular-expression engine:
//
//	^spiffe://td.consul/ns/default/dc/[^/]+/svc/web$   a path of steps
//	GET|POST                                           a choice of words
type Pattern struct {
	source string
	// words, if not nil, are all that match.
	words []string
	// steps, if not nil, are taken one after the other.
	steps  []step
	regexp *regexp.Regexp
}

// step is a literal, one character that is no newline, or one and more bytes
// other than not.
type step struct {
	kind    stepKind
	literal string
	not     byte
}

type stepKind uint8

const (
	stepLiteral stepKind = iota
	stepAny
	stepRun
)

// Regex compiles an RE2 expression that is to match in full. Anchors in it do
// no harm.
func Regex(pattern string) (*Pattern, error) {
	// The pattern must stand alone before it is wrapped: "a)|(b" would be well
	// formed inside of a group, and mean something else.
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	p := &Pattern{source: pattern}
	if isWords(pattern) {
		p.words = strings.Split(pattern, "|")
		return p, nil
	}
	if p.steps = stepsOf(tree); p.steps != nil {
		return p, nil
	}
	if strings.Contains(pattern, `\Q`) {
		pattern = tree.String() // \Q without \E would swallow the end of what wraps it
	}
	if p.regexp, err = regexp.Compile(`\A(?:` + pattern + `)\z`); err != nil {
		return nil, fmt.Errorf("pattern %q: %w", pattern, err)
	}
	return p, nil
}

// String returns the pattern as it was given.
func (p *Pattern) String() string { return p.source }

// Match tells whether the whole of s matches.
func (p *Pattern) Match(s string) bool {
	switch {
	case p.steps != nil:
		return walk(p.steps, s)
	case p.regexp != nil:
		return p.regexp.MatchString(s)
	}
	return slices.Contains(p.words, s)
}

// isWords tells whether the pattern is literals with "|" between them.
func isWords(pattern string) bool {
	for i := range len(pattern) {
		switch c := pattern[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case c == '|', c == '-', c == '_', c == '/', c == ':':
		default:
			return false
		}
	}
	return true
}

// stepsOf returns the steps of a tree that can be walked without ever looking
// back, nil if it cannot.
func stepsOf(tree *syntax.Regexp) []step {
	parts := []*syntax.Regexp{tree}
	if tree.Op == syntax.OpConcat {
		parts = tree.Sub
	}
	steps := []step{}
	for i, part := range parts {
		switch {
		case part.Op == syntax.OpBeginText && i == 0:
		case part.Op == syntax.OpEndText && i == len(parts)-1:
		case part.Op == syntax.OpLiteral && part.Flags&syntax.FoldCase == 0:
			steps = append(steps, step{kind: stepLiteral, literal: string(part.Rune)})
		case part.Op == syntax.OpAnyCharNotNL:
			steps = append(steps, step{kind: stepAny})
		case part.Op == syntax.OpPlus && isNot(part.Sub[0]):
			steps = append(steps, step{kind: stepRun, not: byte(part.Sub[0].Rune[1] + 1)})
		default:
			return nil
		}
	}
	for i, s := range steps {
		// A run takes all it can, so what follows must begin with what it stops at.
		if s.kind == stepRun && i+1 < len(steps) &&
			(steps[i+1].kind != stepLiteral || steps[i+1].literal[0] != s.not) {
			return nil
		}
	}
	return steps
}

// isNot tells whether re is [^c] with one ASCII character c.
func isNot(re *syntax.Regexp) bool {
	r := re.Rune
	return re.Op == syntax.OpCharClass && len(r) == 4 &&
		r[0] == 0 && r[2] == r[1]+2 && r[1] < utf8.RuneSelf-1 && r[3] == utf8.MaxRune
}

func walk(steps []step, s string) bool {
	for i := range steps {
		switch st := &steps[i]; st.kind {
		case stepLiteral:
			rest, ok := strings.CutPrefix(s, st.literal)
			if !ok {
				return false
			}
			s = rest
		case stepAny:
			if s == "" || s[0] == '\n' {
				return false
			}
			_, size := utf8.DecodeRuneInString(s)
			s = s[size:]
		case stepRun:
			n := strings.IndexByte(s, st.not)
			if n < 0 {
				n = len(s)
			}
			if n == 0 {
				return false
			}
			s = s[n:]
		}
	}
	return s == ""
}
