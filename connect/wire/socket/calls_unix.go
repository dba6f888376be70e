//go:build unix && (!linux || race || 386 || s390x)

package socket

import (
	"errors"
	"syscall"
)

const useful = true

// recv reads from a socket that does not wait; n is 0 with an errno, and without
// one at the end. The race detector sees these calls, and those of Linux not.
func recv(fd uintptr, p []byte, flags int) (n int, errno syscall.Errno) {
	for {
		var err error
		if flags == 0 {
			n, err = syscall.Read(int(fd), p)
		} else {
			n, _, err = syscall.Recvfrom(int(fd), p, flags)
		}
		if err == nil {
			return n, 0
		}
		if !errors.Is(err, syscall.EINTR) {
			errors.As(err, &errno)
			return 0, errno
		}
	}
}

// send writes to a socket that does not wait; n is 0 with an errno.
func send(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	for {
		n, err := syscall.Write(int(fd), p)
		if err == nil {
			return n, 0
		}
		if !errors.Is(err, syscall.EINTR) {
			errors.As(err, &errno)
			return 0, errno
		}
	}
}
