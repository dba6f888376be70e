package integration_test

import (
	"context"
	"errors"
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

// TestDNSManyInstances compares what does not fit: which instances are named is chance, and how many is what counts.
func TestDNSManyInstances(t *testing.T) {
	t.Parallel()
	const instances = 30
	p := newDNSPair(t, harness.ConsulConfig{NoACL: true}, "")
	p.register(t, node("alpha", "10.1.0.1", nil))
	p.register(t, manyInstances(instances)...)
	p.start(t)
	full := map[uint16][]string{}
	for _, qtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		q := digger{name: "many.service.consul.", qtype: qtype, tcp: true}
		soon(t, "all instances by TCP", func(ctx context.Context) error { return compareDNS(ctx, p, q, map[string]bool{}) })
		m, err := q.dig(t.Context(), p.ours)
		must(t, err)
		full[qtype] = recordSet(m.Answer)
		if len(full[qtype]) != instances {
			t.Fatalf("%d records by TCP", len(full[qtype]))
		}
	}
	for _, q := range []digger{
		{qtype: dns.TypeA},
		{qtype: dns.TypeA, edns: 100},
		{qtype: dns.TypeA, edns: 512},
		{qtype: dns.TypeA, edns: 600},
		{qtype: dns.TypeA, edns: 1232},
		{qtype: dns.TypeSRV},
		{qtype: dns.TypeSRV, edns: 512},
		{qtype: dns.TypeSRV, edns: 600},
		{qtype: dns.TypeSRV, edns: 1232},
		{qtype: dns.TypeSRV, edns: 4096},
	} {
		q.name = "many.service.consul."
		consul, err := q.dig(t.Context(), p.consul.DNSAddr)
		must(t, err)
		ours, err := q.dig(t.Context(), p.ours)
		must(t, err)
		size := max(int(q.edns), dns.MinMsgSize)
		ours.Compress = true
		if ours.Len() > size {
			t.Errorf("%s: %d bytes", q, ours.Len())
		}
		for _, r := range recordSet(ours.Answer) {
			if !slices.Contains(full[q.qtype], r) {
				t.Errorf("%s: %s is no instance", q, r)
			}
		}
		limited := size == dns.MinMsgSize // udp_answer_limit, which is no truncation for Consul either
		switch {
		case limited && (len(ours.Answer) != len(consul.Answer) || ours.Truncated):
			t.Errorf("%s: %d records, tc=%v; consul has %d", q, len(ours.Answer), ours.Truncated, len(consul.Answer))
		case !limited && len(ours.Answer) < instances && !ours.Truncated:
			// On purpose unlike Consul, which marks nothing unless enable_truncate is set.
			t.Errorf("%s: %d records, and it is not marked as truncated", q, len(ours.Answer))
		case len(ours.Answer) < len(consul.Answer):
			t.Errorf("%s: %d records; consul has %d in %d bytes", q, len(ours.Answer), len(consul.Answer), consul.Len())
		}
		t.Logf("%s: %d records of %d (consul %d), tc=%v", q, len(ours.Answer), instances, len(consul.Answer), ours.Truncated)
	}
	// Who asks again and again gets to all of them.
	seen := map[string]bool{}
	soon(t, "every instance to have been named", func(ctx context.Context) error {
		m, err := digger{name: "many.service.consul.", qtype: dns.TypeA}.dig(ctx, p.ours)
		if err != nil {
			return err
		}
		for _, r := range recordSet(m.Answer) {
			seen[r] = true
		}
		if len(seen) < instances {
			return fmt.Errorf("%d were", len(seen))
		}
		return nil
	})
}

// TestDNSSettings: what the agent's dns_config says holds for us too.
func TestDNSSettings(t *testing.T) {
	t.Parallel()
	p := newDNSPair(t, harness.ConsulConfig{NoACL: true}, `
dns_config {
  enable_additional_node_meta_txt = false
  only_passing     = true
  udp_answer_limit = 5
  a_record_limit   = 7
  enable_truncate  = true
  soa { refresh = 11 retry = 12 expire = 13 min_ttl = 14 }
}`)
	p.register(t, everyKind()...)
	p.register(t, manyInstances(10)...)
	p.start(t)
	used := map[string]bool{}
	for _, q := range []digger{
		{name: "web.service.consul.", qtype: dns.TypeA},
		{name: "web.service.consul.", qtype: dns.TypeSRV},
		{name: "v2.web.service.consul.", qtype: dns.TypeA},
		{name: "consul.", qtype: dns.TypeSOA},
		{name: "none.service.consul.", qtype: dns.TypeA},
		{name: "alpha.node.consul.", qtype: dns.TypeA},
		{name: "alpha.node.consul.", qtype: dns.TypeTXT},
		{name: "alpha.node.consul.", qtype: dns.TypeANY},
	} {
		soon(t, "the same answer to "+q.String(), func(ctx context.Context) error { return compareDNS(ctx, p, q, used) })
	}
	for _, q := range []digger{
		{qtype: dns.TypeA}, {qtype: dns.TypeA, tcp: true}, {qtype: dns.TypeA, edns: 4096}, {qtype: dns.TypeSRV}, {qtype: dns.TypeSRV, tcp: true},
	} {
		q.name = "many.service.consul."
		consul, err := q.dig(t.Context(), p.consul.DNSAddr)
		must(t, err)
		ours, err := q.dig(t.Context(), p.ours)
		must(t, err)
		if len(ours.Answer) < len(consul.Answer) || len(ours.Answer) > max(5, len(consul.Answer)) || ours.Truncated != consul.Truncated {
			t.Errorf("%s: %d records, tc=%v; consul has %d, tc=%v", q, len(ours.Answer), ours.Truncated, len(consul.Answer), consul.Truncated)
		}
	}
}

// TestDNSReasons: a client that speaks EDNS is told why a name has no address.
func TestDNSReasons(t *testing.T) {
	t.Parallel()
	p := newDNSPair(t, harness.ConsulConfig{NoACL: true}, "")
	p.register(t, everyKind()...)
	p.start(t)
	for name, want := range map[string]string{
		"none.service.consul.":     `the catalog of dc1 has no service "none"`,
		"dead.service.consul.":     `none of 1 instances of "dead" passes its checks`,
		"v9.web.service.consul.":   `none of 2 instances of "web" has the tag "v9"`,
		"none.node.consul.":        `the catalog of dc1 has no node "none"`,
		"web.service.dc9.consul.":  `consul knows no datacenter "dc9"`,
		"zz.addr.consul.":          `"zz" is no address: 8 or 32 hexadecimal digits`,
		"a.b.web.service.consul.":  `the name is of no form that is known: NAME.service`,
		"web.virtual.consul.":      `virtual names are Consul's own: send them there by forward "consul"`,
		"x.service.a.b.dc.consul.": `the name is of no form that is known: NAME.service`,
	} {
		soon(t, "the reason of "+name, func(ctx context.Context) error {
			m, err := digger{name: name, qtype: dns.TypeA, edns: 1232}.dig(ctx, p.ours)
			if err != nil {
				return err
			}
			if opt := m.IsEdns0(); opt != nil {
				for _, option := range opt.Option {
					if ede, ok := option.(*dns.EDNS0_EDE); ok && strings.HasPrefix(ede.ExtraText, want) {
						return nil
					}
				}
			}
			return errors.New(m.String())
		})
	}
}
