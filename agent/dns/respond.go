package dns

import (
	"slices"
	"strings"

	"github.com/miekg/dns"
)

// maxReason is the most bytes of text in one Extended DNS Error, and of all of
// them in a message of 512 bytes: beside the longest name there is room for it.
const maxReason = 180

// respond makes the message that says r. With a nil q the query was refused
// before it was one, and may lack its question.
func (h *handler) respond(query *dns.Msg, q *question, r *reply, buffer []byte) []byte {
	m := &dns.Msg{
		MsgHdr: dns.MsgHdr{
			Id: query.Id, Response: true, Opcode: query.Opcode, Rcode: r.rcode,
			Authoritative: r.authoritative, AuthenticatedData: r.authenticated, Truncated: r.truncated,
			RecursionDesired: query.RecursionDesired, RecursionAvailable: h.recursion,
			CheckingDisabled: query.CheckingDisabled,
		},
		Compress: true,
		Question: query.Question,
		// clipped, since the OPT record is appended to what others may hold
		Answer: r.answer, Ns: r.authority, Extra: slices.Clip(r.extra),
	}
	limit := minUDPSize
	if q != nil {
		limit = q.limit
	}
	if asked := query.IsEdns0(); asked != nil {
		m.Extra = append(m.Extra, h.opt(asked, r, limit))
	} else if r.rcode > 0xf { // needs an OPT record to be said
		m.Rcode = dns.RcodeServerFailure
	}
	packed, err := pack(m, limit, buffer)
	if err == nil {
		return packed
	}
	// a record that cannot be written: the zone's fault
	h.log.Error("dns response not packed", "err", err)
	m.Rcode, m.Answer, m.Ns, m.Extra = dns.RcodeServerFailure, nil, nil, nil
	if packed, err = pack(m, limit, buffer); err != nil {
		return nil
	}
	return packed
}

// pack writes a message, and cuts records off if it is too long.
func pack(m *dns.Msg, limit int, buffer []byte) ([]byte, error) {
	packed, err := m.PackBuffer(buffer)
	if err != nil || len(packed) <= limit {
		return packed, err
	}
	m.Truncate(limit)
	m.Compress = true
	return m.PackBuffer(buffer)
}

// opt is our side of EDNS (RFC 6891), with the reasons.
func (h *handler) opt(asked *dns.OPT, r *reply, limit int) *dns.OPT {
	opt := &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT}}
	opt.SetUDPSize(uint16(h.udpSize))
	if asked.Do() {
		opt.SetDo()
	}
	left := maxReason
	if limit > 2*minUDPSize {
		left = 4 * maxReason
	}
	for _, one := range r.why {
		text := shorten(one.text, min(left, 2*maxReason))
		left -= len(text)
		opt.Option = append(opt.Option, &dns.EDNS0_EDE{InfoCode: one.code, ExtraText: text})
		if left <= 0 {
			break
		}
	}
	return opt
}

// shorten cuts a text to at most n bytes, and never within a character.
func shorten(text string, n int) string {
	if len(text) <= n {
		return text
	}
	const dots = "..."
	return strings.ToValidUTF8(text[:max(0, n-len(dots))], "") + dots[:min(len(dots), n)]
}

// reasons joins the texts, for the log.
func (r *reply) reasons() string {
	var texts []string
	for _, one := range r.why {
		texts = append(texts, one.text)
	}
	return strings.Join(texts, "; ")
}
