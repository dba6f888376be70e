package dns

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// consulZone answers for Consul's own domain: services, nodes and addresses,
// from the index.
type consulZone struct {
	index  Catalog
	domain string // in lower case, ends in a dot
	ttl    uint32 // seconds
	// unserved answers names of kinds that the index does not keep, such as
	// prepared queries; nil refuses them.
	unserved zone
	// others answers for names outside of the domain, where instances have
	// such a name for an address; nil leaves these to the client.
	others zone
}

var _ zone = (*consulZone)(nil)

// kind is what a name of the zone names.
type kind int

const (
	kindNone     kind = iota // nothing: it does not exist
	kindParent               // nothing itself, but what may have names below it
	kindApex                 // the zone
	kindService              // a service, in the datacenter
	kindNode                 // a node, in the datacenter
	kindAddress              // an address, in hexadecimal
	kindDC                   // what is a parent if it is a datacenter
	kindUnserved             // what Consul has and we do not keep
)

// consulName is a name of the zone, taken apart.
type consulName struct {
	kind kind
	// name of the service or node, the address; tag and datacenter are "" for
	// none.
	name, tag, datacenter string
}

// parseConsul takes the labels of a name apart that stand left of the domain,
// in lower case. The word for the kind is looked for from the right, since node
// names may have dots.
func parseConsul(labels []string) consulName {
	if len(labels) == 0 {
		return consulName{kind: kindApex}
	}
	for i, word := range slices.Backward(labels) {
		switch word {
		case "service", "node", "addr":
			return parseKept(word, labels[:i], labels[i+1:])
		case "query", "connect", "virtual", "ingress":
			return consulName{kind: kindUnserved, name: word}
		}
	}
	if dc, ok := parseDatacenter(labels); ok && dc != "" {
		return consulName{kind: kindDC, datacenter: dc}
	}
	if len(labels) == 1 && labels[0] == "dc" {
		return consulName{kind: kindParent}
	}
	return consulName{}
}

// parseKept takes apart what stands left and right of the word for the kind.
func parseKept(word string, left, right []string) consulName {
	dc, ok := parseDatacenter(right)
	switch {
	case word == "addr" && len(left) == 1: // Consul takes anything for the datacenter
		return consulName{kind: kindAddress, name: left[0]}
	case !ok:
		return consulName{}
	case len(left) == 0:
		return consulName{kind: kindDC, datacenter: dc}
	case word == "node":
		return consulName{kind: kindNode, name: strings.Join(left, "."), datacenter: dc}
	case word != "service":
		return consulName{}
	}
	last := left[len(left)-1]
	switch {
	case len(left) == 1 && strings.HasPrefix(last, "_"):
		return consulName{kind: kindParent} // of _NAME._TAG
	case len(left) == 1:
		return consulName{kind: kindService, name: last, datacenter: dc}
	case len(left) == 2 && strings.HasPrefix(left[0], "_") && strings.HasPrefix(last, "_"):
		n := consulName{kind: kindService, name: left[0][1:], tag: last[1:], datacenter: dc}
		if n.tag == "tcp" {
			n.tag = "" // the protocol (RFC 2782)
		}
		return n
	case len(left) == 2:
		return consulName{kind: kindService, name: last, tag: left[0], datacenter: dc}
	}
	return consulName{}
}

// parseDatacenter reads what stands between the word and the domain: nothing,
// NAME or NAME.dc.
func parseDatacenter(labels []string) (string, bool) {
	switch {
	case len(labels) == 0:
		return "", true
	case len(labels) == 1 && labels[0] != "dc", len(labels) == 2 && labels[1] == "dc":
		return labels[0], true
	}
	return "", false
}

// missing is why a name does not exist.
type missing struct{ text string }

func (m *missing) Error() string { return m.text }

// answer implements [zone].
func (z *consulZone) answer(ctx context.Context, q *question) *reply {
	n := parseConsul(q.labels(z.domain))
	if n.kind == kindUnserved {
		if z.unserved != nil {
			return z.unserved.answer(ctx, q)
		}
		return fail(dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported,
			fmt.Sprintf("%s names are Consul's own: send them there by forward %q { resolvers = [...] }", n.name, strings.TrimSuffix(z.domain, ".")))
	}
	settings := z.index.Settings()
	l := &lookup{zone: z, settings: settings, query: q, qtype: q.qtype(), ttl: z.ttl}
	l.limit, l.marked = limitOf(settings, q)
	err := l.find(ctx, n, q.asked.Name)
	r := &reply{authoritative: true, answer: l.answer, authority: l.authority, extra: l.extra, truncated: l.cut && l.marked && settings.Truncate}
	var none *missing
	switch {
	case errors.As(err, &none):
		r = &reply{authoritative: true, rcode: dns.RcodeNameError, authority: []dns.RR{z.soa(settings)}}
		if q.edns {
			r.why = append(r.why, reason{dns.ExtendedErrorCodeOther, none.text})
		}
	case err != nil:
		return fail(dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority, err.Error())
	case len(r.answer) == 0:
		r.authority = []dns.RR{z.soa(settings)} // RFC 2308 section 2.2
	}
	if since := z.index.Stale(); q.edns && !since.IsZero() {
		r.why = append(r.why, reason{dns.ExtendedErrorCodeStaleAnswer, "consul has not answered since " + since.UTC().Format(time.RFC3339)})
	}
	return r
}

// limitOf is the most records that the agent's settings let an answer have, 0
// for any number, and whether one that is cut is marked.
func limitOf(s catalog.Settings, q *question) (limit int, marked bool) {
	if q.udp && q.limit <= dns.MinMsgSize {
		limit, marked = s.UDPAnswerLimit, true
	}
	if s.RecordLimit > 0 && q.qtype() != dns.TypeSRV && (limit == 0 || s.RecordLimit < limit) {
		return s.RecordLimit, false
	}
	return limit, marked
}
