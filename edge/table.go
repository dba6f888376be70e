package edge

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/wire"
)

// routes is all routes of a configuration, compiled, by the listener's name.
type routes struct {
	all       []*route
	listeners map[string]*hostTable
}

// hostTable finds the route of a request on one listener: of the exact host,
// else of the longest wildcard, else of no host. It is immutable.
type hostTable struct {
	exact     map[string]*pathTable
	wildcards map[string]*pathTable // by what follows the star: ".example.com"
	any       *pathTable
}

// pathTable finds a route by path. The keys are those of [route.keys].
type pathTable struct {
	exact    map[string]candidates
	prefixes map[string]candidates // with those of patterns
}

// candidates are routes with the same path, in the order in which they are
// asked. Mostly there is one, to which the table leads without a detour.
type candidates struct {
	first *route
	rest  []*route
}

// compileRoutes makes the tables; c is valid in all other respects. It tells
// all routes that would want the same requests.
func compileRoutes(c *Config) (*routes, error) {
	out := &routes{listeners: map[string]*hostTable{}}
	for i := range c.Listeners {
		out.listeners[c.Listeners[i].Name] = &hostTable{
			exact: map[string]*pathTable{}, wildcards: map[string]*pathTable{}, any: newPathTable(),
		}
	}
	p := &problems{}
	told := map[[2]*route]bool{}
	for i := range c.APIs {
		a := &c.APIs[i]
		for j := range a.Routes {
			r, err := newRoute(a, &a.Routes[j], len(out.all))
			if err != nil {
				return nil, fmt.Errorf("route %q of api %q: %w", a.Routes[j].Name, a.Name, err)
			}
			out.all = append(out.all, r)
			for _, other := range out.insert(r) {
				if told[[2]*route{r, other}] {
					continue
				}
				told[[2]*route{r, other}] = true
				p.add(r.config.Pos.At(""), "route %q of api %q takes the same requests as route %q of api %q%s; "+
					"give one another path, host, method or header",
					r.config.Name, a.Name, other.config.Name, other.api.Name, isAt(other.config.Pos.At("")))
			}
		}
	}
	return out, errors.Join(p.errs...)
}

// insert puts r wherever it belongs and returns those it conflicts with.
func (t *routes) insert(r *route) (conflicts []*route) {
	for name, hosts := range t.listeners {
		if len(r.api.Listeners) > 0 && !slices.Contains(r.api.Listeners, name) {
			continue
		}
		for _, table := range hosts.tablesFor(r.api.Hosts) {
			conflicts = append(conflicts, table.insert(r)...)
		}
	}
	return conflicts
}

func newPathTable() *pathTable {
	return &pathTable{exact: map[string]candidates{}, prefixes: map[string]candidates{}}
}

// tablesFor returns the tables of hosts, which it makes where there is none.
func (t *hostTable) tablesFor(hosts []string) []*pathTable {
	if len(hosts) == 0 {
		return []*pathTable{t.any}
	}
	var tables []*pathTable
	for _, host := range hosts {
		in, key := t.exact, normalizeHost(host)
		if rest, ok := strings.CutPrefix(key, "*"); ok {
			in, key = t.wildcards, rest
		}
		if in[key] == nil {
			in[key] = newPathTable()
		}
		if !slices.Contains(tables, in[key]) {
			tables = append(tables, in[key])
		}
	}
	return tables
}

func (t *pathTable) insert(r *route) (conflicts []*route) {
	exact, keys := r.keys()
	in := t.prefixes
	if exact {
		in = t.exact
	}
	for _, key := range keys {
		before := in[key]
		for _, other := range before.all() {
			if r.conflicts(other) {
				conflicts = append(conflicts, other)
			}
		}
		// what is compared with each request lies close together in memory, and not
		// where the configuration was read
		in[strings.Clone(key)] = before.with(r)
	}
	return conflicts
}

func (c candidates) all() []*route {
	if c.first == nil {
		return nil
	}
	return append([]*route{c.first}, c.rest...)
}

func (c candidates) with(r *route) candidates {
	all := append(c.all(), r)
	slices.SortStableFunc(all, (*route).before)
	return candidates{first: all[0], rest: all[1:]}
}

// find returns the first that accepts a request, nil if none does.
func (c candidates) find(req *wire.Request, path string) *route {
	if c.first == nil || c.first.accepts(req, path) {
		return c.first
	}
	for _, r := range c.rest {
		if r.accepts(req, path) {
			return r
		}
	}
	return nil
}

// isAt says where something stands.
func isAt(position string) string {
	if position == "" {
		return ""
	}
	return " at " + position
}

// find returns the route of a request whose path is normalised, nil if there is
// none.
func (t *hostTable) find(req *wire.Request) *route {
	host, path := normalizeHost(req.Authority), req.PathOnly()
	if table := t.exact[host]; table != nil {
		if r := table.find(req, path); r != nil {
			return r
		}
	}
	if len(t.wildcards) > 0 {
		for i := 1; i < len(host); i++ {
			if host[i] != '.' {
				continue
			}
			if table := t.wildcards[host[i:]]; table != nil {
				if r := table.find(req, path); r != nil {
					return r
				}
			}
		}
	}
	return t.any.find(req, path)
}

// find goes from the whole path to ever shorter beginnings that end before or
// behind a slash.
func (t *pathTable) find(req *wire.Request, path string) *route {
	if r := t.exact[path].find(req, path); r != nil {
		return r
	}
	if len(t.prefixes) == 0 {
		return nil
	}
	for i := len(path); i > 0; i-- {
		if i < len(path) && path[i] != '/' && path[i-1] != '/' {
			continue
		}
		if r := t.prefixes[path[:i]].find(req, path); r != nil {
			return r
		}
	}
	return nil
}

// normalizeHost takes the port and the dot at the end off an authority and
// lowers it. It allocates only if there is something to lower.
func normalizeHost(authority string) string {
	host := authority
	if i := strings.LastIndexByte(host, ':'); i >= 0 && strings.IndexByte(host[i:], ']') < 0 {
		host = host[:i]
	}
	return strings.ToLower(strings.TrimSuffix(host, "."))
}
