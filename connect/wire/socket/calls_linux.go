//go:build linux && !race && !386 && !s390x

package socket

import (
	"syscall"
	"unsafe"
)

const useful = true

// recv reads from a socket that does not wait. Like send it spares what
// [syscall.Read] does for calls that may take long: the scheduler is not told.
// n is 0 with an errno, and without one at the end.
func recv(fd uintptr, p []byte, flags int) (n int, errno syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_RECVFROM,
			fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), uintptr(flags), 0, 0)
		if errno == 0 {
			return int(r), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}

// send writes to a socket that does not wait; n is 0 with an errno.
func send(fd uintptr, p []byte) (n int, errno syscall.Errno) {
	for {
		r, _, errno := syscall.RawSyscall6(syscall.SYS_SENDTO,
			fd, uintptr(unsafe.Pointer(unsafe.SliceData(p))), uintptr(len(p)), syscall.MSG_NOSIGNAL, 0, 0)
		if errno == 0 {
			return int(r), 0
		}
		if errno != syscall.EINTR {
			return 0, errno
		}
	}
}
