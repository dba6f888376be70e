package listen

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/serai-net/serai/connect/mesh"
)

// portNode is a branch by a port; rest is for all others.
type portNode struct {
	ports map[uint16]node
	rest  node
	of    func(a *Arrival) uint16
}

func (n *portNode) find(a *Arrival) *Chain {
	if below, ok := n.ports[n.of(a)]; ok {
		return descend(below, a)
	}
	return descend(n.rest, a)
}

func byPort(rules []*Entry, below []level) (node, error) {
	ports, rest, err := grouped(rules, func(m *mesh.ChainMatch) []uint16 {
		if m.DestinationPort == 0 {
			return nil
		}
		return []uint16{m.DestinationPort}
	}, below)
	return &portNode{ports, rest, func(a *Arrival) uint16 { return a.Peer.Local.Port() }}, err
}

func bySourcePort(rules []*Entry, below []level) (node, error) {
	ports, rest, err := grouped(rules, func(m *mesh.ChainMatch) []uint16 { return m.SourcePorts }, below)
	return &portNode{ports, rest, func(a *Arrival) uint16 { return a.Peer.Addr.Port() }}, err
}

// prefixNode is a branch by the longest prefix of an address. It looks the address
// up once for each length that occurs.
type prefixNode struct {
	prefixes map[netip.Prefix]node
	// bits are the lengths that occur, of IPv4 and of IPv6, the longest first.
	bits [2][]int
	rest node
	of   func(a *Arrival) netip.Addr
}

func (n *prefixNode) find(a *Arrival) *Chain {
	addr := n.of(a).Unmap().WithZone("")
	if addr.IsValid() {
		for _, bits := range n.bits[family(addr)] {
			prefix, err := addr.Prefix(bits)
			if err != nil {
				continue
			}
			if below, ok := n.prefixes[prefix]; ok {
				return descend(below, a)
			}
		}
	}
	return descend(n.rest, a)
}

func family(addr netip.Addr) int {
	if addr.Is4() {
		return 0
	}
	return 1
}

func byPrefix(keys func(*mesh.ChainMatch) []netip.Prefix, of func(*Arrival) netip.Addr) func([]*Entry, []level) (node, error) {
	return func(rules []*Entry, below []level) (node, error) {
		prefixes, rest, err := grouped(rules, func(m *mesh.ChainMatch) []netip.Prefix {
			all := slices.Clone(keys(m))
			for i := range all {
				all[i] = all[i].Masked()
			}
			return all
		}, below)
		n := &prefixNode{prefixes: prefixes, rest: rest, of: of}
		for prefix := range prefixes {
			bits := &n.bits[family(prefix.Addr())]
			if !slices.Contains(*bits, prefix.Bits()) {
				*bits = append(*bits, prefix.Bits())
			}
		}
		for i := range n.bits {
			slices.Sort(n.bits[i])
			slices.Reverse(n.bits[i])
		}
		return n, err
	}
}

// nameNode is a branch by server name: the name itself, then the longest suffix.
type nameNode struct {
	// names are exact ones, and suffixes with their dot in front.
	names map[string]node
	rest  node
}

func (n *nameNode) find(a *Arrival) *Chain {
	name := a.ServerName
	if below, ok := n.names[name]; ok && name != "" {
		return descend(below, a)
	}
	// A name of any depth has the suffix; the suffix itself has not.
	for at := 1; at < len(name); at++ {
		dot := strings.IndexByte(name[at:], '.')
		if dot < 0 || at+dot == len(name)-1 {
			break
		}
		at += dot
		if below, ok := n.names[name[at:]]; ok {
			return descend(below, a)
		}
	}
	return descend(n.rest, a)
}

func byName(rules []*Entry, below []level) (node, error) {
	names, _, err := grouped(rules, func(m *mesh.ChainMatch) []string {
		all := slices.Clone(m.ServerNames)
		for i := range all {
			all[i] = strings.TrimPrefix(all[i], "*")
		}
		if len(all) == 0 {
			all = append(all, "") // which some write in so many words
		}
		return all
	}, below)
	return &nameNode{names, names[""]}, err
}

// transportNode is a branch by what a connection was seen to be.
type transportNode struct {
	transports map[string]node
	rest       node
}

func (n *transportNode) find(a *Arrival) *Chain {
	transport := a.Transport
	if transport == "" {
		transport = mesh.TransportRaw
	}
	if below, ok := n.transports[transport]; ok {
		return descend(below, a)
	}
	return descend(n.rest, a)
}

func byTransport(rules []*Entry, below []level) (node, error) {
	transports, rest, err := grouped(rules, func(m *mesh.ChainMatch) []string {
		if m.Transport == "" {
			return nil
		}
		return []string{m.Transport}
	}, below)
	return &transportNode{transports, rest}, err
}

// alpnNode is a branch by the first of the client's protocols that has one.
type alpnNode struct {
	protocols map[string]node
	rest      node
}

func (n *alpnNode) find(a *Arrival) *Chain {
	for _, protocol := range a.ALPN {
		if below, ok := n.protocols[protocol]; ok {
			return descend(below, a)
		}
	}
	return descend(n.rest, a)
}

func byALPN(rules []*Entry, below []level) (node, error) {
	protocols, rest, err := grouped(rules, func(m *mesh.ChainMatch) []string { return m.ALPN }, below)
	return &alpnNode{protocols, rest}, err
}

// sourceNode is a branch by where the peer is.
type sourceNode struct {
	types map[mesh.SourceType]node
	rest  node
}

func (n *sourceNode) find(a *Arrival) *Chain {
	at := mesh.ExternalSource
	if isLocal(a) {
		at = mesh.LocalSource
	}
	if below, ok := n.types[at]; ok {
		return descend(below, a)
	}
	return descend(n.rest, a)
}

// isLocal tells whether the peer is on this machine: what has no IP address is a
// unix socket. Of 127.0.0.0/8 only the first address counts, as with Envoy.
func isLocal(a *Arrival) bool {
	peer := a.Peer.Addr.Addr()
	return !peer.IsValid() || peer == a.Peer.Local.Addr() || peer == netip.AddrFrom4([4]byte{127, 0, 0, 1}) || peer == netip.IPv6Loopback()
}

func bySourceType(rules []*Entry, below []level) (node, error) {
	types, rest, err := grouped(rules, func(m *mesh.ChainMatch) []mesh.SourceType {
		if m.SourceType == mesh.AnySource {
			return nil
		}
		return []mesh.SourceType{m.SourceType}
	}, below)
	return &sourceNode{types, rest}, err
}
