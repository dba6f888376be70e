package listen

import (
	"bytes"
	"slices"
	"strings"
)

const (
	// maxLine is how long a request line is looked at, in bytes.
	maxLine = 8 << 10
	// preface begins a connection of HTTP/2 without TLS (RFC 9113 section 3.4).
	preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
)

// Application protocols that http_inspector sees.
const (
	protoHTTP10 = "http/1.0"
	protoHTTP11 = "http/1.1"
	protoH2C    = "h2c"
)

// sniffHTTP looks for the first line of a request at the beginning of b, or the
// preface of HTTP/2, and tells the protocol.
func sniffHTTP(b []byte) (protocol string, v verdict) {
	if len(b) == 0 {
		return "", needMore
	}
	if head := b[:min(len(b), len(preface))]; strings.HasPrefix(preface, string(head)) {
		if len(head) < len(preface) {
			return "", needMore
		}
		return protoH2C, found
	}
	end := bytes.IndexAny(b, "\r\n")
	line := b
	if end >= 0 {
		line = b[:end]
	}
	method, rest, spaced := bytes.Cut(line, []byte{' '})
	switch {
	case !spaced && end < 0:
		if beginsMethod(string(method)) {
			return "", needMore
		}
		return "", isNot
	case !spaced, !slices.Contains(methods(), string(method)):
		return "", isNot
	}
	target, version, spaced := bytes.Cut(rest, []byte{' '})
	if bytes.ContainsFunc(target, func(r rune) bool { return r < ' ' || r == 0x7f }) || spaced && len(target) == 0 {
		return "", isNot
	}
	if end < 0 {
		if len(b) >= maxLine || spaced && !beginsVersion(version) {
			return "", isNot
		}
		return "", needMore
	}
	switch {
	case string(version) == "HTTP/1.1":
		return protoHTTP11, found
	case !spaced, len(version) == len("HTTP/1.0") && beginsVersion(version):
		return protoHTTP10, found // what Envoy calls all others, also none
	}
	return "", isNot
}

// beginsVersion tells whether b is a version of HTTP, or the beginning of one.
func beginsVersion(b []byte) bool {
	const form = "HTTP/0.0"
	if len(b) > len(form) {
		return false
	}
	for i, c := range b {
		if digit := form[i] == '0'; digit && (c < '0' || c > '9') || !digit && c != form[i] {
			return false
		}
	}
	return true
}

func beginsMethod(b string) bool {
	return slices.ContainsFunc(methods(), func(method string) bool { return strings.HasPrefix(method, b) })
}

// methods are those that Envoy's inspector knows; what begins otherwise is no HTTP
// to it.
func methods() []string {
	return []string{
		"GET", "POST", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "CONNECT", "TRACE",
		"ACL", "BIND", "CHECKOUT", "COPY", "LINK", "LOCK", "MERGE", "MKACTIVITY", "MKCALENDAR", "MKCOL", "MOVE", "MSEARCH",
		"M-SEARCH", "NOTIFY", "PROPFIND", "PROPPATCH", "PURGE", "REBIND", "REPORT", "SEARCH", "SOURCE", "SUBSCRIBE",
		"UNBIND", "UNLINK", "UNLOCK", "UNSUBSCRIBE",
	}
}
