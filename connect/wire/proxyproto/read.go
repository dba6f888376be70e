package proxyproto

import (
	"errors"
	"io"
	"net"
	"strings"
)

// Read reads a header from conn, whose read deadline is the caller's business. It
// reads nothing past it. io.EOF means that nothing came at all; every other error
// means that the connection is of no use.
func Read(conn io.Reader) (Header, error) {
	b := make([]byte, headV2, maxV1)
	// The shortest header of version 1 is "PROXY UNKNOWN\r\n".
	if err := more(conn, b[:headV2-1], true); err != nil {
		return Header{}, err
	}
	return finish(conn, b[:headV2-1])
}

// ReadOptional is Read where a header may be missing: then present is false, and the
// connection that is returned begins with what was read of it. It reads only while
// the bytes look like a header.
func ReadOptional(conn net.Conn) (h Header, present bool, same net.Conn, err error) {
	b := make([]byte, 0, maxV1)
	for len(b) < headV2-1 {
		n, err := conn.Read(b[len(b) : headV2-1])
		b = b[:len(b)+n]
		if n > 0 && !begins(b) {
			return Header{}, false, &resumed{Conn: conn, read: b}, nil
		}
		if err != nil {
			if errors.Is(err, io.EOF) && len(b) > 0 { // and no header
				return Header{}, false, &resumed{Conn: conn, read: b}, nil
			}
			return Header{}, false, nil, err
		}
	}
	h, err = finish(conn, b)
	return h, true, conn, err
}

// begins tells whether b may be the beginning of a header.
func begins(b []byte) bool {
	s := string(b)
	return strings.HasPrefix(prefixV1, s) || strings.HasPrefix(signature, s) ||
		strings.HasPrefix(s, prefixV1) || strings.HasPrefix(s, signature)
}

// finish reads the rest of a header of which b is the beginning.
func finish(conn io.Reader, b []byte) (Header, error) {
	switch {
	case string(b[:len(signature)]) == signature:
		b = b[:headV2]
		if err := more(conn, b[headV2-1:], false); err != nil {
			return Header{}, err
		}
		size, err := sizeV2(b)
		if err != nil {
			return Header{}, err
		}
		all := make([]byte, size)
		copy(all, b)
		if err := more(conn, all[headV2:], false); err != nil {
			return Header{}, err
		}
		return parseV2(all)
	case string(b[:len(prefixV1)]) == prefixV1:
		line, err := readLine(conn, b)
		if err != nil {
			return Header{}, err
		}
		return parseV1(line)
	}
	return Header{}, ErrNone
}

// readLine reads the rest of a line of version 1 and returns it without its end. It
// never asks for more than must still come.
func readLine(conn io.Reader, b []byte) (string, error) {
	for {
		for i := range len(b) - 1 {
			if b[i] == '\r' && (b[i+1] != '\n' || i+2 != len(b)) {
				return "", errMalformed
			}
		}
		missing := 2
		switch last := b[len(b)-1]; {
		case last == '\n' && b[len(b)-2] == '\r':
			return string(b[:len(b)-2]), nil
		case last == '\n':
			return "", errMalformed
		case last == '\r':
			missing = 1
		}
		// "PROXY TCP6 :: :: 1 1" and "PROXY TCP4 1.1.1.1 1.1.1.1 1 1" are the
		// shortest lines with addresses.
		if shortest := len("PROXY TCP6 :: :: 1 1\r\n"); b[len(prefixV1)] == 'T' && len(b) < shortest {
			missing = shortest - len(b)
		}
		if len(b)+missing > maxV1 {
			return "", errTooLong
		}
		b = b[:len(b)+missing]
		if err := more(conn, b[len(b)-missing:], false); err != nil {
			return "", err
		}
	}
}

// more fills p. Only if it is the first, io.EOF is no error of the header.
func more(conn io.Reader, p []byte, first bool) error {
	n, err := io.ReadFull(conn, p)
	if errors.Is(err, io.EOF) && (!first || n > 0) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// resumed is a connection of which the beginning was read.
type resumed struct {
	net.Conn
	read []byte
}

func (r *resumed) Read(p []byte) (int, error) {
	if len(r.read) > 0 {
		n := copy(p, r.read)
		r.read = r.read[n:]
		return n, nil
	}
	return r.Conn.Read(p)
}

// CloseWrite ends our direction and leaves the other open.
func (r *resumed) CloseWrite() error {
	if half, ok := r.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return r.Close()
}
