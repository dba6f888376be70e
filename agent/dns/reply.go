package dns

import "github.com/miekg/dns"

// reply is what a zone answers. The zero reply is an empty NOERROR. The server
// alone makes a message of it: it repeats the question, sets RD and RA, adds
// the OPT record if the query had one, and cuts what does not fit, with TC.
// Records are the message's own: nobody else holds them.
type reply struct {
	rcode int
	// authoritative sets AA; authenticated sets AD, which only a forwarder
	// passes on.
	authoritative, authenticated bool
	// truncated sets TC, if the zone itself has left something out that the
	// client should ask for by TCP.
	truncated bool

	answer, authority, extra []dns.RR

	// why tells the operator what is behind the rcode (RFC 8914); only a query
	// with EDNS gets it.
	why []reason
}

// reason is an Extended DNS Error.
type reason struct {
	code uint16 // dns.ExtendedErrorCode...
	text string
}

// fail is a reply without records.
func fail(rcode int, code uint16, text string) *reply {
	return &reply{rcode: rcode, why: []reason{{code, text}}}
}
