package upstream

import (
	"context"
	"encoding/binary"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/serai-net/serai/connect/mesh"
)

// nameservers are asked for one round of lookups where a cluster says how: by its
// own servers, by TCP, or with an ear for how long answers are good. The resolver is
// Go's own; we stand between it and its connections.
type nameservers struct {
	dns  *mesh.DNS
	turn atomic.Uint32
	// ttl is the least of all answers in seconds, and one more, so that 0 is none.
	ttl atomic.Uint64
}

// plain tells whether names are looked up as the machine does.
func plain(dns *mesh.DNS) bool { return !dns.RespectTTL && !dns.TCP && len(dns.Servers) == 0 }

// lookup is what names are looked up by.
func (n *nameservers) lookup() lookup {
	return (&net.Resolver{PreferGo: true, Dial: n.dial}).LookupNetIP
}

// good is how long what was found is; 0 if nobody has said.
func (n *nameservers) good() time.Duration {
	if n == nil {
		return 0
	}
	return time.Duration(max(n.ttl.Load(), 1)-1) * time.Second
}

func (n *nameservers) dial(ctx context.Context, network, address string) (net.Conn, error) {
	if all := n.dns.Servers; len(all) > 0 {
		address = all[int(n.turn.Add(1)-1)%len(all)].String()
	}
	if n.dns.TCP {
		network = "tcp"
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, network, address)
	if err != nil || !n.dns.RespectTTL {
		return conn, err
	}
	if packets, ok := conn.(*net.UDPConn); ok {
		return &heardPackets{packets, n}, nil
	}
	return &heardStream{Conn: conn, servers: n}, nil
}

// hear notes how long the records of an answer are good.
func (n *nameservers) hear(message []byte) {
	var p dnsmessage.Parser
	if head, err := p.Start(message); err != nil || !head.Response || head.RCode != dnsmessage.RCodeSuccess || p.SkipAllQuestions() != nil {
		return
	}
	for {
		head, err := p.AnswerHeader()
		if err != nil {
			return
		}
		switch head.Type {
		case dnsmessage.TypeA, dnsmessage.TypeAAAA, dnsmessage.TypeCNAME:
			n.least(uint64(head.TTL) + 1)
		default:
		}
		if p.SkipAnswer() != nil {
			return
		}
	}
}

func (n *nameservers) least(ttl uint64) {
	for {
		old := n.ttl.Load()
		if old != 0 && old <= ttl || n.ttl.CompareAndSwap(old, ttl) {
			return
		}
	}
}

// heardPackets hears answers, each of which is one packet.
type heardPackets struct {
	*net.UDPConn
	servers *nameservers
}

func (c *heardPackets) Read(p []byte) (int, error) {
	n, err := c.UDPConn.Read(p)
	c.servers.hear(p[:n])
	return n, err
}

// heardStream hears answers, each of which stands behind its length.
type heardStream struct {
	net.Conn
	servers *nameservers
	got     []byte
}

func (c *heardStream) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.got = append(c.got, p[:n]...)
	for len(c.got) >= 2 {
		size := 2 + int(binary.BigEndian.Uint16(c.got))
		if len(c.got) < size {
			break
		}
		c.servers.hear(c.got[2:size])
		c.got = c.got[size:]
	}
	return n, err
}
