//go:build unix

package http2

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
	l    *link
	read func(fd uintptr) bool // readFD, bound once

	// result of readFD
	n   int
	err error
}

// newRawReader returns nil if nc is no plain socket: what wraps one may hold bytes
// of its own.
func newRawReader(nc net.Conn, l *link) *rawReader {
	var socket syscall.Conn
	switch c := nc.(type) {
	case *net.TCPConn:
		socket = c
	case *net.UnixConn:
		socket = c
	default:
		return nil
	}
	conn, err := socket.SyscallConn()
	if err != nil {
		return nil
	}
	r := &rawReader{conn: conn, l: l}
	r.read = r.readFD
	return r
}

// receive reads once into the link's buffer, which it takes if there is none.
func (r *rawReader) receive() (int, error) {
	r.n, r.err = 0, nil
	if err := r.conn.Read(r.read); err != nil {
		return 0, err
	}
	return r.n, r.err
}

// readFD reports whether it is done; otherwise it is called again when the socket
// is readable.
func (r *rawReader) readFD(fd uintptr) bool {
	in := r.l.buffer()
	n, err := syscall.Read(int(fd), in.b[in.w:])
	for errors.Is(err, syscall.EINTR) {
		n, err = syscall.Read(int(fd), in.b[in.w:])
	}
	if n > 0 {
		in.w += n
		r.n = n
		return true
	}
	r.l.release()
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
