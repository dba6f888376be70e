package route

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Rewrite changes path and authority of req as the rule says. The query stays,
// and the result is always an absolute path.
func (r *Rule) Rewrite(req *wire.Request) {
	if r.HostRewrite != "" {
		req.Authority = r.HostRewrite
	}
	path := req.PathOnly()
	query := req.Path[len(path):]
	switch {
	case r.HasPrefixRewrite:
		rest, _ := r.path(path)
		path = r.PrefixRewrite + rest
	case r.RegexRewrite == nil:
		return
	case r.RegexRewrite.StripPrefix != "":
		rest, ok := strings.CutPrefix(path, r.RegexRewrite.StripPrefix)
		if !ok {
			return
		}
		path = "/" + strings.TrimPrefix(rest, "/")
	default:
		path = r.rewrite.apply(path)
	}
	if !strings.HasPrefix(path, "/") {
		path = "/" + path
	}
	req.Path = path + query
}

// regexRewrite is a compiled [mesh.RegexRewrite].
type regexRewrite struct {
	pattern  *regexp.Regexp
	template string
}

func compileRewrite(r *mesh.RegexRewrite) (*regexRewrite, error) {
	pattern, err := regexp.Compile(r.Pattern)
	if err != nil {
		return nil, fmt.Errorf("regex_rewrite: %w", err)
	}
	template, err := goTemplate(r.Substitution, pattern.NumSubexp())
	if err != nil {
		return nil, fmt.Errorf("regex_rewrite: %w", err)
	}
	return &regexRewrite{pattern, template}, nil
}

func (r *regexRewrite) apply(path string) string { return r.pattern.ReplaceAllString(path, r.template) }

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
