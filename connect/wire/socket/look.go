package socket

import (
	"errors"
	"io"
	"net"
	"syscall"
)

// ErrTooMuch says that a connection begins with more than is looked at.
var ErrTooMuch = errors.New("more than is looked at")

// Look shows the beginning of conn to see, again whenever more of it has come, until
// see is content or the deadline of reads is there. What was seen is still to be read
// from the connection that is returned: conn itself, if it is a socket. It is shown in
// mem, or in memory of its own as soon as that has no room. Only most bytes are looked
// at: then the error is ErrTooMuch. The end of the stream is io.EOF if nothing came
// before it, and else io.ErrUnexpectedEOF; the connection may still be used.
func Look(conn net.Conn, mem []byte, most int, see func(b []byte) (content bool)) (net.Conn, error) {
	if sock, ok := conn.(syscall.Conn); ok && canPeek {
		raw, err := sock.SyscallConn()
		if err != nil {
			return conn, err
		}
		p := &peeking{buf: mem, most: most, see: see}
		if err := raw.Read(p.ready); err != nil {
			return conn, err
		}
		return conn, p.err
	}
	return readAhead(conn, len(mem), most, see)
}

// peeking is a look at a socket that leaves all in it.
type peeking struct {
	buf  []byte
	most int
	see  func([]byte) bool
	seen int
	err  error
}

// ready is called when there may be more, until it returns true.
func (p *peeking) ready(fd uintptr) bool {
	for {
		n, errno := recv(fd, p.buf, syscall.MSG_PEEK)
		switch {
		case errno == syscall.EINTR:
			continue
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			p.err = errno
			return true
		case n == 0:
			p.err = io.EOF
			return true
		}
		if n > p.seen {
			p.seen = n
			if p.see(p.buf[:n]) {
				return true
			}
		}
		switch {
		case n >= p.most:
			p.err = ErrTooMuch
			return true
		case n == len(p.buf): // there may be more already
			p.buf = make([]byte, min(4*len(p.buf), p.most))
			continue
		case ended(fd):
			p.err = io.ErrUnexpectedEOF
			return true
		}
		return false
	}
}

// readAhead looks by reading: the connection that it returns has what was read.
func readAhead(conn net.Conn, first, most int, see func([]byte) bool) (net.Conn, error) {
	var b []byte
	same := &ahead{Conn: conn}
	for {
		more := make([]byte, min(first, most-len(b)))
		n, err := conn.Read(more)
		b = append(b, more[:n]...)
		same.read = b
		switch {
		case n > 0 && see(b):
			return same, nil
		case errors.Is(err, io.EOF) && len(b) > 0:
			return same, io.ErrUnexpectedEOF
		case err != nil:
			return same, err
		case len(b) >= most:
			return same, ErrTooMuch
		}
	}
}

// ahead is a connection of which the beginning was read.
type ahead struct {
	net.Conn
	read []byte
}

// Read implements [net.Conn].
func (a *ahead) Read(p []byte) (int, error) {
	if len(a.read) > 0 {
		n := copy(p, a.read)
		a.read = a.read[n:]
		return n, nil
	}
	return a.Conn.Read(p)
}

// CloseWrite ends our direction and leaves the other open.
func (a *ahead) CloseWrite() error {
	if half, ok := a.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return a.Close()
}
