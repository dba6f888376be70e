// Package route finds the rule that serves a request, and its target. Tables
// are compiled once per configuration; matching allocates nothing.
//
//	Table ── virtual host (by authority) ── first rule that matches ── Target by weight
//
// Source: Envoy's "HTTP route matching" and xDS config.route.v3.
package route

import (
	"fmt"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Table is a compiled [mesh.Route]. It is immutable.
type Table struct {
	hosts hosts
	// parameters says that paths match only up to a ";", answers that some rule changes
	// the fields of responses.
	parameters, answers bool
}

// Answers tells whether some rule changes the fields of responses.
func (t *Table) Answers() bool { return t.answers }

// Rule is a compiled [mesh.Rule] with what its table and virtual host add.
type Rule struct {
	*mesh.Rule
	// Host is the virtual host that the rule is of.
	Host *mesh.VirtualHost
	// special says that matchesMore has something to look at.
	special bool
	// insecure matches what did not come by TLS, and redirects it (require_tls).
	insecure bool
	// Edits are the header changes of rule, virtual host and table, in the order in
	// which they are made; the target's own come before them.
	Edits []*Edit
	// Told is Metadata for who logs; nil for none.
	Told *wire.Metadata

	// overrides are what rule, virtual host and table say about filters, as far as they
	// do.
	overrides []map[string]*mesh.FilterOverride
	// targets are the edits of Targets; nil if none has any.
	targets []*Edit

	path    func(path string) (rest string, ok bool)
	headers []*match.HeaderMatcher
	query   []*match.QueryMatcher
	// rewrite is nil if there is none, or only a prefix to strip; hostOf and redirect
	// are those of HostPath and of a redirect, template of TemplateRewrite.
	rewrite, hostOf, redirect *match.Rewriter
	template                  *match.TemplateRewriter
}

// Compile makes a table. What cannot be compiled in one rule refuses only the
// requests that it would have matched where that can be told (mesh.Rule.Refusal),
// else it is an error.
func Compile(r *mesh.Route) (*Table, error) {
	t := &Table{parameters: r.IgnoreParameters}
	t.hosts.ignorePort = r.IgnorePort
	for _, vh := range r.VirtualHosts {
		compiled := make([]*Rule, 0, len(vh.Rules)+1)
		if vh.TLS != mesh.TLSOptional {
			compiled = append(compiled, tlsRule(vh))
		}
		for i, rule := range vh.Rules {
			c, err := compile(rule)
			if err != nil {
				return nil, fmt.Errorf("route %q, virtual host %q, rule %d: %w", r.Name, vh.Name, i, err)
			}
			c.Host = vh
			for _, level := range []map[string]*mesh.FilterOverride{rule.Filters, vh.Filters, r.Filters} {
				if level != nil {
					c.overrides = append(c.overrides, level)
				}
			}
			if err := c.compileEdits(r, vh); err != nil {
				return nil, fmt.Errorf("route %q, virtual host %q, rule %d: %w", r.Name, vh.Name, i, err)
			}
			t.answers = t.answers || slices.ContainsFunc(slices.Concat(c.Edits, c.targets), (*Edit).Answers)
			compiled = append(compiled, c)
		}
		for _, domain := range vh.Domains {
			if err := t.hosts.add(domain, compiled); err != nil {
				return nil, fmt.Errorf("route %q, virtual host %q: %w", r.Name, vh.Name, err)
			}
		}
	}
	t.hosts.sort()
	return t, nil
}

// tlsRule comes before all others of a virtual host that requires TLS.
func tlsRule(vh *mesh.VirtualHost) *Rule {
	all := func(string) (string, bool) { return "", true }
	return &Rule{Rule: &mesh.Rule{Name: "require_tls"}, Host: vh, path: all, special: true, insecure: true}
}

func compile(rule *mesh.Rule) (*Rule, error) {
	c := &Rule{Rule: rule, Told: wire.NewMetadata(rule.Metadata), special: special(&rule.Match)}
	var err error
	if c.path, err = pathMatcher(&rule.Match); err != nil {
		return nil, err
	}
	for _, m := range rule.Match.Headers {
		h, err := match.Header(m)
		if err != nil {
			return nil, err
		}
		c.headers = append(c.headers, h)
	}
	for _, m := range rule.Match.Query {
		q, err := match.Query(m)
		if err != nil {
			return nil, err
		}
		c.query = append(c.query, q)
	}
	return c, c.compileRewrites()
}

// compileRewrites compiles what makes other paths and hosts.
func (r *Rule) compileRewrites() (err error) {
	if rewrite := r.RegexRewrite; rewrite != nil && rewrite.StripPrefix == "" {
		if r.rewrite, err = match.Rewrite(*rewrite); err != nil {
			return fmt.Errorf("regex_rewrite: %w", err)
		}
	}
	if r.HostPath != nil {
		if r.hostOf, err = match.Rewrite(*r.HostPath); err != nil {
			return fmt.Errorf("host_rewrite_path_regex: %w", err)
		}
	}
	if r.Redirect != nil && r.Redirect.Regex != nil {
		if r.redirect, err = match.Rewrite(*r.Redirect.Regex); err != nil {
			return fmt.Errorf("redirect: %w", err)
		}
	}
	if r.TemplateRewrite != "" {
		if r.template, err = match.RewriteTemplate(r.Match.Template, r.TemplateRewrite); err != nil {
			return fmt.Errorf("path_rewrite_policy: %w", err)
		}
	}
	return nil
}

func (r *Rule) compileEdits(table *mesh.Route, vh *mesh.VirtualHost) error {
	all := []*mesh.HeaderEdit{&r.Edit, &vh.Edit, &table.Edit}
	if table.SpecificWins {
		slices.Reverse(all)
	}
	for _, e := range all {
		edit, err := CompileEdit(e)
		if err != nil {
			return err
		}
		if edit != nil {
			r.Edits = append(r.Edits, edit)
		}
	}
	for i := range r.Targets {
		edit, err := CompileEdit(&r.Targets[i].Edit)
		if err != nil {
			return err
		}
		if edit != nil && r.targets == nil {
			r.targets = make([]*Edit, len(r.Targets))
		}
		if edit != nil {
			r.targets[i] = edit
		}
	}
	return nil
}

// EditOf is the edit of a target of the rule; nil if it has none.
func (r *Rule) EditOf(target *mesh.Target) *Edit {
	for i := range r.targets {
		if target == &r.Targets[i] {
			return r.targets[i]
		}
	}
	return nil
}

// Answers tells whether the rule changes the fields of responses, those to target
// (which may be nil) included.
func (r *Rule) Answers(target *mesh.Target) bool {
	return slices.ContainsFunc(r.Edits, (*Edit).Answers) || r.EditOf(target).Answers()
}

// Rewrites tells whether the rule rewrites paths.
func (r *Rule) Rewrites() bool {
	return r.HasPrefixRewrite || r.RegexRewrite != nil || r.TemplateRewrite != ""
}

// pathMatcher returns a function that matches a path without its query and
// gives what follows the part that matched. The empty prefix matches all.
func pathMatcher(m *mesh.Match) (func(string) (string, bool), error) {
	switch {
	case m.Regex != "":
		pattern, err := match.Regex(m.Regex)
		if err != nil {
			return nil, err
		}
		return func(path string) (string, bool) { return "", pattern.Match(path) }, nil
	case m.Template != "":
		template, err := match.Template(m.Template)
		if err != nil {
			return nil, err
		}
		return func(path string) (string, bool) { return "", template.Match(path) }, nil
	case m.Path != "":
		want, fold := m.Path, m.IgnoreCase
		return func(path string) (string, bool) {
			return "", path == want || (fold && equalFold(path, want))
		}, nil
	case m.PathPrefix != "":
		prefix := strings.TrimSuffix(m.PathPrefix, "/")
		return func(path string) (string, bool) {
			rest, ok := cutPrefix(path, prefix, m.IgnoreCase)
			return rest, ok && (rest == "" || rest[0] == '/')
		}, nil
	default:
		return func(path string) (string, bool) { return cutPrefix(path, m.Prefix, m.IgnoreCase) }, nil
	}
}

func cutPrefix(path, prefix string, fold bool) (string, bool) {
	if len(path) < len(prefix) {
		return "", false
	}
	if head := path[:len(prefix)]; head != prefix && (!fold || !equalFold(head, prefix)) {
		return "", false
	}
	return path[len(prefix):], true
}

// equalFold ignores the case of ASCII letters only, as package match does.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		c += 'a' - 'A'
	}
	return c
}

// Match returns the rule for req of x, nil if there is none.
func (t *Table) Match(x *wire.Exchange, req *wire.Request) *Rule {
	path, query := t.pathOf(req), req.Query()
	for _, rule := range t.hosts.find(req.Authority) {
		if rule.matches(x, req, path, query) {
			return rule
		}
	}
	return nil
}

// pathOf is what of the path takes part in the match.
func (t *Table) pathOf(req *wire.Request) string {
	path := req.PathOnly()
	if t.parameters {
		path, _, _ = strings.Cut(path, ";")
	}
	return path
}

func (r *Rule) matches(x *wire.Exchange, req *wire.Request, path, query string) bool {
	if _, ok := r.path(path); !ok {
		return false
	}
	if r.special && !r.matchesMore(x, req) {
		return false
	}
	for _, h := range r.headers {
		if !h.Match(req) {
			return false
		}
	}
	for _, q := range r.query {
		if !q.Match(query) {
			return false
		}
	}
	return true
}

// million is what shares are given of.
const million = 1_000_000

// special tells whether m asks for more than paths, headers and queries.
func special(m *mesh.Match) bool { return m.GRPC || m.HasShare || m.Certificate != nil }

// matchesMore looks at what few rules ask for.
func (r *Rule) matchesMore(x *wire.Exchange, req *wire.Request) bool {
	m := &r.Match
	switch {
	case r.insecure:
		return !secure(req) && (r.Host.TLS == mesh.TLSForAll || req.Header.Get("x-envoy-internal") != "true")
	case m.HasShare && x.Draw()%million >= m.Share,
		m.GRPC && !wire.IsGRPC(&req.Header),
		m.Certificate != nil && *m.Certificate != (x.Peer.Certificate != nil):
		return false
	}
	return true
}

// secure tells whether the client came by TLS, to us or to a proxy before us.
func secure(req *wire.Request) bool {
	if proto, ok := req.Header.Lookup("x-forwarded-proto"); ok {
		return proto == "https"
	}
	return req.Scheme == "https"
}

// PerTarget tells whether a target of the rule has something to say about a filter.
func (r *Rule) PerTarget() bool {
	return slices.ContainsFunc(r.Targets, func(t mesh.Target) bool { return t.Filters != nil })
}

// Override is what is said about the filter of that name where the rule is taken, with
// target, which may be nil; nil for nothing. The most specific that speaks of it says
// whether it is met, and the most specific that says how, how.
func (r *Rule) Override(name string, target *mesh.Target) *mesh.FilterOverride {
	var met *mesh.FilterOverride
	for i := -1; i < len(r.overrides); i++ {
		var o *mesh.FilterOverride
		switch {
		case i >= 0:
			o = r.overrides[i][name]
		case target != nil:
			o = target.Filters[name]
		}
		switch {
		case o == nil:
			continue
		case o.Filter != nil, o.Refusal != "", met == nil && o.Disabled:
			return o
		case met == nil:
			met = o
		}
	}
	return met
}

// ClusterOf names the cluster of a target; "" if the request does not. A name that the
// request gives dies with the exchange.
func ClusterOf(target *mesh.Target, req *wire.Request) string {
	if target.Header == "" {
		return target.Cluster
	}
	if target.Header[0] != ':' && target.Header != "host" {
		return req.Header.Get(target.Header) // the first, if there are several
	}
	name, _ := match.Value(req, target.Header)
	return name
}

// Target chooses one of the rule's targets by weight; nil if it has none, or
// if all weights are zero.
func (r *Rule) Target() *mesh.Target { return mesh.Choose(r.Targets) }
