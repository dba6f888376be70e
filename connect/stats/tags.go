package stats

import (
	"fmt"
	"regexp"
	"regexp/syntax"
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
	// begins are what a name must begin with one of, none for anything; part is what it
	// must contain, "" for anything.
	begins []string
	part   string
	re     *regexp.Regexp
	// token is a rule without a regular expression: the label is what follows
	// the only one of begins, up to the next dot.
	token bool
	// whole says that the rule looks at the end of a name.
	whole bool
	// tail says that it sees nothing but the last parts of a name, address that all it
	// sees is what an owner is called, unless more of an address may follow.
	tail, address bool
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
		added = append(added, &rule{name: r.Name, re: re, begins: beginnings(r.Regex), part: required(r.Regex), whole: strings.HasSuffix(r.Regex, "$")})
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

// beginnings are the literals one of which names must begin with which an anchored
// regular expression matches; none if it is not known.
func beginnings(text string) []string {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return nil
	}
	re = re.Simplify()
	if re.Op != syntax.OpConcat || re.Sub[0].Op != syntax.OpBeginText || len(re.Sub) < 2 {
		return nil
	}
	begins := literals(re.Sub[1])
	if slices.Contains(begins, "") {
		return nil
	}
	return begins
}

// required is the longest literal that every match of a regular expression has, without
// a dot in its midst; "" if none is known.
func required(text string) string {
	re, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		return ""
	}
	return requiredOf(re.Simplify())
}

func requiredOf(re *syntax.Regexp) (longest string) {
	switch {
	case re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase == 0:
		if text := string(re.Rune); !strings.Contains(strings.Trim(text, "."), ".") {
			return text
		}
	case re.Op == syntax.OpCapture || re.Op == syntax.OpPlus:
		return requiredOf(re.Sub[0])
	case re.Op == syntax.OpConcat:
		for _, one := range re.Sub {
			if part := requiredOf(one); len(part) >= len(longest) {
				longest = part
			}
		}
	}
	return longest
}

// literals are what an expression begins with; "" for what is not known.
func literals(re *syntax.Regexp) []string {
	switch {
	case re.Op == syntax.OpLiteral && re.Flags&syntax.FoldCase == 0:
		return []string{string(re.Rune)}
	case re.Op == syntax.OpCapture || re.Op == syntax.OpConcat:
		return literals(re.Sub[0])
	case re.Op == syntax.OpAlternate:
		var all []string
		for _, one := range re.Sub {
			all = append(all, literals(one)...)
		}
		return all
	}
	return []string{""}
}

// defaultRules are Envoy's own labels, as far as names have them that we count.
func defaultRules() []*rule {
	re := func(name, begin, part, text string) *rule {
		r := &rule{name: name, part: part, re: regexp.MustCompile(text), whole: true}
		if begin != "" {
			r.begins = []string{begin}
		}
		r.tail = strings.HasSuffix(text, "$") && !strings.HasPrefix(text, "^")
		return r
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
		{name: "envoy.http_conn_manager_prefix", begins: []string{"http."}, token: true},
		{name: "envoy.cluster_name", begins: []string{"cluster."}, token: true},
		{name: "envoy.tcp_prefix", begins: []string{"tcp."}, token: true},
		re("envoy.virtual_cluster", "vhost.", "vcluster.", `^vhost\.[^.]+\.vcluster\.(([^.]+)\.)`),
		{name: "envoy.virtual_host", begins: []string{"vhost."}, token: true},
		{name: "envoy.connection_limit_prefix", begins: []string{"connection_limit."}, token: true},
		re("envoy.rbac_prefix", "", ".rbac.", `^(([^.]+)\.)rbac\.`),
		re("envoy.rbac_policy_name", "", ".policy.", `\.policy\.(([^.]+)\.)`),
		{
			name: "envoy.listener_address", begins: []string{"listener."},
			re: regexp.MustCompile(`^listener\.(([_.\d]*|[_\[\]aAbBcCdDeEfF\d]*)\.)`), address: true,
		},
	}
}

// Tags returns a name without its labels, and the labels, those of all names
// first.
func (t *Tagger) Tags(s *Stat) (name string, tags []Tag) {
	var few [32]found
	all := t.find(few[:0], s)
	return cut(s.Name, all), distinct(t.fixed, all)
}

// distinct are fixed labels and those found. The same one found twice counts once: the
// first.
func distinct(fixed []Tag, all []found) []Tag {
	tags := make([]Tag, 0, len(fixed)+len(all))
	tags = append(tags, fixed...)
	for i := range all {
		if !slices.ContainsFunc(all[:i], func(f found) bool { return f.tag.Name == all[i].tag.Name }) {
			tags = append(tags, all[i].tag)
		}
	}
	return tags
}

// simple tells whether what the open rules find behind the owner does not depend on it.
func (s *scoped) simple(owner string) bool {
	return !slices.ContainsFunc(s.open, func(r *rule) bool { return !r.tail && (r.part == "" || strings.Contains(owner, r.part)) })
}

// clean tells whether no open rule that looks at more than the end can find something
// because of a name.
func (s *scoped) clean(name string) bool {
	return !slices.ContainsFunc(s.open, func(r *rule) bool { return !r.tail && strings.Contains(name, r.part) })
}

// find adds what the rules find.
func (t *Tagger) find(all []found, s *Stat) []found {
	if s.Scope == 0 || addressed(s.Name[s.Scope:]) {
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
		if !r.mayBegin(owner) {
			continue
		}
		if f, ok := r.find(owner); ok && !r.whole {
			s.found = append(s.found, f)
			continue
		}
		if r.address && strings.Count(owner, ".") > 1 {
			continue
		}
		s.open = append(s.open, r)
	}
	t.scopes[owner] = s
	return s
}

// addressed tells whether a name may be a part of an address.
func addressed(name string) bool {
	return name != "" && (name[0] == '_' || name[0] == '.' || '0' <= name[0] && name[0] <= '9')
}

// mayBegin tells whether a name that begins so may be one for the rule.
func (r *rule) mayBegin(name string) bool {
	return len(r.begins) == 0 || slices.ContainsFunc(r.begins, func(begin string) bool {
		n := min(len(begin), len(name))
		return begin[:n] == name[:n]
	})
}

// find applies a rule to a whole name.
func (r *rule) find(name string) (found, bool) {
	if !r.mayBegin(name) || !strings.Contains(name, r.part) {
		return found{}, false
	}
	if r.token {
		begin := len(r.begins[0])
		if begin > len(name) {
			return found{}, false
		}
		end := strings.IndexByte(name[begin:], '.')
		if end < 0 {
			return found{}, false
		}
		end += begin
		return found{Tag{r.name, name[begin:end]}, begin, end + 1}, true
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
