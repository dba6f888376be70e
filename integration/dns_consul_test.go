package integration_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"

	"github.com/serai-net/serai/integration/harness"
)

// onPurpose is a way in which our answers are not Consul's.
type onPurpose struct {
	why     string
	differs func(q digger, consul *dns.Msg) bool
	// ours makes of Consul's answer what ours should be.
	ours func(q digger, consul *dns.Msg)
}

// differences are all of them. docs/dns.md has the same list, for people.
func differences() []onPurpose {
	return []onPurpose{
		{
			"an answer has only records of the type that was asked for, and aliases: Consul answers TXT by addresses",
			func(q digger, consul *dns.Msg) bool {
				return q.qtype != dns.TypeAAAA && len(consul.Ns) == 0 && slices.ContainsFunc(consul.Answer, func(r dns.RR) bool { return !belongs(q, r) })
			},
			func(q digger, consul *dns.Msg) {
				consul.Answer = slices.DeleteFunc(consul.Answer, func(r dns.RR) bool { return !belongs(q, r) })
			},
		},
		{
			"behind an alias is what was asked for: Consul looks for A and never for AAAA",
			func(q digger, consul *dns.Msg) bool {
				return q.qtype == dns.TypeAAAA && slices.ContainsFunc(consul.Answer, func(r dns.RR) bool { return !belongs(q, r) })
			},
			func(_ digger, consul *dns.Msg) {
				for i, r := range consul.Answer {
					if r.Header().Rrtype == dns.TypeA && !strings.HasSuffix(r.Header().Name, ".consul.") {
						consul.Answer[i] = abroadAAAA(r.Header().Name)
					}
				}
				consul.Answer = slices.DeleteFunc(consul.Answer, func(r dns.RR) bool { return r.Header().Rrtype == dns.TypeA })
			},
		},
		{
			"SOA and NS records are the zone's own: Consul answers by them for each name, there or not",
			func(q digger, consul *dns.Msg) bool {
				return (q.qtype == dns.TypeSOA || q.qtype == dns.TypeNS) && q.name != "consul." && len(consul.Answer) > 0
			},
			func(q digger, consul *dns.Msg) {
				consul.Answer, consul.Ns, consul.Extra = nil, nil, nil
				if strings.HasPrefix(q.name, "none.") {
					consul.Rcode = dns.RcodeNameError
				}
			},
		},
		{
			"what has names below it exists (RFC 8020): Consul says NXDOMAIN, after which a resolver need not ask for the names below",
			func(q digger, consul *dns.Msg) bool {
				parents := []string{"consul.", "service.consul.", "node.consul.", "addr.consul.", "dc1.consul.", "service.dc1.consul.", "_tcp.service.consul."}
				return slices.Contains(parents, q.name) && consul.Rcode == dns.RcodeNameError
			},
			func(_ digger, consul *dns.Msg) { consul.Rcode = dns.RcodeSuccess },
		},
		{
			"a node that is not there is not there for any type: Consul looks for it only for addresses and TXT",
			func(q digger, consul *dns.Msg) bool {
				nodes := []string{"none.node.consul.", "alpha.node.dc9.consul.", "b.alpha.node.consul."}
				return slices.Contains(nodes, q.name) && consul.Rcode == dns.RcodeSuccess
			},
			func(_ digger, consul *dns.Msg) { consul.Rcode = dns.RcodeNameError },
		},
		{
			"a negative answer has the zone's SOA (RFC 2308), which Consul leaves out for nodes and addresses",
			func(_ digger, consul *dns.Msg) bool { return len(consul.Answer) == 0 && len(consul.Ns) == 0 },
			func(_ digger, consul *dns.Msg) {
				consul.Ns = append(consul.Ns, &dns.SOA{
					Hdr: dns.RR_Header{Name: "consul.", Rrtype: dns.TypeSOA, Class: dns.ClassINET}, Ns: "ns.consul.", Mbox: "hostmaster.consul.",
					Refresh: 3600, Retry: 600, Expire: 86400,
				})
			},
		},
		{
			"kinds of names that we do not keep are refused, unless a resolver for them is configured: NXDOMAIN would be a lie",
			func(q digger, _ *dns.Msg) bool {
				return slices.ContainsFunc([]string{".query.", ".connect.", ".virtual.", ".ingress."}, func(kind string) bool { return strings.Contains(q.name, kind) })
			},
			func(_ digger, consul *dns.Msg) {
				consul.Rcode, consul.Authoritative, consul.Answer, consul.Ns, consul.Extra = dns.RcodeRefused, false, nil, nil, nil
			},
		},
		{
			"an answer to EDNS has EDNS (RFC 6891), which Consul drops where it cuts",
			func(q digger, consul *dns.Msg) bool { return q.edns > 0 && consul.IsEdns0() == nil },
			func(q digger, consul *dns.Msg) { consul.SetEdns0(q.edns, false) },
		},
	}
}

// belongs tells whether a record can be in an answer to q.
func belongs(q digger, r dns.RR) bool {
	kind := r.Header().Rrtype
	return q.qtype == dns.TypeANY || kind == q.qtype || kind == dns.TypeCNAME
}

// TestDNSLikeConsul asks the real Consul and us the same questions, and compares the answers section by section.
func TestDNSLikeConsul(t *testing.T) {
	t.Parallel()
	p := newDNSPair(t, harness.ConsulConfig{}, "")
	p.register(t, everyKind()...)
	p.start(t)
	used := map[string]bool{}
	asked := 0
	for _, q := range everyQuestion() {
		for _, way := range []digger{{}, {tcp: true}, {edns: 4096}, {tcp: true, edns: 1232}} {
			q.tcp, q.edns = way.tcp, way.edns
			asked++
			soon(t, "the same answer to "+q.String(), func(ctx context.Context) error {
				return compareDNS(ctx, p, q, used)
			})
		}
	}
	t.Logf("%d questions", asked)
	for _, d := range differences() {
		if !used[d.why] {
			t.Errorf("no question shows that %s: take the difference away", d.why)
		}
	}
}

// compareDNS asks both. What it does not compare: the order (both shuffle) and how often a record is there (Consul
// repeats addresses in the additional section), IDs, the serial of the SOA (the time, for both), what we say beyond
// Consul in EDNS, TTLs of what a resolver gave (Consul has its own for services, not for nodes), and upper and lower case (RFC 4343), but that we repeat the name as it was asked.
func compareDNS(ctx context.Context, p *dnsPair, q digger, used map[string]bool) error {
	consul, err := q.dig(ctx, p.consul.DNSAddr)
	if err != nil {
		return fmt.Errorf("consul: %w", err)
	}
	ours, err := q.dig(ctx, p.ours)
	if err != nil {
		return fmt.Errorf("serai: %w", err)
	}
	for _, d := range differences() {
		if d.differs(q, consul) {
			used[d.why] = true
			d.ours(q, consul)
		}
	}
	for _, r := range ours.Answer {
		if owner := r.Header().Name; owner != q.name && strings.EqualFold(owner, q.name) {
			return fmt.Errorf("asked for %s, answered for %s", q.name, owner)
		}
	}
	if diff := cmp.Diff(sections(consul), sections(ours)); diff != "" {
		return fmt.Errorf("consul -, serai +\n%s", diff)
	}
	return nil
}

// sections is what is compared of a message.
func sections(m *dns.Msg) map[string][]string {
	flags := fmt.Sprintf("aa=%v tc=%v rd=%v ra=%v ad=%v", m.Authoritative, m.Truncated, m.RecursionDesired, m.RecursionAvailable, m.AuthenticatedData)
	return map[string][]string{
		"head":       {dns.RcodeToString[m.Rcode], flags, fmt.Sprintf("edns=%v", m.IsEdns0() != nil)},
		"question":   {m.Question[0].String()},
		"answer":     recordSet(m.Answer),
		"authority":  recordSet(m.Ns),
		"additional": recordSet(m.Extra),
	}
}

func recordSet(records []dns.RR) []string {
	set := []string{}
	for _, r := range records {
		r = dns.Copy(r)
		r.Header().Name = strings.ToLower(r.Header().Name)
		switch r := r.(type) {
		case *dns.OPT:
			continue
		case *dns.SOA:
			r.Serial = 0
		case *dns.SRV:
			r.Target = strings.ToLower(r.Target)
		case *dns.CNAME:
			r.Target = strings.ToLower(r.Target)
		}
		if !strings.HasSuffix(r.Header().Name, "consul.") {
			r.Header().Ttl = 0
		}
		set = append(set, r.String())
	}
	slices.Sort(set)
	return slices.Compact(set)
}

// everyQuestion asks for each thing in every type that means something for it.
func everyQuestion() []digger {
	var all []digger
	add := func(types []uint16, names ...string) {
		for _, name := range names {
			for _, qtype := range types {
				all = append(all, digger{name: name, qtype: qtype})
			}
		}
	}
	a, srv := []uint16{dns.TypeA}, []uint16{dns.TypeSRV}
	add([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV, dns.TypeANY, dns.TypeTXT, dns.TypeMX, dns.TypeCNAME, dns.TypePTR},
		"web.service.consul.", "six.service.consul.", "both.service.consul.", "alpha.node.consul.", "delta.node.consul.")
	add([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeSRV},
		"WEB.Service.Consul.", "v1.web.service.consul.", "V1.web.service.consul.", "primary.web.service.consul.", "_web._tcp.service.consul.",
		"_web._TCP.service.consul.", "_web._v2.service.consul.", "dup.service.consul.", "noport.service.consul.", "under_score.service.consul.",
		"_under_score._tcp.service.consul.", "samehost.service.consul.", "mapped.service.consul.", "upper.service.consul.",
		"_upper._tcp.service.consul.", "tcp.upper.service.consul.", "ondotted.service.consul.", "sock.service.consul.", "itself.service.consul.",
		"weighty.service.consul.", "consul.service.consul.")
	add([]uint16{dns.TypeA, dns.TypeAAAA}, "ext.service.consul.", "onhost.service.consul.", "gamma.node.consul.", "mixed.service.consul.")
	add([]uint16{dns.TypeCNAME, dns.TypeANY}, "innernode.service.consul.", "inner.service.consul.")
	add([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeTXT}, "inner.service.consul.", "innernode.service.consul.", "nowhere.service.consul.")
	add(srv, "inner.service.consul.", "innernode.service.consul.", "nowhere.service.consul.")
	add([]uint16{dns.TypeTXT}, "gamma.node.consul.")
	add([]uint16{dns.TypeA, dns.TypeSRV}, "web.service.dc1.consul.", "web.service.DC1.consul.", "web.service.dc1.dc.consul.", "_web._v1.service.dc1.consul.",
		"v1.web.service.dc1.dc.consul.", "alpha.node.dc1.consul.", "ALPHA.node.dc1.dc.consul.", "dotted.node.node.consul.", "dotted.node.node.dc1.consul.")
	// what is not there
	add([]uint16{dns.TypeA, dns.TypeSRV, dns.TypeANY}, "dead.service.consul.", "none.service.consul.", "nope.web.service.consul.", "v3.web.service.consul.",
		"_web._udp.service.consul.", "web.service.dc9.consul.", "web.service.dc1.wrong.consul.", "web.service.dc1.foo.dc.consul.",
		"dotted.name.service.consul.", "a.b.dotted.service.consul.", "x.y.web.service.consul.", "_web._v1._tcp.service.consul.", "v1._web._tcp.service.consul.",
		"none.node.consul.", "alpha.node.dc9.consul.", "b.alpha.node.consul.", "foo.bar.consul.", "web.dc1.consul.", "ns.consul.")
	// addresses
	add([]uint16{dns.TypeA, dns.TypeAAAA, dns.TypeANY, dns.TypeMX}, "0a010001.addr.consul.", "0A010001.addr.dc1.consul.", "0a010001.addr.dc1.dc.consul.",
		"20010db8000000000000000000000005.addr.dc1.consul.", "00000000000000000000ffff0a010001.addr.consul.")
	add(a, "0a010001.addr.x.y.consul.", "0a01000.addr.consul.", "zz.addr.dc1.consul.", "a.0a010001.addr.consul.")
	// the zone, and what stands between it and names
	add([]uint16{dns.TypeSOA, dns.TypeNS}, "consul.", "web.service.consul.", "none.service.consul.")
	add(a, "consul.", "service.consul.", "node.consul.", "addr.consul.", "dc1.consul.", "service.dc1.consul.", "_tcp.service.consul.")
	// kinds that only Consul has
	add(a, "x.query.consul.", "web.connect.consul.", "web.virtual.consul.", "web.ingress.consul.")
	return all
}
