package edge

import (
	"errors"
	"fmt"
	"regexp/syntax"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/edge/consumer"
)

// validate checks one API; consumers is nil if they are themselves wrong.
func (a *API) validate(p *problems, c *Config, consumers *consumer.Store) {
	for _, host := range a.Hosts {
		if problem := checkHost(host); problem != "" {
			p.add(a.Pos.At("hosts"), "api %q: host %q %s", a.Name, host, problem)
		}
	}
	for _, name := range a.Listeners {
		if !slices.ContainsFunc(c.Listeners, func(l Listener) bool { return l.Name == name }) {
			p.add(a.Pos.At("listeners"), "api %q: unknown listener %q; %s", a.Name, name, quoted(listenerNames(c)))
		}
	}
	if problem := checkPath(a.BasePath); problem != "" {
		p.add(a.Pos.At("base_path"), "api %q: base_path is %q, which %s", a.Name, a.BasePath, problem)
	}
	a.validateCallers(p, c, consumers)
	validateUses(p, c, a.Plugins, fmt.Sprintf("api %q", a.Name))
	if len(a.Routes) == 0 {
		p.add(a.Pos.At(""), `api %q: no route; add a block route "all" with an upstream in it`, a.Name)
	}
	for i := range a.Routes {
		r := &a.Routes[i]
		for j := range i {
			if a.Routes[j].Name == r.Name {
				p.add(r.Pos.At(""), "duplicate route %q of api %q%s", r.Name, a.Name, firstAt(a.Routes[j].Pos.At("")))
				break
			}
		}
		r.validate(p, a)
		validateUses(p, c, r.Plugins, fmt.Sprintf("route %q of api %q", r.Name, a.Name))
	}
}

func (a *API) validateCallers(p *problems, c *Config, consumers *consumer.Store) {
	if a.Authenticate != nil {
		p.join(a.Authenticate.Validate())
		if name := a.Authenticate.Plugin; name != "" && !c.hasPlugin(name) {
			p.add(a.Authenticate.Pos, "authenticate of api %q: unknown plugin %q; %s", a.Name, name, c.pluginRemedy(name))
		}
	}
	if len(a.AllowConsumers) > 0 && a.Authenticate == nil {
		p.add(a.Pos.At("allow_consumers"),
			`api %q: allow_consumers is given, but callers are not known; add authenticate "api_key" {}`, a.Name)
	}
	for _, name := range a.AllowConsumers {
		if consumers != nil && consumers.ByName(name) == nil {
			p.add(a.Pos.At("allow_consumers"), "api %q: unknown consumer %q; %s", a.Name, name, quoted(consumerNames(c)))
		}
	}
}

func listenerNames(c *Config) []string {
	var names []string
	for i := range c.Listeners {
		names = append(names, c.Listeners[i].Name)
	}
	return names
}

func consumerNames(c *Config) []string {
	var names []string
	for i := range c.Consumers {
		names = append(names, c.Consumers[i].Name)
	}
	return names
}

// checkHost says what is wrong with a host of an API, "" if nothing is.
func checkHost(host string) string {
	name := strings.TrimPrefix(host, "*.")
	switch {
	case host == "*":
		return `means all hosts; leave hosts out`
	case strings.Contains(host, "://"), strings.ContainsAny(host, "/?#@ "):
		return `is no host name; write for example "orders.example.com"`
	case strings.Contains(name, "*"):
		return `has a star in the wrong place; a wildcard is "*." and then a name`
	case strings.Contains(host, ":") && !strings.HasPrefix(host, "["):
		return `has a port; name the host only`
	case name == "", strings.HasPrefix(name, "."), strings.Contains(name, ".."):
		return `has an empty label; write for example "orders.example.com"`
	default:
		return ""
	}
}

// checkPath says what is wrong with a path or prefix, "" if nothing is.
func checkPath(path string) string {
	if path == "" {
		return ""
	}
	if !strings.HasPrefix(path, "/") {
		return `does not begin with a slash; write for example "/v1"`
	}
	if strings.Contains(path, "?") {
		return "has a query; only the path takes part"
	}
	normal, err := NormalizePath(path)
	switch {
	case err != nil:
		return "no request can have: " + err.Error()
	case normal != path:
		return `no request can have, since paths are normalised; write "` + normal + `"`
	default:
		return ""
	}
}

// checkRegex says what is wrong with an expression, "" if nothing is.
func checkRegex(pattern string) string {
	if pattern == "" {
		return ""
	}
	_, err := match.Regex(pattern)
	var syntaxErr *syntax.Error
	switch {
	case errors.As(err, &syntaxErr):
		return "is no RE2 expression: " + syntaxErr.Code.String()
	case err != nil:
		return "cannot be used: " + err.Error()
	default:
		return ""
	}
}
