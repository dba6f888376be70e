package dns

import (
	"context"
	"net/netip"

	"github.com/miekg/dns"
)

// Handle is what a packet gets for an answer, without sockets.
func (s *Server) Handle(ctx context.Context, packet []byte, source netip.Addr, workload string, udp bool, buffer []byte) []byte {
	return s.handler.Load().handle(ctx, packet, client{source: source.Unmap(), workload: workload, udp: udp}, buffer)
}

// SystemResolvers reads a resolv.conf.
func SystemResolvers(file string, listeners []Listener) ([]netip.AddrPort, error) {
	return systemResolvers(file, listeners)
}

// AnswerTo tells whether a packet is taken for the answer to a query.
func AnswerTo(sent *dns.Msg, packet []byte) (*dns.Msg, error) { return answerTo(sent, packet) }
