package match

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// Rewriter replaces what a pattern finds. It is safe for concurrent use.
type Rewriter struct {
	pattern  *regexp.Regexp
	template string
}

// Rewrite compiles the pattern and the substitution of r. It fails for a pattern
// that is no RE2 expression and a substitution that names a group which it has
// not.
func Rewrite(r mesh.RegexRewrite) (*Rewriter, error) {
	pattern, err := regexp.Compile(r.Pattern)
	if err != nil {
		return nil, fmt.Errorf("pattern %q: %w", r.Pattern, err)
	}
	template, err := goTemplate(r.Substitution, pattern.NumSubexp())
	if err != nil {
		return nil, err
	}
	return &Rewriter{pattern, template}, nil
}

// Replace returns s with every find replaced.
func (r *Rewriter) Replace(s string) string { return r.pattern.ReplaceAllString(s, r.template) }

// Pattern is the expression by which it finds.
func (r *Rewriter) Pattern() string { return r.pattern.String() }

// ReplaceEach returns what each of some rewriters, which have one pattern, makes of s.
// It looks for the pattern once.
func ReplaceEach(rewriters []*Rewriter, s string) []string {
	found := rewriters[0].pattern.FindAllStringSubmatchIndex(s, -1)
	out := make([]string, len(rewriters))
	for i, r := range rewriters {
		var b []byte
		end := 0
		for _, at := range found {
			b = append(b, s[end:at[0]]...)
			b = r.pattern.ExpandString(b, r.template, s, at)
			end = at[1]
		}
		out[i] = string(append(b, s[end:]...))
	}
	return out
}

// goTemplate turns RE2's \1 into Go's ${1}.
func goTemplate(substitution string, groups int) (string, error) {
	var b strings.Builder
	for i := 0; i < len(substitution); i++ {
		c := substitution[i]
		switch c {
		case '$':
			b.WriteString("$$")
			continue
		case '\\':
		default:
			b.WriteByte(c)
			continue
		}
		if i++; i == len(substitution) {
			return "", fmt.Errorf("substitution %q ends with a backslash", substitution)
		}
		switch c = substitution[i]; {
		case c == '\\':
			b.WriteByte(c)
		case c < '0' || c > '9':
			return "", fmt.Errorf("substitution %q: a backslash is followed by %q", substitution, c)
		case int(c-'0') > groups:
			return "", fmt.Errorf("substitution %q: the pattern has %d groups", substitution, groups)
		default:
			fmt.Fprintf(&b, "${%c}", c)
		}
	}
	return b.String(), nil
}
