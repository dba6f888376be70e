package dns

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// maxChase is how many names a name of the zone may lead through.
const maxChase = 4

// lookup gathers the records for one question. It is used by one goroutine.
type lookup struct {
	zone     *consulZone
	settings catalog.Settings
	query    *question
	qtype    uint16
	limit    int  // most records of an answer, 0 for any number
	marked   bool // an answer that limit cuts may be marked as truncated
	ttl      uint32
	// trail is the names that led here, in lower case.
	trail []string

	answer, authority, extra []dns.RR
	cut                      bool // limit has left something out
}

// find gathers the records of a name, which owner is as the client wrote it. The
// error is a *missing if there is no such name, else why it is not known.
func (l *lookup) find(ctx context.Context, n consulName, owner string) error {
	switch n.kind {
	case kindApex:
		return l.apex(ctx)
	case kindService:
		return l.service(ctx, n, owner)
	case kindNode:
		return l.node(ctx, n, owner)
	case kindAddress:
		return l.address(n, owner)
	case kindParent:
		return nil
	case kindDC:
		return l.told(l.zone.index.Datacenter(ctx, n.datacenter), n)
	default:
		return &missing{"the name is of no form that is known: NAME.service, TAG.NAME.service, _NAME._tcp.service, NODE.node, " +
			"each with .DATACENTER if need be"}
	}
}

// told makes an error of the index ours.
func (l *lookup) told(err error, n consulName) error {
	where := n.datacenter
	if where == "" {
		where = l.settings.Datacenter
	}
	switch {
	case errors.Is(err, catalog.ErrNoDatacenter):
		return &missing{fmt.Sprintf("consul knows no datacenter %q", where)}
	case errors.Is(err, catalog.ErrNoService):
		return &missing{fmt.Sprintf("the catalog of %s has no service %q", where, n.name)}
	case errors.Is(err, catalog.ErrNoNode):
		return &missing{fmt.Sprintf("the catalog of %s has no node %q", where, n.name)}
	default:
		return err
	}
}

// wants tells whether records of the type are asked for.
func (l *lookup) wants(qtype uint16) bool { return l.qtype == qtype || l.qtype == dns.TypeANY }

// apex answers for the zone itself.
func (l *lookup) apex(ctx context.Context) error {
	if !l.wants(dns.TypeSOA) && !l.wants(dns.TypeNS) {
		return nil
	}
	servers, addresses, err := l.nameservers(ctx)
	if err != nil {
		return err
	}
	l.extra = addresses
	if l.wants(dns.TypeNS) {
		l.answer = append(l.answer, servers...)
	} else {
		l.authority = servers
	}
	if l.wants(dns.TypeSOA) {
		l.answer = append(l.answer, l.zone.soa(l.settings))
	}
	return nil
}

// maxServers is how many servers Consul names for its zone.
const maxServers = 3

// nameservers are Consul's servers, as the catalog has them. That there is none
// to be seen is no error.
func (l *lookup) nameservers(ctx context.Context) (servers, addresses []dns.RR, err error) {
	instances, err := l.zone.index.Instances(ctx, "consul", "")
	if errors.Is(err, catalog.ErrNoService) {
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	for _, i := range shuffled(instances, func(i *catalog.Instance) bool { return !i.Critical }) {
		target := l.nodeTarget(&i.Node)
		if target == "" || len(servers) == maxServers {
			continue
		}
		servers = append(servers, &dns.NS{Hdr: l.header(l.zone.domain, dns.TypeNS), Ns: target})
		if addr, err := netip.ParseAddr(i.Node.Address); err == nil {
			addresses = append(addresses, l.record(target, addr))
		}
	}
	return servers, addresses, nil
}

// soa is the zone's. Its serial is the time, as Consul's is: the zone changes by
// the second.
func (z *consulZone) soa(s catalog.Settings) *dns.SOA {
	return &dns.SOA{
		Hdr: dns.RR_Header{Name: z.domain, Rrtype: dns.TypeSOA, Class: dns.ClassINET, Ttl: s.SOA.Minttl},
		Ns:  "ns." + z.domain, Mbox: "hostmaster." + z.domain, Serial: serial(),
		Refresh: s.SOA.Refresh, Retry: s.SOA.Retry, Expire: s.SOA.Expire, Minttl: s.SOA.Minttl,
	}
}

// node answers for NODE.node.
func (l *lookup) node(ctx context.Context, n consulName, owner string) error {
	node, err := l.zone.index.Node(ctx, n.name, n.datacenter)
	if err != nil {
		return l.told(err, n)
	}
	texts := l.texts(node, owner)
	switch l.qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeANY:
		if err := l.addresses(ctx, owner, []string{node.Address}); err != nil {
			return err
		}
		switch {
		case len(l.trail) > 0: // behind an alias only addresses are of interest
		case l.qtype == dns.TypeANY:
			l.add(texts)
		case l.settings.NodeMetaTXT:
			l.extra = append(l.extra, texts...)
		}
	case dns.TypeTXT:
		l.add(texts)
	}
	return nil
}

// add adds to the answer what it has room for.
func (l *lookup) add(records []dns.RR) {
	for _, r := range records {
		if l.room() {
			l.answer = append(l.answer, r)
		}
	}
}

// address answers for HEX.addr: the address is in the name.
func (l *lookup) address(n consulName, owner string) error {
	raw, err := hex.DecodeString(n.name)
	addr, ok := netip.AddrFromSlice(raw)
	if err != nil || !ok {
		return &missing{fmt.Sprintf("%q is no address: 8 or 32 hexadecimal digits", n.name)}
	}
	record := l.record(owner, addr)
	if l.wants(record.Header().Rrtype) {
		l.answer = append(l.answer, record)
	} else {
		l.extra = append(l.extra, record)
	}
	return nil
}

// nodeTarget is the name of a node in the zone, "" if it cannot be written as
// one.
func (l *lookup) nodeTarget(n *catalog.Node) string {
	return domainName(n.Name + ".node." + n.Datacenter + "." + l.zone.domain)
}

// addressTarget is the name of an address in the zone.
func (l *lookup) addressTarget(addr netip.Addr, datacenter string) string {
	return hex.EncodeToString(addr.AsSlice()) + ".addr." + datacenter + "." + l.zone.domain
}

func (l *lookup) header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: l.ttl}
}

// record is the A or AAAA record of an address.
func (l *lookup) record(owner string, addr netip.Addr) dns.RR {
	if addr.Is4() {
		return &dns.A{Hdr: l.header(owner, dns.TypeA), A: addr.AsSlice()}
	}
	return &dns.AAAA{Hdr: l.header(owner, dns.TypeAAAA), AAAA: addr.AsSlice()}
}

// domainName makes a text a fully qualified name, "" if it cannot be one.
func domainName(text string) string {
	if strings.ContainsAny(text, " \t\"();@$\\") { // would be read as an escape or not at all
		return ""
	}
	name := dns.Fqdn(text)
	if _, ok := dns.IsDomainName(name); !ok || name == "." {
		return ""
	}
	return name
}
