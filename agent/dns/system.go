package dns

import (
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	"github.com/miekg/dns"
)

// resolvConf is where the system names its resolvers.
const resolvConf = "/etc/resolv.conf"

// systemResolvers reads the system's resolvers from a resolv.conf(5), without
// those that are our own listeners: when the system asks us, we must not ask
// it back.
func systemResolvers(file string, listeners []Listener) ([]netip.AddrPort, error) {
	system, err := dns.ClientConfigFromFile(file)
	if err != nil {
		return nil, fmt.Errorf("system's resolvers: %w", err)
	}
	port, err := strconv.ParseUint(system.Port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("system's resolvers: port %q in %s", system.Port, file)
	}
	local := localAddresses()
	var all []netip.AddrPort
	for _, text := range system.Servers {
		address, err := netip.ParseAddr(text)
		if err != nil {
			continue // resolv.conf(5) has addresses only, and others skip what is none
		}
		resolver := netip.AddrPortFrom(address, uint16(port))
		ours := slices.ContainsFunc(listeners, func(l Listener) bool { return isOwn(l, resolver, local) })
		if !ours && !slices.Contains(all, resolver) {
			all = append(all, resolver)
		}
	}
	return all, nil
}

// isOwn tells whether a query to a resolver would come to a listener of ours.
func isOwn(l Listener, resolver netip.AddrPort, local []netip.Addr) bool {
	at := resolver.Addr().Unmap().WithZone("")
	return reaches(l.Address, resolver) && (at == l.Address.Addr().Unmap() || at.IsLoopback() || slices.Contains(local, at))
}

// localAddresses are those of this machine's interfaces.
func localAddresses() []netip.Addr {
	found, err := net.InterfaceAddrs()
	if err != nil {
		return nil // loopback ones are known without
	}
	var all []netip.Addr
	for _, one := range found {
		if prefix, err := netip.ParsePrefix(one.String()); err == nil {
			all = append(all, prefix.Addr().Unmap())
		}
	}
	return all
}
