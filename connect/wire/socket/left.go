package socket

import (
	"net"
	"syscall"
)

// Left waits until the peer of conn has left, and tells whether it has: it is false
// when the deadline of reads is there, or where that cannot be seen. What has come stays
// to be read. A peer that has sent something and then ended its own direction has not
// left if halves says that it may still wait for an answer.
func Left(conn net.Conn, halves bool) bool {
	sock, ok := conn.(syscall.Conn)
	if !ok || !canPeek {
		return false
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return false
	}
	w := &watching{halves: halves}
	return raw.Read(w.ready) == nil
}

// watching is a look at a socket for its end.
type watching struct {
	one    [1]byte
	halves bool
}

// ready is called when there may be more, until it returns true.
func (w *watching) ready(fd uintptr) bool {
	n, errno := recv(fd, w.one[:], syscall.MSG_PEEK)
	for errno == syscall.EINTR {
		n, errno = recv(fd, w.one[:], syscall.MSG_PEEK)
	}
	switch {
	case errno == syscall.EAGAIN:
		return false
	case errno != 0 || n == 0:
		return true
	case w.halves:
		return broken(fd)
	default:
		return ended(fd)
	}
}
