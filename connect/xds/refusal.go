package xds

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// Refusal says what refuses its traffic and why.
type Refusal struct {
	// Kind is "listener", "filter chain", "route", "cluster" or "endpoints".
	Kind, Name, Reason string
}

// Refusals lists what of a snapshot says of itself that it is refused, in order.
func Refusals(s *mesh.Snapshot) []Refusal {
	found := map[Refusal]bool{}
	add := func(kind, name, reason string) {
		if reason != "" {
			found[Refusal{kind, name, reason}] = true
		}
	}
	route := func(r *mesh.Route, name string) {
		filters := func(all map[string]*mesh.FilterOverride) {
			for _, o := range all {
				add("route", name, o.Refusal)
			}
		}
		filters(r.Filters)
		for _, host := range r.VirtualHosts {
			filters(host.Filters)
			for _, rule := range host.Rules {
				add("route", name, rule.Refusal)
				filters(rule.Filters)
				for i := range rule.Targets {
					filters(rule.Targets[i].Filters)
				}
			}
		}
	}
	for name, l := range s.Listeners {
		add("listener", name, l.Refusal)
		chainsOf(l, func(c *mesh.FilterChain) {
			add("filter chain", name, c.Refusal)
			for _, in := range c.Intentions {
				add("filter chain", name, in.Refusal)
			}
			if c.HTTP == nil {
				return
			}
			if c.HTTP.Route != nil {
				route(c.HTTP.Route, name)
			}
			for _, f := range c.HTTP.Filters {
				if f.Disabled {
					continue
				}
				add("filter chain", name, f.Refusal)
				if f.Intention != nil {
					add("filter chain", name, f.Intention.Refusal)
				}
			}
		})
	}
	for name, r := range s.Routes {
		route(r, name)
	}
	for name, c := range s.Clusters {
		add("cluster", name, c.Refusal)
	}
	return slices.SortedFunc(maps.Keys(found), Refusal.compare)
}

func (r Refusal) compare(other Refusal) int {
	return cmp.Or(strings.Compare(r.Kind, other.Kind), strings.Compare(r.Name, other.Name), strings.Compare(r.Reason, other.Reason))
}

// unread lists the resources whose latest bytes cannot be read, in order.
func (w *Watcher) unread() []Refusal {
	var all []Refusal
	for kind, of := range map[string]unread{
		"listener": w.listeners.unread, "route": w.routes.unread, "cluster": w.clusters.unread, "endpoints": w.unreadSets,
	} {
		for name, reason := range of {
			all = append(all, Refusal{kind, name, "its bytes cannot be read: " + reason})
		}
	}
	slices.SortFunc(all, Refusal.compare)
	return all
}
