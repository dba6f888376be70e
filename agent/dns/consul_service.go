package dns

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// service answers for an instance of a service that is well and has the tag.
func (l *lookup) service(ctx context.Context, n consulName, owner string) error {
	instances, err := l.zone.index.Instances(ctx, n.name, n.datacenter)
	if err != nil {
		return l.told(err, n)
	}
	well := 0
	chosen := shuffled(instances, func(i *catalog.Instance) bool {
		if i.Critical || i.Warning && l.settings.OnlyPassing {
			return false
		}
		well++
		return n.tag == "" || slices.ContainsFunc(i.Tags, func(tag string) bool { return strings.EqualFold(tag, n.tag) })
	})
	switch {
	case well == 0:
		return &missing{fmt.Sprintf("none of %d instances of %q passes its checks", len(instances), n.name)}
	case len(chosen) == 0:
		return &missing{fmt.Sprintf("none of %d instances of %q has the tag %q", well, n.name, n.tag)}
	case l.qtype == dns.TypeSRV:
		return l.srv(ctx, owner, chosen)
	}
	hosts := make([]string, 0, len(chosen))
	for _, i := range chosen {
		hosts = append(hosts, host(i, owner))
	}
	return l.addresses(ctx, owner, hosts)
}

// shuffled are pointers to those instances that keep chooses, in random order.
func shuffled(all []catalog.Instance, keep func(*catalog.Instance) bool) []*catalog.Instance {
	chosen := make([]*catalog.Instance, 0, len(all))
	for i := range all {
		if keep(&all[i]) {
			chosen = append(chosen, &all[i])
		}
	}
	rand.Shuffle(len(chosen), func(i, j int) { chosen[i], chosen[j] = chosen[j], chosen[i] })
	return chosen
}

// host is the address of an instance, an IP address or a name: its own, or its
// node's if it has none or the very name that is asked for.
func host(i *catalog.Instance, owner string) string {
	if i.Address == "" || strings.EqualFold(dns.Fqdn(i.Address), owner) {
		return i.Node.Address
	}
	return i.Address
}

// addresses answers with the hosts that are addresses of the type that is asked
// for. Only if there is none, one that is a name becomes an alias, since an
// alias stands alone (RFC 1034 section 3.6.2).
func (l *lookup) addresses(ctx context.Context, owner string, hosts []string) error {
	var seen []netip.Addr
	alias := ""
	for _, h := range hosts {
		addr, err := netip.ParseAddr(h)
		if err != nil {
			alias = cmp.Or(alias, domainName(h))
			continue
		}
		addr = addr.Unmap().WithZone("")
		if slices.Contains(seen, addr) {
			continue
		}
		seen = append(seen, addr)
		if record := l.record(owner, addr); l.wants(record.Header().Rrtype) && l.room() {
			l.answer = append(l.answer, record)
		}
	}
	lone := len(seen) == 0 || l.qtype == dns.TypeA || l.qtype == dns.TypeAAAA
	if len(l.answer) > 0 || alias == "" || !lone {
		return nil
	}
	l.answer = append(l.answer, &dns.CNAME{Hdr: l.header(owner, dns.TypeCNAME), Target: alias})
	if l.qtype != dns.TypeCNAME {
		l.answer = append(l.answer, l.chase(ctx, owner, alias, l.qtype)...)
	}
	return nil
}

// room tells whether the answer may have one more record.
func (l *lookup) room() bool {
	if l.limit > 0 && len(l.answer) >= l.limit {
		l.cut = true
		return false
	}
	return true
}

// srv answers with one record for each instance, and adds the addresses of their
// targets and the metadata of their nodes.
func (l *lookup) srv(ctx context.Context, owner string, instances []*catalog.Instance) error {
	type place struct {
		target string
		port   int
	}
	places, targets, nodes := map[place]bool{}, map[string]bool{}, map[string]bool{}
	for _, i := range instances {
		target, addr := l.target(i, owner)
		if target == "" || i.Port < 0 || i.Port > 65535 || places[place{target, i.Port}] || !l.room() {
			continue
		}
		places[place{target, i.Port}] = true
		l.answer = append(l.answer, &dns.SRV{
			Hdr: l.header(owner, dns.TypeSRV), Priority: 1, Weight: uint16(min(max(0, i.Weight()), 65535)),
			Port: uint16(i.Port), Target: target,
		})
		if !targets[target] {
			targets[target] = true
			if addr.IsValid() {
				l.extra = append(l.extra, l.record(target, addr))
			} else if inZone(strings.ToLower(target), l.zone.domain) {
				l.extra = append(l.extra, l.chase(ctx, owner, target, dns.TypeANY)...)
			}
		}
		if node := l.nodeTarget(&i.Node); node != "" && l.settings.NodeMetaTXT && !nodes[node] {
			nodes[node] = true
			l.extra = append(l.extra, l.texts(&i.Node, node)...)
		}
	}
	return nil
}

// target is the name of an instance's host, "" if it has none that can be
// written, and its address, if it is one.
func (l *lookup) target(i *catalog.Instance, owner string) (string, netip.Addr) {
	h := host(i, owner)
	addr, err := netip.ParseAddr(h)
	if err != nil {
		return domainName(h), netip.Addr{}
	}
	addr = addr.Unmap().WithZone("")
	if h == i.Node.Address && i.Address != h {
		if name := l.nodeTarget(&i.Node); name != "" {
			return name, addr
		}
	}
	return l.addressTarget(addr, i.Node.Datacenter), addr
}

// chase follows a name that owner leads to: in the zone by the index, else by
// those that answer for it. What cannot be found out is left to the client, and
// a ring ends where it closes.
func (l *lookup) chase(ctx context.Context, owner, name string, qtype uint16) []dns.RR {
	lower := strings.ToLower(name)
	trail := append(slices.Clip(l.trail), strings.ToLower(owner))
	if len(trail) > maxChase || slices.Contains(trail, lower) {
		return nil
	}
	if !inZone(lower, l.zone.domain) {
		return l.abroad(ctx, name, qtype)
	}
	next := &lookup{zone: l.zone, settings: l.settings, query: l.query, qtype: qtype, limit: l.limit, ttl: l.ttl, trail: trail}
	labels := (&question{name: lower}).labels(l.zone.domain)
	if err := next.find(ctx, parseConsul(labels), name); err != nil {
		return nil
	}
	return next.answer
}

// abroad asks those that answer for a name outside of the zone.
func (l *lookup) abroad(ctx context.Context, name string, qtype uint16) []dns.RR {
	if l.zone.others == nil || l.query == nil || !l.query.query.RecursionDesired || qtype == dns.TypeANY {
		return nil
	}
	next := *l.query
	next.name, next.asked = strings.ToLower(name), dns.Question{Name: name, Qtype: qtype, Qclass: dns.ClassINET}
	next.query = new(dns.Msg).SetQuestion(name, qtype)
	next.query.SetEdns0(dns.DefaultMsgSize, false)
	next.udp, next.edns, next.limit = false, true, dns.MaxMsgSize
	r := l.zone.others.answer(ctx, &next)
	if r == nil || r.rcode != dns.RcodeSuccess {
		return nil
	}
	return r.answer
}
