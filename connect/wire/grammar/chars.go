package grammar

import (
	"encoding/binary"
	"net/netip"
	"strings"
	"unsafe"
)

// LowerToken holds at each character of a token (RFC 9110 section 5.6.2) its
// lower case, and zero elsewhere.
const LowerToken = "\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00!\x00#$%&'\x00\x00*+\x00-.\x00" +
	"0123456789\x00\x00\x00\x00\x00\x00" +
	"\x00abcdefghijklmno" +
	"pqrstuvwxyz\x00\x00\x00^_" +
	"`abcdefghijklmno" +
	"pqrstuvwxyz\x00|\x00~\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00" +
	"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"

// View is b as a string that shares its memory.
func View(b []byte) string { return unsafe.String(unsafe.SliceData(b), len(b)) }

// Bytes is s as bytes that must not be written.
func Bytes(s string) []byte { return unsafe.Slice(unsafe.StringData(s), len(s)) }

// IsToken tells whether s is a token.
func IsToken(s string) bool {
	for i := range len(s) {
		if LowerToken[s[i]] == 0 {
			return false
		}
	}
	return s != ""
}

// IsName tells whether s may be written as the name of a field: a token in
// lower case, so that the connection's own fields cannot hide behind another case.
func IsName(s string) bool {
	for i := range len(s) {
		if LowerToken[s[i]] != s[i] || s[i] == 0 {
			return false
		}
	}
	return s != ""
}

// IsValue tells whether b may be the value of a field (RFC 9110 section 5.5):
// no control character but tab. It looks at eight bytes at a time.
func IsValue(b []byte) bool {
	const ones, highs = 0x0101010101010101, 0x8080808080808080
	for len(b) >= 8 {
		word := binary.LittleEndian.Uint64(b)
		del := word ^ (0x7f * ones)
		if ((word-0x20*ones)&^word|(del-ones)&^del)&highs != 0 && !plainValue(b[:8]) {
			return false
		}
		b = b[8:]
	}
	return plainValue(b)
}

func plainValue(b []byte) bool {
	for _, c := range b {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// IsTarget tells whether s may be the target of a request: visible ASCII, no
// fragment, and in its path every percent sign begins an escape.
func IsTarget(s string) bool {
	path := true
	for i := range len(s) {
		switch c := s[i]; {
		case c <= ' ' || c >= 0x7f || c == '#':
			return false
		case c == '?':
			path = false
		case c == '%' && path && (i+2 >= len(s) || !IsHex(s[i+1]) || !IsHex(s[i+2])):
			return false
		}
	}
	return s != ""
}

// IsVisible tells whether s may stand between the spaces of a request line.
func IsVisible(s string) bool {
	for i := range len(s) {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return s != ""
}

// IsHex tells whether c is a hexadecimal digit.
func IsHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

// IsAuthority tells whether s is a host with or without a port (RFC 3986
// section 3.2, without user information and percent escapes). The host may be
// empty only if all of s is.
func IsAuthority(s string) bool {
	if s == "" {
		return true
	}
	host, port, found := s, "", false
	if s[0] == '[' {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return false
		}
		if addr, err := netip.ParseAddr(s[1:end]); err != nil || !addr.Is6() || addr.Zone() != "" {
			return false
		}
		if end+1 == len(s) {
			return true
		}
		if s[end+1] != ':' {
			return false
		}
		return isPort(s[end+2:])
	}
	if host, port, found = strings.Cut(s, ":"); found && !isPort(port) || host == "" {
		return false
	}
	for i := range len(host) {
		if !isHostByte(host[i]) {
			return false
		}
	}
	return true
}

func isPort(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return len(s) <= 5
}

// isHostByte tells whether c is unreserved or a sub-delimiter.
func isHostByte(c byte) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return true
	}
	return strings.IndexByte("-._~!$&'()*+,;=", c) >= 0
}

// Trim cuts spaces and tabs off both ends.
func Trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
