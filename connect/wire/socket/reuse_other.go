//go:build !linux

package socket

import "syscall"

// ReusePort is a [net.ListenConfig.Control] that lets several sockets of one user
// have one port; here it does nothing.
func ReusePort(string, string, syscall.RawConn) error { return nil }
