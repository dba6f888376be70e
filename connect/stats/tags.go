package stats

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"sync"
)

// Tag is a label that was cut out of a name.
type Tag struct{ Name, Value string }

// TagRule says how a label is cut out of names (xDS:
// config.metrics.v3.TagSpecifier).
type TagRule struct {
	Name string
	// Regex's first group is what is cut out; the second, if there is one, is the
	// label's value.
	Regex string
	// Fixed is the value of a label that all names have, if HasFixed.
	Fixed    string
	HasFixed bool
}

// Tagger cuts labels out of names as Envoy does: every rule sees the whole name,
// and what the rules have found is cut out at the end. It is safe for concurrent
// use.
type Tagger struct {
	fixed []Tag
	rules []*rule

	mu sync.Mutex // guards:
	// scopes are what rules find in the names of owners.
	scopes map[string]*scoped
}

// maxScopes bounds what is remembered; beyond, all is found anew.
const maxScopes = 20000

// rule is one way to cut out a label.
type rule struct {
	name string
	// begin is what a name must begin with, and part what it must contain; "" for
	// anything.
	begin, part string
	re          *regexp.Regexp
	// token is a rule without a regular expression: the label is what follows
	// begin, up to the next dot.
	token bool
	// whole says that the rule looks at the end of a name.
	whole bool
}

// found is a label and where it stood.
type found struct {
	tag        Tag
	start, end int
}

// scoped is what was found in the name of an owner.
type scoped struct {
	found []found
	// open are the rules that may still find something in what comes behind.
	open []*rule
}

// NewTagger returns a Tagger for the labels of a configuration. Unless
// noDefaults, Envoy's own labels come first; a rule of the same name as one of
// these takes its place. An error names a rule that is none.
func NewTagger(rules []TagRule, noDefaults bool) (*Tagger, error) {
	t := &Tagger{scopes: map[string]*scoped{}}
	own := map[string]bool{}
	var added []*rule
	for _, r := range rules {
		switch {
		case r.HasFixed:
			t.fixed = append(t.fixed, Tag{r.Name, r.Fixed})
			continue
		case r.Regex == "":
			if i := slices.IndexFunc(defaultRules(), func(d *rule) bool { return d.name == r.Name }); i >= 0 {
				if noDefaults {
					added = append(added, defaultRules()[i])
				}
				continue
			}
			return nil, fmt.Errorf("stats tag %q has neither a regex nor a fixed value", r.Name)
		}
		re, err := regexp.Compile(r.Regex)
		if err != nil {
			return nil, fmt.Errorf("stats tag %q: %w", r.Name, err)
		}
		if re.NumSubexp() == 0 {
			return nil, fmt.Errorf("stats tag %q: its regex has no group", r.Name)
		}
		own[r.Name] = true
		added = append(added, &rule{name: r.Name, re: re, begin: beginning(r.Regex), whole: strings.HasSuffix(r.Regex, "$")})
	}
	if !noDefaults {
		for _, d := range defaultRules() {
			if !own[d.name] {
				t.rules = append(t.rules, d)
			}
		}
	}
	t.rules = append(t.rules, added...)
	return t, nil
}

// beginning is the literal that names must begin with which an anchored regular
// expression matches.
func beginning(text string) string {
	rest, ok := strings.CutPrefix(text, "^")
	if !ok {
		return ""
	}
	// A literal that is anchored nowhere is found by the package itself.
	re, err := regexp.Compile(rest)
	if err != nil {
		return ""
	}
	prefix, _ := re.LiteralPrefix()
	return prefix
}

// defaultRules are Envoy's own labels, as far as names have them that we count.
func defaultRules() []*rule {
	re := func(name, begin, part, text string) *rule {
		return &rule{name: name, begin: begin, part: part, re: regexp.MustCompile(text), whole: true}
	}
	return []*rule{
		re("envoy.response_code", "", "_rq_", `_rq(_(\d{3}))$`),
		re("envoy.response_code_class", "", "_rq_", `_rq_((\d))xx$`),
		re("envoy.ssl_curve", "", ".ssl.curves.", `\.ssl\.curves(\.([^.]+))$`),
		re("envoy.ssl_sigalg", "", ".ssl.sigalgs.", `\.ssl\.sigalgs(\.([^.]+))$`),
		re("envoy.ssl_version", "", ".ssl.versions.", `\.ssl\.versions(\.([^.]+(?:\.\d)?))$`),
		re("envoy.ssl_cipher", "listener.", ".ssl.ciphers.", `\.ssl\.ciphers(\.([^.]+))$`),
		re("envoy.tls_certificate", "", ".ssl.certificate.", `\.ssl\.certificate\.(([^.]+)\.)`),
		re("envoy.worker_id", "", "worker_", `^(?:listener\..*\.|server\.|thread_local_cluster_manager\.)worker(_(\d+))\.`),
		re("envoy.http_conn_manager_prefix", "listener.", ".http.", `^listener\..*?\.http\.(([^.]+)\.)`),
		{name: "envoy.http_conn_manager_prefix", begin: "http.", token: true},
		{name: "envoy.cluster_name", begin: "cluster.", token: true},
		{name: "envoy.tcp_prefix", begin: "tcp.", token: true},
		re("envoy.virtual_cluster", "vhost.", "vcluster.", `^vhost\.[^.]+\.vcluster\.(([^.]+)\.)`),
		{name: "envoy.virtual_host", begin: "vhost.", token: true},
		{name: "envoy.connection_limit_prefix", begin: "connection_limit.", token: true},
		re("envoy.rbac_prefix", "", ".rbac.", `^(([^.]+)\.)rbac\.`),
		re("envoy.rbac_policy_name", "", ".policy.", `\.policy\.(([^.]+)\.)`),
		{
			name: "envoy.listener_address", begin: "listener.",
			re: regexp.MustCompile(`^listener\.(([_.\d]*|[_\[\]aAbBcCdDeEfF\d]*)\.)`), whole: true,
		},
	}
}

// Tags returns a name without its labels, and the labels, those of all names
// first.
func (t *Tagger) Tags(s *Stat) (name string, tags []Tag) {
	var few [32]found
	all := t.find(few[:0], s)
	tags = make([]Tag, 0, len(t.fixed)+len(all))
	tags = append(tags, t.fixed...)
	for i := range all {
		// The same label found twice counts once: the first.
		if !slices.ContainsFunc(all[:i], func(f found) bool { return f.tag.Name == all[i].tag.Name }) {
			tags = append(tags, all[i].tag)
		}
	}
	return cut(s.Name, all), tags
}

// find adds what the rules find.
func (t *Tagger) find(all []found, s *Stat) []found {
	if s.Scope == 0 {
		for _, r := range t.rules {
			if f, ok := r.find(s.Name); ok {
				all = append(all, f)
			}
		}
		return all
	}
	scope := t.scope(s.Name[:s.Scope])
	all = append(all, scope.found...)
	for _, r := range scope.open {
		if f, ok := r.find(s.Name); ok {
			all = append(all, f)
		}
	}
	return all
}

// scope is what the rules find in the name of an owner: that most labels come
// from there makes reading a thousand clusters cheap.
func (t *Tagger) scope(name string) *scoped {
	t.mu.Lock()
	defer t.mu.Unlock()
	if s := t.scopes[name]; s != nil {
		return s
	}
	if len(t.scopes) >= maxScopes {
		clear(t.scopes)
	}
	s := &scoped{}
	owner := strings.Clone(name)
	for _, r := range t.rules {
		if r.begin != "" && !strings.HasPrefix(owner, r.begin) {
			continue
		}
		if f, ok := r.find(owner); ok && !r.whole {
			s.found = append(s.found, f)
			continue
		}
		s.open = append(s.open, r)
	}
	t.scopes[owner] = s
	return s
}

// find applies a rule to a whole name.
func (r *rule) find(name string) (found, bool) {
	if !strings.HasPrefix(name, r.begin) || !strings.Contains(name, r.part) {
		return found{}, false
	}
	if r.token {
		end := strings.IndexByte(name[len(r.begin):], '.')
		if end < 0 {
			return found{}, false
		}
		end += len(r.begin)
		return found{Tag{r.name, name[len(r.begin):end]}, len(r.begin), end + 1}, true
	}
	at := r.re.FindStringSubmatchIndex(name)
	if at == nil || at[2] < 0 {
		return found{}, false
	}
	f := found{Tag{Name: r.name}, at[2], at[3]}
	switch {
	case len(at) <= 4:
		f.tag.Value = name[at[2]:at[3]]
	case at[4] >= 0:
		f.tag.Value = name[at[4]:at[5]]
	}
	return f, true
}

// cut takes out of a name what was found.
func cut(name string, all []found) string {
	if len(all) == 0 {
		return name
	}
	out := make([]byte, 0, len(name))
	for i := range len(name) {
		if !slices.ContainsFunc(all, func(f found) bool { return f.start <= i && i < f.end }) {
			out = append(out, name[i])
		}
	}
	return string(out)
}
