package rbac

import (
	"errors"
	"net/netip"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// source looks at the peer's address; a unix socket has none.
type source struct{ prefix netip.Prefix }

func (s source) holds(in Input) bool { return s.prefix.Contains(in.Peer.Addr.Addr().Unmap()) }

// direct looks at who made the connection.
type direct struct{ prefix netip.Prefix }

func (d direct) holds(in Input) bool {
	addr := in.Peer.Direct
	if !addr.IsValid() {
		addr = in.Peer.Addr
	}
	return d.prefix.Contains(addr.Addr().Unmap())
}

// remote looks at the client's address.
type remote struct{ prefix netip.Prefix }

func (r remote) holds(in Input) bool {
	addr := in.Remote
	if !addr.IsValid() {
		addr = in.Peer.Addr
	}
	return r.prefix.Contains(addr.Addr().Unmap())
}

// destination looks at the address that the peer connected to.
type destination struct{ prefix netip.Prefix }

func (d destination) holds(in Input) bool { return d.prefix.Contains(in.Peer.Local.Addr().Unmap()) }

// ports looks at its port.
type ports struct{ mesh.PortRange }

func (p ports) holds(in Input) bool {
	port := in.Peer.Local.Port()
	return in.Peer.Local.IsValid() && p.First <= port && port <= p.Last
}

// serverName looks at the SNI, "" if there is none.
type serverName struct{ value *match.StringMatcher }

func (s serverName) holds(in Input) bool { return s.value.Match(in.Peer.ServerName) }

// prefix is one that can be compared with unmapped addresses.
func prefix(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return p, errors.New("invalid address prefix")
	}
	return p.Masked(), nil
}
