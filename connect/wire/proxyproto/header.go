// Package proxyproto reads and writes the header of the PROXY protocol, versions 1
// and 2, by which a proxy in front tells who its client is
// (https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt).
//
// It reads not one byte past the header, so the connection stays the socket that
// it is. A header is refused as a whole: an address that cannot be believed is no
// address.
//
// # Alternatives not taken
//
// github.com/pires/go-proxyproto: it wraps the connection for its life, which takes
// the socket from TLS and splice, and accepts any length that fits into 16 bits.
package proxyproto

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
	"net/netip"
	"strconv"
)

// Versions of the protocol.
const (
	V1 = 1
	V2 = 2
)

const (
	// maxV1 is the longest line of version 1, with CRLF.
	maxV1 = 107
	// headV2 is what comes before addresses and TLVs, maxV2 bounds all of it.
	headV2, maxV2 = 16, 4 << 10
	// signature begins version 2.
	signature = "\r\n\r\n\x00\r\nQUIT\n"
	prefixV1  = "PROXY "
)

// Commands, families and types of version 2.
const (
	commandLocal, commandProxy = 0x20, 0x21
	unspecified                = 0x00
	tcp4, tcp6, unixStream     = 0x11, 0x21, 0x31
	sizeTCP4, sizeTCP6         = 12, 36
	sizeUnix                   = 216
	typeCRC32C                 = 0x03
)

// Header is what a header says.
type Header struct {
	// Source is the client, Destination the address that it called. Both are
	// invalid if the proxy speaks for itself (LOCAL, as in a health check) or says
	// nothing that could be used (UNKNOWN, unspecified, unix sockets): then the
	// addresses of the connection count.
	Source, Destination netip.AddrPort
}

// Errors of headers.
var (
	// ErrNone says that there is no header.
	ErrNone      = errors.New("no PROXY protocol header")
	errMalformed = errors.New("PROXY protocol header is malformed")
	errTooLong   = errors.New("PROXY protocol header is too long")
	errChecksum  = errors.New("PROXY protocol header has a wrong checksum")
)

// parseV1 reads a line without its CRLF.
func parseV1(line string) (Header, error) {
	line = line[len(prefixV1):]
	if line == "UNKNOWN" || len(line) > 7 && line[:8] == "UNKNOWN " {
		return Header{}, nil
	}
	var fields [5]string
	for i := range fields {
		end := len(line)
		for j := range len(line) {
			if line[j] == ' ' {
				end = j
				break
			}
		}
		fields[i] = line[:end]
		if i < len(fields)-1 {
			if end == len(line) {
				return Header{}, errMalformed
			}
			line = line[end+1:]
		} else if end != len(line) {
			return Header{}, errMalformed
		}
	}
	six := fields[0] == "TCP6"
	if !six && fields[0] != "TCP4" {
		return Header{}, errMalformed
	}
	source, ok := addrPort(six, fields[1], fields[3])
	destination, too := addrPort(six, fields[2], fields[4])
	if !ok || !too {
		return Header{}, errMalformed
	}
	return Header{Source: source, Destination: destination}, nil
}

func addrPort(six bool, address, port string) (netip.AddrPort, bool) {
	addr, err := netip.ParseAddr(address)
	if err != nil || addr.Is6() != six || addr.Zone() != "" || len(port) > 1 && port[0] == '0' {
		return netip.AddrPort{}, false
	}
	for _, digit := range []byte(port) { // no sign
		if digit < '0' || digit > '9' {
			return netip.AddrPort{}, false
		}
	}
	n, err := strconv.ParseUint(port, 10, 16)
	return netip.AddrPortFrom(addr.Unmap(), uint16(n)), err == nil
}

// sizeV2 is the length of a header of which b is the beginning.
func sizeV2(b []byte) (int, error) {
	size := headV2 + int(binary.BigEndian.Uint16(b[14:]))
	if size > maxV2 {
		return 0, errTooLong
	}
	if b[12] != commandLocal && b[12] != commandProxy {
		return 0, errMalformed
	}
	return size, nil
}

// parseV2 reads a whole header.
func parseV2(b []byte) (Header, error) {
	if b[12] == commandLocal {
		return Header{}, nil
	}
	rest := b[headV2:]
	var h Header
	var used int
	switch b[13] {
	case unspecified:
		return Header{}, nil
	case tcp4:
		used = sizeTCP4
		if len(rest) >= used {
			h = addresses(rest, 4)
		}
	case tcp6:
		used = sizeTCP6
		if len(rest) >= used {
			h = addresses(rest, 16)
		}
	case unixStream:
		used = sizeUnix
	default:
		return Header{}, errMalformed
	}
	if len(rest) < used {
		return Header{}, errMalformed
	}
	return h, checkTLVs(b, headV2+used)
}

func addresses(b []byte, size int) Header {
	read := func(b []byte) netip.Addr {
		addr, _ := netip.AddrFromSlice(b[:size])
		return addr.Unmap()
	}
	ports := b[2*size:]
	return Header{
		Source:      netip.AddrPortFrom(read(b), binary.BigEndian.Uint16(ports)),
		Destination: netip.AddrPortFrom(read(b[size:]), binary.BigEndian.Uint16(ports[2:])),
	}
}

// checkTLVs checks what follows the addresses: that it is whole, and the checksum
// if there is one. It clears the checksum.
func checkTLVs(b []byte, at int) error {
	for at < len(b) {
		if len(b)-at < 3 {
			return errMalformed
		}
		kind, size := b[at], int(binary.BigEndian.Uint16(b[at+1:]))
		at += 3
		if size > len(b)-at {
			return errMalformed
		}
		if kind == typeCRC32C {
			if size != 4 {
				return errMalformed
			}
			want := binary.BigEndian.Uint32(b[at:])
			clear(b[at : at+4])
			if crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) != want {
				return errChecksum
			}
		}
		at += size
	}
	return nil
}

// Append appends h in a version to b. Where both addresses are not of the network
// protocol, or one is missing, it says that nothing is known, or LOCAL.
func (h Header) Append(b []byte, version int) []byte {
	source, destination := h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	known := source.IsValid() && destination.IsValid()
	four := known && source.Is4() && destination.Is4()
	if version == V1 {
		return h.appendV1(b, known, four)
	}
	b = append(b, signature...)
	switch {
	case !known:
		return append(b, commandLocal, unspecified, 0, 0)
	case four:
		b = append(b, commandProxy, tcp4, 0, sizeTCP4)
		b = append(append(b, source.AsSlice()...), destination.AsSlice()...)
	default:
		b = append(b, commandProxy, tcp6, 0, sizeTCP6)
		s, d := source.As16(), destination.As16()
		b = append(append(b, s[:]...), d[:]...)
	}
	b = binary.BigEndian.AppendUint16(b, h.Source.Port())
	return binary.BigEndian.AppendUint16(b, h.Destination.Port())
}

func (h Header) appendV1(b []byte, known, four bool) []byte {
	b = append(b, prefixV1...)
	if !known {
		return append(b, "UNKNOWN\r\n"...)
	}
	source, destination := h.Source.Addr().Unmap(), h.Destination.Addr().Unmap()
	kind := "TCP4 "
	if !four {
		kind = "TCP6 "
		source, destination = netip.AddrFrom16(source.As16()), netip.AddrFrom16(destination.As16())
	}
	b = append(b, kind...)
	b = append(source.WithZone("").AppendTo(b), ' ')
	b = append(destination.WithZone("").AppendTo(b), ' ')
	b = append(strconv.AppendUint(b, uint64(h.Source.Port()), 10), ' ')
	b = strconv.AppendUint(b, uint64(h.Destination.Port()), 10)
	return append(b, "\r\n"...)
}
