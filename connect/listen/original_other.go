//go:build !linux

package listen

import (
	"errors"
	"net/netip"
	"syscall"
)

// errNoOriginal says that a socket has no address before a redirect.
var errNoOriginal = errors.New("no original destination: this needs Linux")

func originalDst(syscall.Conn, bool) (netip.AddrPort, error) { return netip.AddrPort{}, errNoOriginal }
