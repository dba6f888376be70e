package match

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

// Bounds of a template are Envoy's.
const (
	maxVariables    = 5
	maxVariableName = 16
)

// What the operators of a template match: of a path segment all characters, at least
// one, or of several segments, also none.
const (
	segmentChars = `a-zA-Z0-9\-._~%!$&'()+,;:@=*`
	oneSegment   = `[` + segmentChars + `]+`
	anySegments  = `[` + segmentChars + `/]*`
)

// PathTemplate is a compiled URI template of Envoy (path.match.uri_template.v3):
// literals, "*" for a segment, "**" for any number of them at the end, and variables,
// "{name}" or "{name=a/*}". It is safe for concurrent use.
type PathTemplate struct{ pattern *regexp.Regexp }

// Template compiles a template.
func Template(template string) (*PathTemplate, error) {
	p := templateParser{text: template, rest: template}
	if !strings.HasPrefix(template, "/") {
		return nil, p.wrong("does not begin with a slash")
	}
	pattern, err := p.pattern("")
	if err != nil {
		return nil, err
	}
	compiled, err := regexp.Compile(`^` + pattern + `$`)
	if err != nil {
		return nil, p.wrong(err.Error())
	}
	return &PathTemplate{compiled}, nil
}

// Match tells whether a path without its query matches in full.
func (t *PathTemplate) Match(path string) bool { return t.pattern.MatchString(path) }

// templateParser turns a template into a pattern.
type templateParser struct {
	text, rest string
	variables  []string
	last       bool // "**" was there: no operator may follow
}

func (p *templateParser) wrong(what string) error {
	return fmt.Errorf("URI template %q: %s", p.text, what)
}

// pattern reads up to the end, or within a variable up to its brace.
func (p *templateParser) pattern(within string) (string, error) {
	var b strings.Builder
	for p.rest != "" {
		c := p.rest[0]
		if within != "" && c == '}' {
			return b.String(), nil
		}
		switch {
		case c == '*':
			operator := oneSegment
			if p.last {
				return "", p.wrong(`an operator follows "**"`)
			}
			if p.rest = p.rest[1:]; strings.HasPrefix(p.rest, "*") {
				operator, p.last, p.rest = anySegments, true, p.rest[1:]
			}
			b.WriteString(operator)
			continue
		case c == '{' && within == "":
			variable, err := p.variable()
			if err != nil {
				return "", err
			}
			b.WriteString(variable)
			continue
		case c != '/' && !isPathChar(c):
			return "", p.wrong(fmt.Sprintf("%q may not stand there", c))
		case c == '/' && strings.HasPrefix(p.rest, "//"):
			return "", p.wrong("empty segment")
		}
		b.WriteString(regexp.QuoteMeta(p.rest[:1]))
		p.rest = p.rest[1:]
	}
	if within != "" {
		return "", p.wrong("a variable does not end")
	}
	return b.String(), nil
}

// variable reads "{name}" or "{name=pattern}".
func (p *templateParser) variable() (string, error) {
	end := strings.IndexAny(p.rest, "=}")
	if end < 0 {
		return "", p.wrong("a variable does not end")
	}
	name := p.rest[1:end]
	if err := p.declare(name); err != nil {
		return "", err
	}
	pattern := oneSegment
	if p.rest = p.rest[end:]; p.rest[0] == '=' {
		p.rest = p.rest[1:]
		var err error
		if pattern, err = p.pattern(name); err != nil {
			return "", err
		}
		if pattern == "" {
			return "", p.wrong("a variable matches nothing")
		}
	} else if p.last {
		return "", p.wrong(`an operator follows "**"`)
	}
	p.rest = p.rest[1:] // the brace
	return "(?P<" + name + ">" + pattern + ")", nil
}

func (p *templateParser) declare(name string) error {
	if slices.Contains(p.variables, name) {
		return p.wrong("variable " + name + " occurs twice")
	}
	p.variables = append(p.variables, name)
	switch {
	case len(p.variables) > maxVariables:
		return p.wrong("it has too many variables")
	case !isVariable(name):
		return p.wrong(fmt.Sprintf("%q is no name of a variable", name))
	}
	return nil
}

func isVariable(name string) bool {
	if name == "" || len(name) > maxVariableName {
		return false
	}
	for i := range len(name) {
		c := lower(name[i])
		if (c < 'a' || c > 'z') && (i == 0 || c != '_' && (c < '0' || c > '9')) {
			return false
		}
	}
	return true
}

func isPathChar(c byte) bool {
	low := lower(c)
	return low >= 'a' && low <= 'z' || c >= '0' && c <= '9' || strings.IndexByte("-._~%!$&'()+,;:@=", c) >= 0
}

// TemplateRewriter makes paths of what the variables of a template have matched. It is
// safe for concurrent use.
type TemplateRewriter struct {
	pattern *regexp.Regexp
	text    string // as regexp.Expand takes it
}

// RewriteTemplate compiles rewrite, a path with "{name}" in it, for paths that the
// template matches.
func RewriteTemplate(template, rewrite string) (*TemplateRewriter, error) {
	t, err := Template(template)
	if err != nil {
		return nil, err
	}
	if !strings.HasPrefix(rewrite, "/") {
		return nil, fmt.Errorf("path template rewrite %q does not begin with a slash", rewrite)
	}
	var b strings.Builder
	for rest := rewrite; rest != ""; {
		plain, behind, found := strings.Cut(rest, "{")
		b.WriteString(strings.ReplaceAll(plain, "$", "$$"))
		if !found {
			break
		}
		name, after, ends := strings.Cut(behind, "}")
		if !ends || t.pattern.SubexpIndex(name) < 0 {
			return nil, fmt.Errorf("path template rewrite %q: %q is no variable of %q", rewrite, name, template)
		}
		b.WriteString("${" + name + "}")
		rest = after
	}
	return &TemplateRewriter{t.pattern, b.String()}, nil
}

// Replace returns the new path; a path that does not match stays.
func (r *TemplateRewriter) Replace(path string) string {
	found := r.pattern.FindStringSubmatchIndex(path)
	if found == nil {
		return path
	}
	return string(r.pattern.ExpandString(nil, r.text, path, found))
}
