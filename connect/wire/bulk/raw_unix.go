//go:build unix

package bulk

import (
	"errors"
	"io"
	"net"
	"os"
	"syscall"
)

// rawReader fills a reader from a socket. It takes a buffer once the socket is
// readable.
type rawReader struct {
	conn syscall.RawConn
	src  *reader
	read func(fd uintptr) bool // readFD, bound once

	err error // of readFD
}

// newRawReader returns nil if conn is no plain socket.
func newRawReader(conn net.Conn, src *reader) *rawReader {
	raw := rawConn(conn)
	if raw == nil {
		return nil
	}
	r := &rawReader{conn: raw, src: src}
	r.read = r.readFD
	return r
}

// rawConn returns nil if conn is no plain socket.
func rawConn(conn net.Conn) syscall.RawConn {
	var raw syscall.RawConn
	var err error
	switch c := conn.(type) {
	case *net.TCPConn:
		raw, err = c.SyscallConn()
	case *net.UnixConn:
		raw, err = c.SyscallConn()
	}
	if err != nil {
		return nil
	}
	return raw
}

func (r *rawReader) fill() error {
	r.err = nil
	if err := r.conn.Read(r.read); err != nil {
		return err
	}
	return r.err
}

// readFD reports whether it is done; otherwise it is called again when the socket
// is readable.
func (r *rawReader) readFD(fd uintptr) bool {
	s := r.src
	if s.in == nil {
		s.in = s.buffers.get(s.size)
	}
	n, err := syscall.Read(int(fd), s.in.b[s.w:])
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(int(fd), s.in.b[s.w:])
	}
	if n > 0 {
		s.took(n)
		return true
	}
	s.drop()
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
