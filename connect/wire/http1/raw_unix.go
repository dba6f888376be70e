//go:build unix

package http1

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// rawReader reads a socket and takes a buffer only once the socket is readable,
// so that a connection that waits holds none and no extra system call is needed.
type rawReader struct {
	conn syscall.RawConn
	src  *source
	read func(fd uintptr) bool // readFD, bound once

	// result of readFD
	n   int
	err error
}

// newRawReader returns nil if conn is no plain socket. Wrapped connections are
// none: they may hold bytes of their own.
func newRawReader(conn net.Conn, src *source) *rawReader {
	sock := socket(conn)
	if sock == nil {
		return nil
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawReader{conn: raw, src: src}
	r.read = r.readFD
	return r
}

func socket(conn net.Conn) syscall.Conn {
	switch c := conn.(type) {
	case *net.TCPConn:
		return c
	case *net.UnixConn:
		return c
	}
	return nil
}

// receive is source.receive for a socket.
func (r *rawReader) receive() (int, error) {
	r.n, r.err = 0, nil
	if err := r.conn.Read(r.read); err != nil {
		return 0, err
	}
	return r.n, r.err
}

// readFD reports whether it is done; otherwise it is called again when the
// socket is readable.
func (r *rawReader) readFD(fd uintptr) bool {
	s := r.src
	taken := s.cur == nil
	if taken {
		s.take()
	}
	n, err := syscall.Read(int(fd), s.cur.b[s.w:])
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(int(fd), s.cur.b[s.w:])
	}
	if n > 0 {
		s.w += n
		r.n = n
		return true
	}
	if taken {
		s.pool.put(s.cur)
		s.cur = nil
	}
	switch {
	case errors.Is(err, syscall.EAGAIN):
		return false
	case err != nil:
		r.err = os.NewSyscallError("read", err)
	default:
		r.err = io.EOF
	}
	return true
}

// peeker looks at a socket without waiting and without reading.
type peeker struct {
	conn syscall.RawConn
	peek func(fd uintptr) // peekFD, bound once

	// result of peekFD
	n   int
	err error
	one [1]byte
}

// newPeeker returns nil if conn has no socket that can be looked at.
func newPeeker(conn net.Conn) *peeker {
	for {
		below, ok := conn.(interface{ NetConn() net.Conn }) // TLS, and what lies below
		if !ok {
			break
		}
		conn = below.NetConn()
	}
	sock := socket(conn)
	if sock == nil {
		return nil
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil
	}
	p := &peeker{conn: raw}
	p.peek = p.peekFD
	return p
}

func (p *peeker) peekFD(fd uintptr) {
	p.n, _, p.err = syscall.Recvfrom(int(fd), p.one[:], syscall.MSG_PEEK)
	for errors.Is(p.err, syscall.EINTR) {
		p.n, _, p.err = syscall.Recvfrom(int(fd), p.one[:], syscall.MSG_PEEK)
	}
}

// look tells whether bytes have arrived (more) and whether the other side may
// still send (open).
func (p *peeker) look() (more, open bool) {
	if err := p.conn.Control(p.peek); err != nil {
		return false, false
	}
	switch {
	case p.n > 0:
		return true, true
	case errors.Is(p.err, syscall.EAGAIN):
		return false, true
	}
	return false, false
}
