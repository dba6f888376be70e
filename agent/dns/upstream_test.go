package dns_test

import (
	"net"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	mdns "github.com/miekg/dns"

	"github.com/serai-net/serai/agent/dns"
)

// upstream is a resolver of the test, at one port by UDP and TCP.
type upstream struct {
	address  netip.AddrPort
	udp, tcp atomic.Int64 // queries
}

// serve makes a resolver that answers as f says; nil is no answer.
func serve(t *testing.T, f func(q *mdns.Msg, network string) *mdns.Msg) *upstream {
	t.Helper()
	var listener net.Listener
	var packets net.PacketConn
	waitFor(t, "a port that is free by UDP and TCP", func() bool {
		var err error
		if listener, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
			return false
		}
		if packets, err = net.ListenPacket("udp", listener.Addr().String()); err != nil {
			listener.Close()
		}
		return err == nil
	})
	u := &upstream{address: netip.MustParseAddrPort(listener.Addr().String())}
	for network, server := range map[string]*mdns.Server{"tcp": {Listener: listener}, "udp": {PacketConn: packets, UDPSize: 4096}} {
		server.Handler = mdns.HandlerFunc(func(w mdns.ResponseWriter, q *mdns.Msg) {
			if network == "tcp" {
				u.tcp.Add(1)
			} else {
				u.udp.Add(1)
			}
			if m := f(q, network); m != nil {
				_ = w.WriteMsg(m)
			}
		})
		started, ended := make(chan struct{}), make(chan struct{})
		server.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(ended); _ = server.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = server.Shutdown(); <-ended })
	}
	return u
}

// says is an answer with one A record.
func says(q *mdns.Msg, address string) *mdns.Msg {
	m := new(mdns.Msg).SetReply(q)
	m.RecursionAvailable = true
	m.Answer = []mdns.RR{&mdns.A{
		Hdr: mdns.RR_Header{Name: q.Question[0].Name, Rrtype: mdns.TypeA, Class: mdns.ClassINET, Ttl: 60}, A: net.ParseIP(address),
	}}
	return m
}

// rcode is an answer without records.
func rcode(q *mdns.Msg, rcode int) *mdns.Msg { return new(mdns.Msg).SetRcode(q, rcode) }

// forwarding makes a server with resolvers.
func forwarding(t *testing.T, resolvers ...*upstream) *dns.Server {
	t.Helper()
	return newServer(t, newMemory(), func(c *dns.Config) {
		c.Recursion, c.ForwardTimeout = nil, 2*time.Second // in which who is there has answered
		for _, one := range resolvers {
			c.Resolvers = append(c.Resolvers, one.address)
		}
	})
}

// dead is a port that nobody answers at.
func dead(t *testing.T) *upstream {
	t.Helper()
	return serve(t, func(*mdns.Msg, string) *mdns.Msg { return nil })
}

// closed is a port that nobody is at.
func closed(t *testing.T) *upstream {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	return &upstream{address: netip.MustParseAddrPort(conn.LocalAddr().String())}
}
