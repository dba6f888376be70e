package dns

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// negativeTTL is how long, in seconds, resolvers may remember that a name of
// the mesh does not exist: an intention can make it exist at once.
const negativeTTL = 1

// meshZone answers for names of the mesh:
//
//	NAME.mesh             A, AAAA, SRV   where the asker's sidecar listens for NAME
//	_NAME._tcp.mesh       SRV
//	NAME.DC.mesh          the same for an upstream of another datacenter
//	_NAME._tcp.DC.mesh
type meshZone struct {
	origin string
	ttl    uint32 // seconds
	index  Catalog
}

// meshName is what a name of the mesh names.
type meshName struct {
	service, datacenter string // datacenter "" is the asker's own
	// srv says that the name is one of RFC 2782, which has no address.
	srv bool
}

// answer implements zone.
func (z *meshZone) answer(ctx context.Context, q *question) *reply {
	r := z.lookup(ctx, q)
	if since := z.index.Stale(); q.edns && !since.IsZero() {
		r.why = append(r.why, reason{dns.ExtendedErrorCodeStaleAnswer, "consul has not answered since " + since.UTC().Format(time.RFC3339)})
	}
	return r
}

func (z *meshZone) lookup(ctx context.Context, q *question) *reply {
	labels := q.labels(z.origin)
	if len(labels) == 0 {
		return z.apex(q)
	}
	name, ok := parseMeshName(labels)
	if !ok {
		return z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeOther,
			"names here are NAME.%[1]s, NAME.DATACENTER.%[1]s and _NAME._tcp.%[1]s", strings.TrimSuffix(z.origin, "."))
	}
	asker, refusal := z.who(ctx, q)
	if refusal != nil {
		return refusal
	}
	if name.service == "" || z.isDatacenter(asker, name) {
		return z.deny(dns.RcodeSuccess, dns.ExtendedErrorCodeOther, "there are names below this one, but it has no records")
	}
	decision := z.index.Decide(ctx, asker.service, name.service)
	switch {
	case decision.Allowed:
		return z.upstream(q, asker, name)
	case !decision.Known:
		return z.deny(dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady,
			"the intentions of %s are not known: %s", asker.service, decision.Reason)
	default:
		return z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeProhibited,
			"%s may not call %s: %s", asker.service, name.service, decision.Reason)
	}
}

// parseMeshName reads the labels left of the origin; false if they name
// nothing. The name between _tcp and the origin, which has no records of its
// own, is one without a service.
func parseMeshName(labels []string) (meshName, bool) {
	if len(labels) > 1 && labels[1] == "_tcp" {
		service, ok := strings.CutPrefix(labels[0], "_")
		if !ok || service == "" || len(labels) > 3 {
			return meshName{}, false
		}
		name := meshName{service: service, srv: true}
		if len(labels) == 3 {
			name.datacenter = labels[2]
		}
		return name, true
	}
	switch {
	case len(labels) > 2:
		return meshName{}, false
	case labels[0] == "_tcp":
		return meshName{}, true
	case len(labels) == 2:
		return meshName{service: labels[0], datacenter: labels[1]}, true
	default:
		return meshName{service: labels[0]}, true
	}
}

// isDatacenter tells whether NAME.mesh has names below it since NAME is no
// upstream but a datacenter: then it must exist (RFC 8020).
func (z *meshZone) isDatacenter(asker *asker, name meshName) bool {
	if name.srv || name.datacenter != "" || len(z.find(asker, name)) > 0 {
		return false
	}
	if strings.EqualFold(z.index.Settings().Datacenter, name.service) {
		return true
	}
	for i := range asker.instances {
		for _, u := range asker.instances[i].Upstreams {
			if strings.EqualFold(u.Datacenter, name.service) {
				return true
			}
		}
	}
	return false
}

// upstream answers with where the asker's sidecar listens for the upstream.
func (z *meshZone) upstream(q *question, asker *asker, name meshName) *reply {
	found := z.find(asker, name)
	var reachable []catalog.LocalUpstream
	for _, u := range found {
		if u.Socket == "" {
			reachable = append(reachable, u)
		}
	}
	switch {
	case len(found) == 0 && asker.instances[0].Transparent:
		return z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeOther,
			"the sidecar of %s is a transparent proxy and has no upstream %s: call %s.virtual.consul, or add an upstream",
			asker.service, name, name.service)
	case len(found) == 0:
		return z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeOther,
			`the sidecar of %s has no upstream %s: add to its definition upstreams { destination_name = "%s" local_bind_port = ... }`,
			asker.service, name, name.service)
	case len(reachable) == 0:
		return z.deny(dns.RcodeSuccess, dns.ExtendedErrorCodeOther,
			"the sidecar of %s listens for %s at the socket %s, which has no IP address", asker.service, name, found[0].Socket)
	case conflict(reachable, q.wants(dns.TypeSRV)):
		return z.deny(dns.RcodeNameError, dns.ExtendedErrorCodeOther,
			`%d sidecars of %s are here and listen for %s at different places: ask at a listener with workload = "PROXY-ID"`,
			len(asker.instances), asker.service, name)
	}
	return z.records(q, name, reachable[0])
}

// find are the upstreams of that name, one of each sidecar.
func (z *meshZone) find(asker *asker, name meshName) []catalog.LocalUpstream {
	own := z.index.Settings().Datacenter
	var found []catalog.LocalUpstream
	for i := range asker.instances {
		for _, u := range asker.instances[i].Upstreams {
			if u.Prepared || u.Peer != "" || !strings.EqualFold(u.Destination, name.service) {
				continue
			}
			if sameDatacenter(u.Datacenter, name.datacenter, own) && (u.Socket != "" || u.Port != 0) {
				found = append(found, u)
				break
			}
		}
	}
	return found
}

// sameDatacenter compares two, of which "" means our own.
func sameDatacenter(a, b, own string) bool {
	if a == "" {
		a = own
	}
	if b == "" {
		b = own
	}
	return strings.EqualFold(a, b)
}

// conflict tells whether the sidecars do not agree on the address, or, if that
// matters, on the port.
func conflict(all []catalog.LocalUpstream, port bool) bool {
	for _, u := range all[1:] {
		if u.Address != all[0].Address || (port && u.Port != all[0].Port) {
			return true
		}
	}
	return false
}

// String is how people write it.
func (n meshName) String() string {
	if n.datacenter == "" {
		return n.service
	}
	return n.service + " in " + n.datacenter
}

// deny is a reply without records, which the negative TTL is for.
func (z *meshZone) deny(rcode int, code uint16, format string, args ...any) *reply {
	r := fail(rcode, code, fmt.Sprintf(format, args...))
	r.authoritative = true
	if rcode == dns.RcodeSuccess || rcode == dns.RcodeNameError {
		r.authority = []dns.RR{z.soa()}
	}
	return r
}

// apex answers for the origin itself.
func (z *meshZone) apex(q *question) *reply {
	r := &reply{authoritative: true}
	if q.wants(dns.TypeSOA) {
		r.answer = append(r.answer, z.soa())
	}
	if q.wants(dns.TypeNS) {
		r.answer = append(r.answer, &dns.NS{Hdr: z.header(z.origin, dns.TypeNS, z.ttl), Ns: "ns." + z.origin})
	}
	if len(r.answer) == 0 {
		r.authority = []dns.RR{z.soa()}
	}
	return r
}

func (z *meshZone) soa() *dns.SOA {
	return &dns.SOA{
		Hdr: z.header(z.origin, dns.TypeSOA, negativeTTL),
		Ns:  "ns." + z.origin, Mbox: "hostmaster." + z.origin,
		Serial: uint32(time.Now().Unix()), Refresh: 3600, Retry: 600, Expire: 86400, Minttl: negativeTTL,
	}
}

func (z *meshZone) header(name string, rrtype uint16, ttl uint32) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: ttl}
}
