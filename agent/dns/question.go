package dns

import (
	"net/netip"
	"strings"

	"github.com/miekg/dns"
)

// question is one query that passed the checks of every query: it is a standard
// query of class IN or ANY with exactly one question. Zones only read it.
type question struct {
	// name is fully qualified and in lower case (RFC 4343), asked is as the
	// client has written it, for what the answer must repeat.
	name  string
	asked dns.Question
	// source is who asks, unmapped and without a zone; workload is what the
	// listener says of who asks there, "" if it leaves that to the source.
	source   netip.Addr
	workload string
	// udp says how the query came, edns that it has an OPT record. limit is the
	// most bytes that the response may have.
	udp, edns bool
	limit     int
	// query is the whole of it.
	query *dns.Msg
}

// qtype is what is asked for.
func (q *question) qtype() uint16 { return q.asked.Qtype }

// wants tells whether records of the type are asked for, by name or by ANY.
func (q *question) wants(qtype uint16) bool {
	return q.asked.Qtype == qtype || q.asked.Qtype == dns.TypeANY
}

// labels are those of the name that stand left of the origin, which is in lower
// case and ends in a dot. The name must be in the zone.
func (q *question) labels(origin string) []string {
	left := strings.TrimSuffix(q.name, origin)
	if left == "" {
		return nil
	}
	return dns.SplitDomainName(left)
}

// inZone tells whether a name is the origin or below it; both are in lower case
// and end in a dot.
func inZone(name, origin string) bool {
	before, ok := strings.CutSuffix(name, origin)
	return ok && (before == "" || origin == "." || (strings.HasSuffix(before, ".") && !escaped(before[:len(before)-1])))
}

// escaped tells whether what follows text is escaped by a backslash in it.
func escaped(text string) bool {
	return (len(text)-len(strings.TrimRight(text, `\`)))%2 == 1
}
