package integration_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/integration/harness"
)

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
