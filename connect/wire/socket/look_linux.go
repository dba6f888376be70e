package socket

import (
	"golang.org/x/sys/unix"
)

// canPeek says that a socket can be looked at without reading from it.
const canPeek = true

// ended tells whether nothing will come after what has arrived: looking again and
// again at the same bytes would not show it.
func ended(fd uintptr) bool { return polled(fd, unix.POLLRDHUP|unix.POLLHUP|unix.POLLERR) }

// broken tells whether neither side can send any more.
func broken(fd uintptr) bool { return polled(fd, unix.POLLHUP|unix.POLLERR) }

func polled(fd uintptr, events int16) bool {
	one := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	_, err := unix.Poll(one, 0)
	return err == nil && one[0].Revents&events != 0
}
