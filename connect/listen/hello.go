package listen

import (
	"bytes"
	"strings"
)

const (
	// defaultMaxHello is the longest ClientHello that is read, in bytes.
	defaultMaxHello = 16 << 10
	// recordHead and handshakeHead are the lengths of what stands in front of a
	// record and of a handshake message (RFC 8446 sections 5.1 and 4).
	recordHead, handshakeHead = 5, 4
	// maxRecord is the longest content of a record.
	maxRecord = 16 << 10

	typeHandshake, typeClientHello = 22, 1
	extServerName, extALPN         = 0, 16
)

// verdict is what the first bytes of a connection say.
type verdict uint8

const (
	// needMore cannot tell yet.
	needMore verdict = iota
	// isNot what is looked for.
	isNot
	// found it.
	found
	// tooLong is longer than we look.
	tooLong
)

// hello is what is read of a ClientHello.
type hello struct {
	// serverName is the SNI in lower case, "" for none.
	serverName string
	alpn       []string
}

// parseHello looks for a ClientHello at the beginning of b, also one in several
// records. What begins like one and is none is not TLS: so says Envoy, too.
func parseHello(b []byte, most int) (hello, verdict) {
	var message []byte
	for records := 1; ; records++ {
		if v := isRecord(b); v != found {
			return hello{}, v
		}
		content := b[recordHead:]
		size := int(b[3])<<8 | int(b[4])
		whole := len(content) >= size
		content = content[:min(size, len(content))]
		switch records {
		case 1:
			message = content // mostly that is all
		case 2:
			message = append(bytes.Clone(message), content...)
		default:
			message = append(message, content...)
		}
		if len(message) > 0 && message[0] != typeClientHello {
			return hello{}, isNot
		}
		if len(message) >= handshakeHead {
			length := int(message[1])<<16 | int(message[2])<<8 | int(message[3])
			switch {
			case length+handshakeHead+recordHead > most:
				return hello{}, tooLong
			case len(message) >= handshakeHead+length:
				return parseMessage(message[handshakeHead : handshakeHead+length])
			}
		}
		if !whole {
			return hello{}, needMore
		}
		b = b[recordHead+size:]
	}
}

// isRecord tells whether b begins a record of a handshake.
func isRecord(b []byte) verdict {
	switch {
	case len(b) > 0 && b[0] != typeHandshake, len(b) > 1 && b[1] != 3:
		return isNot
	case len(b) < recordHead:
		return needMore
	}
	if size := int(b[3])<<8 | int(b[4]); size == 0 || size > maxRecord {
		return isNot
	}
	return found
}

// reader takes a message apart. After a read past the end it is bad.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if n > len(r.b) {
		r.bad, r.b = true, nil
		return nil
	}
	taken := r.b[:n]
	r.b = r.b[n:]
	return taken
}

// vector takes what stands behind its length of size bytes.
func (r *reader) vector(size int) []byte {
	n := 0
	for _, b := range r.take(size) {
		n = n<<8 | int(b)
	}
	return r.take(n)
}

// parseMessage reads a ClientHello (RFC 8446 section 4.1.2).
func parseMessage(b []byte) (hello, verdict) {
	r := &reader{b: b}
	r.take(2 + 32) // version, random
	session, suites, compressions := r.vector(1), r.vector(2), r.vector(1)
	if r.bad || len(session) > 32 || len(suites) < 2 || len(suites)%2 != 0 || len(compressions) == 0 {
		return hello{}, isNot
	}
	if len(r.b) == 0 {
		return hello{}, found // without extensions
	}
	extensions := &reader{b: r.vector(2)}
	if r.bad || len(r.b) > 0 {
		return hello{}, isNot
	}
	var h hello
	for len(extensions.b) > 0 {
		head := extensions.take(2)
		body := extensions.vector(2)
		if extensions.bad {
			return hello{}, isNot
		}
		ok := true
		switch int(head[0])<<8 | int(head[1]) { // of a type there is one (RFC 8446 section 4.2)
		case extServerName:
			ok = h.serverName == ""
			if ok {
				h.serverName, ok = parseServerName(body)
			}
		case extALPN:
			ok = h.alpn == nil
			if ok {
				h.alpn, ok = parseALPN(body)
			}
		}
		if !ok {
			return hello{}, isNot
		}
	}
	return h, found
}

// parseServerName reads the list of names, which has one (RFC 6066 section 3).
func parseServerName(b []byte) (string, bool) {
	list := &reader{b: b}
	names := &reader{b: list.vector(2)}
	kind := names.take(1)
	name := names.vector(2)
	if list.bad || names.bad || len(list.b) > 0 || len(names.b) > 0 || kind[0] != 0 ||
		len(name) == 0 || len(name) > 255 || bytes.IndexByte(name, 0) >= 0 {
		return "", false
	}
	return strings.ToLower(string(name)), true
}

// parseALPN reads the names of protocols (RFC 7301 section 3.1).
func parseALPN(b []byte) ([]string, bool) {
	list := &reader{b: b}
	names := &reader{b: list.vector(2)}
	if list.bad || len(list.b) > 0 || len(names.b) == 0 {
		return nil, false
	}
	var all []string
	for len(names.b) > 0 {
		name := names.vector(1)
		if names.bad || len(name) == 0 {
			return nil, false
		}
		all = append(all, string(name))
	}
	return all, true
}
