package dns

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// router finds the zone of a name: the one with the longest origin. It is itself
// a zone, of names that may be in none of them.
type router []route

// route is an origin and who answers there.
type route struct {
	origin string
	zone   zone
	counts *counts
}

var _ zone = router(nil)

// find returns nil if the name is in no zone. Of the origins that a name is in,
// the longest has the most labels.
func (r router) find(name string) *route {
	for i := range r {
		if inZone(name, r[i].origin) {
			return &r[i]
		}
	}
	return nil
}

// answer implements zone.
func (r router) answer(ctx context.Context, q *question) *reply {
	one := r.find(q.name)
	if one == nil {
		return fail(dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, "nobody is asked for this name")
	}
	return one.zone.answer(ctx, q)
}

// sorted puts the longest origin first.
func (r router) sorted() router {
	slices.SortStableFunc(r, func(a, b route) int { return cmp.Compare(len(b.origin), len(a.origin)) })
	return r
}

// compile makes the handler of a configuration that is valid and has its
// defaults. The caller holds mu, or is New.
func (s *Server) compile(c Config) *handler {
	domain, mesh, ttl := fqdn(c.Domain), fqdn(c.Mesh), uint32(c.TTL/time.Second)
	h := &handler{
		allow: c.Allow, recursion: c.recursion(), udpSize: c.UDPSize,
		refused: s.countsOf("refused"), dropped: &s.dropped, log: s.log,
	}
	forward := func(origin string, resolvers []netip.AddrPort) route {
		f := newForwarder(resolvers, c.ForwardTimeout, &s.bounds.forwards, &s.forward, s.log)
		return route{origin: origin, zone: f, counts: s.countsOf(origin)}
	}
	catalog := &consulZone{index: s.catalog, domain: domain, ttl: ttl}
	var others router // all but the mesh and Consul's
	for _, f := range c.Forwards {
		one := forward(fqdn(f.Zone), f.Resolvers)
		if one.origin == domain {
			catalog.unserved = one.zone
			continue
		}
		others = append(others, one)
	}
	if h.recursion {
		others = append(others, forward(".", s.resolvers(c)))
	}
	if len(others) > 0 {
		catalog.others = slices.Clone(others).sorted()
	}
	h.routes = append(others,
		route{origin: domain, zone: catalog, counts: s.countsOf(domain)},
		route{origin: mesh, zone: &meshZone{origin: mesh, ttl: ttl, index: s.catalog}, counts: s.countsOf(mesh)},
	).sorted()
	return h
}

// countsOf keeps counters over reloads.
func (s *Server) countsOf(origin string) *counts {
	if s.counts[origin] == nil {
		s.counts[origin] = &counts{}
	}
	return s.counts[origin]
}

// resolvers are those for the rest of the world.
func (s *Server) resolvers(c Config) []netip.AddrPort {
	if len(c.Resolvers) > 0 {
		return c.Resolvers
	}
	system, err := systemResolvers(resolvConf, c.Listeners)
	if err != nil {
		s.log.Warn("no resolvers: other names than Consul's and the mesh's are refused; name some by dns { resolvers = [...] }", "err", err)
	} else if len(system) == 0 {
		s.log.Warn("the system names no resolver but ourselves: other names than Consul's and the mesh's are refused; " +
			"name some by dns { resolvers = [...] }")
	}
	return system
}
