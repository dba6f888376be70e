package http1

import (
	"bytes"
	"strings"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// limits bound what one head or one block of trailers may be.
type limits struct {
	bytes, fields int
}

// headEnd returns the length of the head that b begins with, its empty line
// included, or 0 if it is not complete. The first seen bytes were looked at
// before, when there were no more.
func headEnd(b []byte, seen int) int {
	from := max(0, seen-3)
	if i := bytes.Index(b[from:], []byte("\r\n\r\n")); i >= 0 {
		return from + i + 4
	}
	return 0
}

// checkLines looks for a bare LF in b, the beginning of a head of which seen
// bytes were looked at before, so that such a head is refused and not waited for.
func checkLines(b []byte, seen int) problem {
	for at := seen; ; at++ {
		i := bytes.IndexByte(b[at:], '\n')
		if i < 0 {
			return 0
		}
		if at += i; at == 0 || b[at-1] != '\r' {
			return errBareLF
		}
	}
}

// lines walks over the field lines of a block that ends in an empty line.
type lines struct {
	rest []byte
}

// next returns one field, its name in lower case (rewritten in place), and no
// name at the end. The strings are views of the block.
func (l *lines) next() (name, value string, p problem) {
	b := l.rest
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		l.rest = b[2:]
		return "", "", 0
	}
	i := 0
	for ; i < len(b); i++ {
		c := grammar.LowerToken[b[i]]
		if c == 0 {
			break
		}
		b[i] = c
	}
	if i == 0 || i == len(b) || b[i] != ':' {
		return "", "", errBadName
	}
	end := bytes.IndexByte(b[i:], '\n') + i
	if end <= i || b[end-1] != '\r' {
		return "", "", errBareLF
	}
	raw := grammar.Trim(b[i+1 : end-1])
	if !grammar.IsValue(raw) {
		return "", "", errBadValue
	}
	l.rest = b[end+1:]
	return grammar.View(b[:i]), grammar.View(raw), 0
}

// framing is what the fields of a head say of its connection and of the body.
// The strings are views of the head.
type framing struct {
	length           int64 // Content-Length, wire.UnknownLength without
	chunked          bool  // Transfer-Encoding: chunked
	closing, keeping bool  // Connection: close, keep-alive
	upgrading        bool  // Connection: upgrade
	upgrade          string
	host             string
	hosts            int
	expect           string

	// options are the values of Connection, named is how many fields they name.
	options     [4]string
	optionCount int
	named       int
}

// maxNamed bounds the fields that Connection may name: each is looked for among all.
const maxNamed = 64

// parseFields reads the field lines of block into header and f.
func parseFields(block []byte, lim limits, header *wire.Header, f *framing) problem {
	*f = framing{length: wire.UnknownLength}
	in := lines{rest: block}
	for count := 0; ; count++ {
		name, value, p := in.next()
		switch {
		case p != 0:
			return p
		case name == "":
			if len(in.rest) != 0 {
				return errBadName
			}
			f.dropNamed(header)
			if f.chunked && f.length >= 0 {
				return errLengthAndEncoding
			}
			return 0
		case count >= lim.fields:
			return errTooManyFields
		}
		if p = f.take(header, name, value); p != 0 {
			return p
		}
	}
}

// take puts one field in its place: into f if it is the connection's own,
// otherwise into header.
func (f *framing) take(header *wire.Header, name, value string) problem {
	switch name {
	case "host":
		f.host = value
		f.hosts++
	case "content-length":
		if f.length >= 0 {
			return errBadLength
		}
		if f.length = grammar.Length(value); f.length < 0 {
			return errBadLength
		}
	case "transfer-encoding":
		switch {
		case f.chunked:
			return errBadEncoding
		case strings.EqualFold(value, "chunked"):
		case grammar.HasToken(value, "chunked") && !strings.HasSuffix(strings.ToLower(value), "chunked"):
			return errBadEncoding // not the last one (RFC 9112 section 6.3)
		default:
			return errUnknownEncoding
		}
		f.chunked = true
	case "connection":
		return f.connection(value)
	case "upgrade":
		if f.upgrade == "" {
			f.upgrade = value
		}
	case "te":
		if grammar.HasToken(value, "trailers") && !header.Has("te") {
			header.Add("te", "trailers")
		}
	case "expect":
		f.expect = value
	case "trailer":
		if !grammar.MayAnnounce(value) {
			return errBadTrailer
		}
		header.Add(name, value)
	case "keep-alive", "proxy-connection", "http2-settings":
	default:
		header.Add(name, value)
	}
	return 0
}

// connection reads the options of one Connection field.
func (f *framing) connection(value string) problem {
	for rest := value; rest != ""; {
		var option string
		option, rest = grammar.NextToken(rest)
		switch {
		case option == "":
		case strings.EqualFold(option, "close"):
			f.closing = true
		case strings.EqualFold(option, "keep-alive"):
			f.keeping = true
		case strings.EqualFold(option, "upgrade"):
			f.upgrading = true
		case strings.EqualFold(option, "te"):
		case !grammar.IsToken(option):
			return errBadConnection
		default:
			f.named++
		}
	}
	if f.optionCount == len(f.options) || f.named > maxNamed {
		return errBadConnection
	}
	f.options[f.optionCount] = value
	f.optionCount++
	return 0
}

// dropNamed drops the fields that Connection names, but for protected ones.
func (f *framing) dropNamed(header *wire.Header) {
	if f.named == 0 {
		return
	}
	header.DelFunc(func(name, _ string) bool {
		if protected(name) {
			return false
		}
		for _, options := range f.options[:f.optionCount] {
			if grammar.HasToken(options, name) {
				return true
			}
		}
		return false
	})
}

// protected tells whether Connection may not strip the field. Who stands in
// front of us may have set it for the sake of those behind us, and a client that
// names it in Connection wants to get rid of it (RFC 9110 section 7.6.1: a
// sender must not list a field that is meant for all recipients).
func protected(name string) bool {
	switch name {
	case "authorization", "proxy-authorization", "cookie", "set-cookie", "forwarded", "via", "date",
		"cache-control", "expect", "te", "trailer", "traceparent", "tracestate", "baggage",
		"x-real-ip", "x-request-id", "x-client-ip", "true-client-ip":
		return true
	}
	return strings.HasPrefix(name, "content-") || strings.HasPrefix(name, "x-forwarded-") ||
		strings.HasPrefix(name, "x-envoy-") || strings.HasPrefix(name, "x-consul-") || strings.HasPrefix(name, "grpc-")
}

// parseTrailers reads the trailer section in block. What says how a message is
// framed or routed makes the message bad; what speaks of the connection, of
// authentication or of the content's form is dropped (RFC 9110 section 6.5.1).
func parseTrailers(block []byte, lim limits, trailer *wire.Header) problem {
	in := lines{rest: block}
	for count := 0; ; count++ {
		name, value, p := in.next()
		switch {
		case p != 0:
			return p
		case name == "":
			return 0
		case count >= lim.fields:
			return errBadTrailer
		}
		keep, bad := grammar.Trailer(name)
		switch {
		case bad:
			return errBadTrailer
		case keep:
			trailer.Add(name, value)
		}
	}
}
