package rbac

import (
	"errors"
	"net/netip"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
)

// source looks at the peer's address; a unix socket has none.
type source struct{ prefix netip.Prefix }

func (s source) holds(in Input) bool { return contains(s.prefix, in.Peer.Addr) }

// direct looks at who made the connection.
type direct struct{ prefix netip.Prefix }

func (d direct) holds(in Input) bool {
	addr := in.Peer.Direct
	if !addr.IsValid() {
		addr = in.Peer.Addr
	}
	return contains(d.prefix, addr)
}

// remote looks at the client's address.
type remote struct{ prefix netip.Prefix }

func (r remote) holds(in Input) bool {
	addr := in.Remote
	if !addr.IsValid() {
		addr = in.Peer.Addr
	}
	return contains(r.prefix, addr)
}

// destination looks at the address that the peer connected to.
type destination struct{ prefix netip.Prefix }

func (d destination) holds(in Input) bool { return contains(d.prefix, in.Peer.Local) }

// ports looks at its port.
type ports struct{ mesh.PortRange }

func (p ports) holds(in Input) bool {
	port := in.Peer.Local.Port()
	return in.Peer.Local.IsValid() && p.First <= port && port <= p.Last
}

// serverName looks at the SNI, "" if there is none.
type serverName struct{ value *match.StringMatcher }

func (s serverName) holds(in Input) bool { return s.value.Match(in.Peer.ServerName) }

// contains compares addresses as Envoy does, by their bits: the zone of a link-local one,
// which no prefix of package netip contains, is of this machine only.
func contains(prefix netip.Prefix, addr netip.AddrPort) bool {
	return prefix.Contains(addr.Addr().Unmap().WithZone(""))
}

// prefix is one that can be compared with unmapped addresses.
func prefix(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return p, errors.New("invalid address prefix")
	}
	return p.Masked(), nil
}
