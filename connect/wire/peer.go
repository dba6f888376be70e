package wire

import (
	"crypto/x509"
	"net"
	"net/netip"
	"sync/atomic"

	"github.com/serai-net/serai/connect/spiffe"
)

// Peer is what is known of the other end of a connection: of a client, or of an
// endpoint (see [Attempt]). It is shared by all exchanges of the connection and does
// not change.
type Peer struct {
	// Addr is the peer's address; invalid for a unix socket.
	Addr netip.AddrPort
	// Direct is the address of who made the connection, if it said on whose behalf
	// (a PROXY protocol header), which Addr is then; else it is invalid.
	Direct netip.AddrPort
	// Local is the address that the peer connected to. Restored says that it is not
	// that of our socket: the system knows it from before a redirect, or a header of
	// the PROXY protocol told it.
	Local    netip.AddrPort
	Restored bool
	// ID is the verified SPIFFE identity of a client; zero without mTLS.
	ID spiffe.ID
	// Certificate is the verified leaf certificate; nil without mTLS.
	Certificate *x509.Certificate
	// Chain is all that the peer has shown, Certificate first. Ours is what we have
	// shown; nil without TLS, or if it is not known.
	Chain []*x509.Certificate
	Ours  *x509.Certificate
	// TLS says that the connection is encrypted; ServerName is its SNI.
	TLS        bool
	ServerName string
	// Version and Cipher are those of TLS, as crypto/tls numbers them; 0 without.
	Version, Cipher uint16
	// Number tells connections with clients apart, or those with endpoints; 0 is none.
	Number uint64

	host     atomic.Pointer[string]
	requests atomic.Uint32
}

// CountRequest counts a request of the connection, and returns how many there have
// been. It is safe for concurrent use.
func (p *Peer) CountRequest() uint32 { return p.requests.Add(1) }

// Host is the IP of Addr as text, an IPv4 one never as IPv6; "" for a unix
// socket. It is made once. It is safe for concurrent use.
func (p *Peer) Host() string {
	if host := p.host.Load(); host != nil {
		return *host
	}
	host := ""
	if address := p.Addr.Addr(); address.IsValid() {
		host = address.Unmap().String()
	}
	p.host.Store(&host)
	return host
}

// Scheme is "https" for an encrypted connection, else "http".
func (p *Peer) Scheme() string {
	if p.TLS {
		return "https"
	}
	return "http"
}

// AddrPort is an address of package net, an IPv4 one never as IPv6; invalid for a
// unix socket.
func AddrPort(addr net.Addr) netip.AddrPort {
	if tcp, ok := addr.(*net.TCPAddr); ok {
		a := tcp.AddrPort()
		return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
	}
	return netip.AddrPort{}
}
