package mesh

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"time"
)

// DNSFamily says which addresses of a name are taken (xDS: Cluster.DnsLookupFamily).
type DNSFamily uint8

// Families of addresses.
const (
	// DNSAuto takes those of IPv6, and those of IPv4 if there are none.
	DNSAuto DNSFamily = iota
	DNSv4Only
	DNSv6Only
	// DNSv4Preferred takes those of IPv4, and those of IPv6 if there are none.
	DNSv4Preferred
	DNSAll
)

// DNS is how the names of a cluster are looked up. Its zero value is Envoy's default.
type DNS struct {
	Family DNSFamily
	// Refresh is how often names are looked up; 0 means 5 s.
	Refresh time.Duration
	// Retry is how long to wait after a failure, twice as long after each further
	// one up to MaxRetry; 0 means Refresh, and ten times Retry.
	Retry, MaxRetry time.Duration
	// RespectTTL looks names up as soon as the first of their records is no longer
	// good, and not at Refresh, where records are good for a while.
	RespectTTL bool
	// Jitter is how much longer than that a lookup may hold, at random.
	Jitter time.Duration
	// NoWait does not let requests wait for the first lookup.
	NoWait bool
	// Servers are asked in place of those of the machine, one after the other.
	Servers []netip.AddrPort
	// TCP asks them by TCP only. NoSearch takes names for whole, whatever domains the
	// machine searches.
	TCP, NoSearch bool
}

// DNSName is a name of a DNS cluster, which may be an IP address.
type DNSName struct {
	Host string
	Port uint16
	// Endpoint is what each address that is found becomes, but for Address. Without
	// a Hostname it gets Host.
	Endpoint Endpoint
}

// ParseDNSName reads "host:port".
func ParseDNSName(text string) (DNSName, error) {
	host, portText, err := net.SplitHostPort(text)
	if err != nil {
		return DNSName{}, fmt.Errorf("name %q: %w", text, err)
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return DNSName{}, fmt.Errorf("name %q: port: %w", text, err)
	}
	return DNSName{Host: host, Port: uint16(port), Endpoint: Endpoint{Weight: 1}}, nil
}

// At is the endpoint of the name at its addresses, of which there is one at least.
func (n *DNSName) At(addrs ...netip.Addr) Endpoint {
	e := n.Endpoint
	if e.Hostname == "" {
		e.Hostname = n.Host
	}
	e.Address = Address{AddrPort: netip.AddrPortFrom(addrs[0], n.Port)}
	for _, addr := range addrs[1:] {
		e.Others = append(e.Others, netip.AddrPortFrom(addr, n.Port))
	}
	return e
}

// Equal tells whether both are the same name, with the same to make of it.
func (n *DNSName) Equal(other *DNSName) bool {
	return n.Host == other.Host && n.Port == other.Port && n.Endpoint.Equal(&other.Endpoint)
}
