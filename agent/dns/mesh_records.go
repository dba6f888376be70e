package dns

import (
	"net/netip"

	"github.com/miekg/dns"

	"github.com/serai-net/serai/agent/catalog"
)

// records says where an upstream's listener is.
func (z *meshZone) records(q *question, name meshName, u catalog.LocalUpstream) *reply {
	r := &reply{authoritative: true}
	// what the client has written, so that its own case comes back to it
	owner := q.asked.Name
	if !name.srv {
		if rr := z.address(owner, u); q.wants(rr.Header().Rrtype) {
			r.answer = append(r.answer, rr)
		}
	}
	if q.wants(dns.TypeSRV) {
		target := owner
		if name.srv {
			target = z.target(name)
		}
		r.answer = append(r.answer, &dns.SRV{
			Hdr: z.header(owner, dns.TypeSRV, z.ttl), Priority: 1, Weight: 1, Port: uint16(u.Port), Target: target,
		})
		if len(r.answer) == 1 { // ANY has the address as an answer
			r.extra = []dns.RR{z.address(target, u)}
		}
	}
	if len(r.answer) == 0 {
		r.authority = []dns.RR{z.soa()}
	}
	return r
}

// target is the name with the address that an SRV record points to.
func (z *meshZone) target(name meshName) string {
	if name.datacenter != "" {
		return name.service + "." + name.datacenter + "." + z.origin
	}
	return name.service + "." + z.origin
}

// address is the record with a listener's address.
func (z *meshZone) address(owner string, u catalog.LocalUpstream) dns.RR {
	at := u.Address.Unmap()
	if at.IsUnspecified() { // it listens at every address, so at this one too
		at = loopback(at)
	}
	if at.Is4() {
		return &dns.A{Hdr: z.header(owner, dns.TypeA, z.ttl), A: at.AsSlice()}
	}
	return &dns.AAAA{Hdr: z.header(owner, dns.TypeAAAA, z.ttl), AAAA: at.AsSlice()}
}

func loopback(like netip.Addr) netip.Addr {
	if like.Is6() {
		return netip.IPv6Loopback()
	}
	return netip.AddrFrom4([4]byte{127, 0, 0, 1})
}
