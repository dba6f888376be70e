package socket

import (
	"syscall"

	"golang.org/x/sys/unix"
)

// ReusePort is a [net.ListenConfig.Control] that lets several sockets of one user
// have one port, if all of them ask for it: of addresses that contain each other the
// system takes the more exact one.
func ReusePort(network, _ string, conn syscall.RawConn) error {
	if network == "unix" {
		return nil
	}
	var err error
	if failed := conn.Control(func(fd uintptr) {
		err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEPORT, 1)
	}); failed != nil {
		return failed
	}
	return err
}
