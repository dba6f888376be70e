package dns

import (
	"context"
	"encoding/binary"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/miekg/dns"
)

const (
	headerSize = 12 // RFC 1035 section 4.1.1
	// maxQuery is the longest query that is read; 255 bytes of name and an OPT
	// record are far below it.
	maxQuery = 4096
	// deadline bounds the work for one query. Clients give up after 5 s or so.
	deadline = 5 * time.Second
)

// handler turns queries into responses, by one configuration.
type handler struct {
	routes    router
	allow     []netip.Prefix
	recursion bool
	udpSize   int
	// refused counts queries that no route has got.
	refused *counts
	dropped *dropped
	log     *slog.Logger
}

// client is who has sent a query.
type client struct {
	source   netip.Addr
	workload string // what its listener says
	udp      bool
}

// handle returns the response to one packet, made in buffer if that is long
// enough; nil if there is none to be given.
func (h *handler) handle(ctx context.Context, packet []byte, from client, buffer []byte) []byte {
	if len(packet) < headerSize {
		h.dropped.short.Add(1)
		return nil
	}
	if packet[2]&0x80 != 0 { // a response: answering it could go on for ever
		h.dropped.responses.Add(1)
		return nil
	}
	query, refusal := h.parse(packet, from)
	if refusal != nil {
		h.refused.add(refusal.rcode)
		return h.respond(query, nil, refusal, buffer)
	}
	q := newQuestion(query, from, h.udpSize)
	r, counts := h.answer(ctx, q)
	counts.add(r.rcode)
	if r.rcode != dns.RcodeSuccess && h.log.Enabled(ctx, slog.LevelDebug) {
		h.log.Debug("dns answer", "name", q.name, "type", dns.TypeToString[q.qtype()], "source", q.source.String(),
			"workload", q.workload, "rcode", dns.RcodeToString[r.rcode], "why", r.reasons())
	}
	return h.respond(query, q, r, buffer)
}

// parse reads a query and checks what is so for every one. With a refusal the
// query has at least its header.
func (h *handler) parse(packet []byte, from client) (*dns.Msg, *reply) {
	query := &dns.Msg{MsgHdr: header(packet)}
	count := func(at int) uint16 { return binary.BigEndian.Uint16(packet[at:]) }
	switch {
	case query.Opcode != dns.OpcodeQuery:
		return query, &reply{rcode: dns.RcodeNotImplemented}
	case len(packet) > maxQuery, count(4) != 1, count(6) != 0, count(8) != 0, count(10) > 2: // an OPT and a TSIG
		return query, &reply{rcode: dns.RcodeFormatError}
	}
	if err := query.Unpack(packet); err != nil || len(query.Question) != 1 {
		return &dns.Msg{MsgHdr: header(packet)}, &reply{rcode: dns.RcodeFormatError}
	}
	if refusal := checkOPT(query); refusal != nil {
		return query, refusal
	}
	if refusal := checkQuestion(query.Question[0]); refusal != nil {
		return query, refusal
	}
	if !slices.ContainsFunc(h.allow, func(p netip.Prefix) bool { return p.Contains(from.source) }) {
		return query, fail(dns.RcodeRefused, dns.ExtendedErrorCodeProhibited,
			"your address is in none of the networks of dns { allow }")
	}
	return query, nil
}

// header reads what a response repeats.
func header(packet []byte) dns.MsgHdr {
	return dns.MsgHdr{
		Id:               binary.BigEndian.Uint16(packet),
		Opcode:           int(packet[2]>>3) & 0xf,
		RecursionDesired: packet[2]&1 != 0,
		CheckingDisabled: packet[3]&0x10 != 0,
	}
}

// checkOPT holds RFC 6891 section 6.1: at most one OPT, of the root, version 0.
func checkOPT(query *dns.Msg) *reply {
	var found *dns.OPT
	for _, rr := range query.Extra {
		opt, ok := rr.(*dns.OPT)
		if !ok {
			continue
		}
		if found != nil || opt.Hdr.Name != "." {
			return &reply{rcode: dns.RcodeFormatError}
		}
		found = opt
	}
	if found != nil && found.Version() != 0 {
		return &reply{rcode: dns.RcodeBadVers}
	}
	return nil
}

// checkQuestion refuses what no zone could answer.
func checkQuestion(asked dns.Question) *reply {
	switch asked.Qtype {
	case dns.TypeAXFR, dns.TypeIXFR:
		return fail(dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, "zones are not transferred")
	case dns.TypeOPT, dns.TypeTSIG, dns.TypeNone:
		return &reply{rcode: dns.RcodeFormatError}
	case dns.TypeTKEY, dns.TypeMAILA, dns.TypeMAILB:
		return &reply{rcode: dns.RcodeNotImplemented}
	}
	if asked.Qclass != dns.ClassINET && asked.Qclass != dns.ClassANY {
		return fail(dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, "only class IN is served")
	}
	return nil
}

func newQuestion(query *dns.Msg, from client, udpSize int) *question {
	q := &question{
		name: dns.CanonicalName(query.Question[0].Name), asked: query.Question[0],
		source: from.source, workload: from.workload, udp: from.udp, query: query,
	}
	opt := query.IsEdns0()
	q.edns = opt != nil
	switch {
	case !q.udp:
		q.limit = dns.MaxMsgSize
	case q.edns:
		q.limit = max(minUDPSize, min(int(opt.UDPSize()), udpSize))
	default:
		q.limit = minUDPSize
	}
	return q
}

// answer asks the zone that the name is in.
func (h *handler) answer(ctx context.Context, q *question) (*reply, *counts) {
	one := h.routes.find(q.name)
	if one == nil {
		return fail(dns.RcodeRefused, dns.ExtendedErrorCodeNotAuthoritative,
			"this is no name of the mesh or of Consul, and nothing else is answered here"), h.refused
	}
	ctx, cancel := context.WithTimeout(ctx, deadline)
	defer cancel()
	return one.zone.answer(ctx, q), one.counts
}
