package listen

import (
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Options by which netfilter tells where a connection went before its rules changed
// that (linux/netfilter_ipv4.h, linux/netfilter_ipv6/ip6_tables.h).
const (
	soOriginalDst     = 80
	ip6tSoOriginalDst = 80
)

// originalDst is the address that a TCP connection went to before a redirect.
func originalDst(conn syscall.Conn, v4 bool) (netip.AddrPort, error) {
	raw, err := conn.SyscallConn()
	if err != nil {
		return netip.AddrPort{}, err
	}
	var found netip.AddrPort
	err2 := raw.Control(func(fd uintptr) {
		if v4 {
			found, err = originalV4(int(fd))
		} else {
			found, err = originalV6(int(fd))
		}
	})
	return found, errors.Join(err, err2)
}

func originalV4(fd int) (netip.AddrPort, error) {
	// The kernel writes a sockaddr_in, which has the size of what this call reads.
	got, err := unix.GetsockoptIPv6Mreq(fd, unix.IPPROTO_IP, soOriginalDst)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("SO_ORIGINAL_DST: %w", err)
	}
	b := got.Multiaddr
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte(b[4:8])), uint16(b[2])<<8|uint16(b[3])), nil
}

func originalV6(fd int) (netip.AddrPort, error) {
	// Here it is a sockaddr_in6, as at the beginning of this one.
	got, err := unix.GetsockoptIPv6MTUInfo(fd, unix.IPPROTO_IPV6, ip6tSoOriginalDst)
	if err != nil {
		return netip.AddrPort{}, fmt.Errorf("IP6T_SO_ORIGINAL_DST: %w", err)
	}
	port := (*[2]byte)(unsafe.Pointer(&got.Addr.Port)) // in the order of the network
	return netip.AddrPortFrom(netip.AddrFrom16(got.Addr.Addr), uint16(port[0])<<8|uint16(port[1])), nil
}
