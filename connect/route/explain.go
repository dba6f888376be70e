package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Verdict says of one rule whether it is the one for a request, and if not, why.
type Verdict struct {
	// Number of the rule in its virtual host, from 0; -1 for require_tls.
	Number int `json:"number"`
	// Name of the rule, if it has one; Match what it asks for.
	Name  string `json:"name,omitempty"`
	Match string `json:"match"`
	// Chosen says that it is the one; else Why says why it is not.
	Chosen bool   `json:"chosen"`
	Why    string `json:"why,omitempty"`
}

// Explain matches as Match does, by the same compiled rules: it returns the domains
// of the virtual host of the request's authority and what each of its rules says.
// chosen is nil if none matches.
func (t *Table) Explain(x *wire.Exchange, req *wire.Request) (domains []string, all []Verdict, chosen *Rule) {
	path, query := t.pathOf(req), req.Query()
	rules := t.hosts.find(req.Authority)
	first := 0
	if len(rules) > 0 && rules[0].insecure {
		first = 1
	}
	for i, rule := range rules {
		v := Verdict{Number: i - first, Name: rule.Name, Match: describe(&rule.Match)}
		switch why := rule.misses(x, req, path, query); {
		case chosen != nil:
			v.Why = "an earlier rule was taken"
			if why != "" {
				v.Why = why
			}
		case why != "":
			v.Why = why
		default:
			v.Chosen, chosen = true, rule
		}
		all = append(all, v)
	}
	return t.hosts.domainsOf(rules), all, chosen
}

// misses says what of a request the rule does not match; "" if it matches.
func (r *Rule) misses(x *wire.Exchange, req *wire.Request, path, query string) string {
	if r.matches(x, req, path, query) {
		return ""
	}
	if _, ok := r.path(path); !ok {
		return fmt.Sprintf("path %q does not match", path)
	}
	if r.special && !r.matchesMore(x, req) {
		return "what it asks for besides is not so, or chance has decided"
	}
	for i, h := range r.headers {
		if !h.Match(req) {
			return fmt.Sprintf("header %q does not match", r.Rule.Match.Headers[i].Name)
		}
	}
	for i, q := range r.query {
		if !q.Match(query) {
			return fmt.Sprintf("query parameter %q does not match", r.Rule.Match.Query[i].Name)
		}
	}
	return "it does not match"
}

// domainsOf are the domains that have these very rules.
func (h *hosts) domainsOf(rules []*Rule) []string {
	same := func(other []*Rule) bool { return len(other) == len(rules) && len(rules) > 0 && other[0] == rules[0] }
	var all []string
	for name, other := range h.exact {
		if same(other) {
			all = append(all, name)
		}
	}
	for _, w := range h.suffix {
		if same(w.rules) {
			all = append(all, "*"+w.text)
		}
	}
	for _, w := range h.prefix {
		if same(w.rules) {
			all = append(all, w.text+"*")
		}
	}
	if same(h.any) {
		all = append(all, "*")
	}
	slices.Sort(all)
	return all
}

// describe says in a line what a match asks for.
func describe(m *mesh.Match) string {
	var parts []string
	switch {
	case m.Regex != "":
		parts = append(parts, "path ~ "+m.Regex)
	case m.Template != "":
		parts = append(parts, "path template "+m.Template)
	case m.Path != "":
		parts = append(parts, "path = "+m.Path)
	case m.PathPrefix != "":
		parts = append(parts, "path segments "+m.PathPrefix)
	default:
		parts = append(parts, "path prefix "+m.Prefix)
	}
	for i := range m.Headers {
		h := &m.Headers[i]
		not := ""
		if h.Invert {
			not = "not "
		}
		switch {
		case h.Present:
			parts = append(parts, not+"header "+h.Name)
		case h.Range != nil:
			parts = append(parts, fmt.Sprintf("%sheader %s from %d to below %d", not, h.Name, h.Range.First, h.Range.End))
		default:
			parts = append(parts, not+"header "+h.Name+" "+value(&h.Value))
		}
	}
	for i := range m.Query {
		if q := &m.Query[i]; q.Present {
			parts = append(parts, "query "+q.Name)
		} else {
			parts = append(parts, "query "+q.Name+" "+value(&q.Value))
		}
	}
	if m.GRPC {
		parts = append(parts, "gRPC")
	}
	if m.HasShare {
		parts = append(parts, fmt.Sprintf("%g %% of requests", float64(m.Share)*100/million))
	}
	if m.Certificate != nil {
		parts = append(parts, fmt.Sprintf("a client certificate: %t", *m.Certificate))
	}
	return strings.Join(parts, ", ")
}

func value(m *mesh.StringMatch) string {
	switch m.Kind {
	case mesh.MatchPrefix:
		return "prefix " + m.Prefix
	case mesh.MatchSuffix:
		return "suffix " + m.Suffix
	case mesh.MatchContains:
		return "contains " + m.Contains
	case mesh.MatchRegex:
		return "~ " + m.Regex
	default:
		return "= " + m.Exact
	}
}
