package resource

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"

	"github.com/serai-net/serai/connect/mesh"
)

// address reads the address of a listener or endpoint. A host name comes back
// as "host:port" in name, with a zero address.
func address(a *corev3.Address) (addr mesh.Address, name string, err error) {
	switch kind := a.GetAddress().(type) {
	case *corev3.Address_Pipe:
		if kind.Pipe.GetPath() == "" {
			return addr, "", fmt.Errorf("address: unix socket without a path")
		}
		return mesh.Address{Socket: kind.Pipe.GetPath(), Mode: kind.Pipe.GetMode()}, "", nil
	case *corev3.Address_SocketAddress:
		s := kind.SocketAddress
		if s.GetProtocol() != corev3.SocketAddress_TCP {
			return addr, "", fmt.Errorf("address: protocol %s is not supported", s.GetProtocol())
		}
		if s.GetNamedPort() != "" || s.GetResolverName() != "" || s.GetNetworkNamespaceFilepath() != "" {
			return addr, "", fmt.Errorf("address: named port, resolver and network namespace are not supported")
		}
		if s.GetPortValue() > 65535 || s.GetAddress() == "" {
			return addr, "", fmt.Errorf("address: %q with port %d is none", s.GetAddress(), s.GetPortValue())
		}
		if ip, err := netip.ParseAddr(s.GetAddress()); err == nil {
			return mesh.Address{AddrPort: netip.AddrPortFrom(ip, uint16(s.GetPortValue()))}, "", nil
		}
		return addr, net.JoinHostPort(s.GetAddress(), strconv.Itoa(int(s.GetPortValue()))), nil
	default:
		return addr, "", fmt.Errorf("address: neither IP address nor unix socket")
	}
}

// prefixes reads ranges of addresses.
func prefixes(ranges []*corev3.CidrRange) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, r := range ranges {
		ip, err := netip.ParseAddr(r.GetAddressPrefix())
		if err != nil {
			return nil, fmt.Errorf("address range: %w", err)
		}
		prefix, err := ip.WithZone("").Prefix(int(r.GetPrefixLen().GetValue()))
		if err != nil {
			return nil, fmt.Errorf("address range: %w", err)
		}
		out = append(out, prefix)
	}
	return out, nil
}

func lowerAll(names []string) []string {
	var out []string
	for _, name := range names {
		out = append(out, strings.ToLower(name))
	}
	return out
}
