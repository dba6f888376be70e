package dns

import (
	"errors"
	"net"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// packet is the memory for one query and its response.
type packet struct {
	query, response [maxQuery]byte
}

// pause is how long a socket rests that cannot be read; it heals.
const pause = 5 * time.Millisecond

// readPackets answers queries by UDP, each in a goroutine of its own, until the
// socket is drained.
func (l *listener) readPackets() {
	pool := sync.Pool{New: func() any { return &packet{} }}
	for {
		p, _ := pool.Get().(*packet)
		n, session, err := dns.ReadFromSessionUDP(l.udp, p.query[:])
		if err != nil {
			if errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, net.ErrClosed) {
				return
			}
			l.server.log.Error("read dns packet", "listener", l.spec.Load().Name, "err", err)
			select {
			case <-time.After(pause):
			case <-l.work.Done():
			}
			continue
		}
		if !l.server.enter() {
			pool.Put(p)
			continue
		}
		l.working.Go(func() {
			defer l.server.leave()
			l.answerPacket(p, n, session)
			pool.Put(p)
		})
	}
}

func (l *listener) answerPacket(p *packet, n int, session *dns.SessionUDP) {
	l.server.udp.Add(1)
	from := client{source: addressOf(session.RemoteAddr()), workload: l.spec.Load().Workload, udp: true}
	response := l.server.handler.Load().handle(l.work, p.query[:n], from, p.response[:])
	if response == nil {
		return
	}
	if _, err := dns.WriteToSessionUDP(l.udp, response, session); err != nil {
		l.server.log.Debug("dns response not sent", "to", session.RemoteAddr().String(), "err", err)
	}
}

// addressOf is the address that a packet or connection comes from.
func addressOf(addr net.Addr) netip.Addr {
	switch one := addr.(type) {
	case *net.UDPAddr:
		return one.AddrPort().Addr().Unmap().WithZone("")
	case *net.TCPAddr:
		return one.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}
