//go:build !unix

package socket

import "syscall"

const useful = false

func recv(uintptr, []byte, int) (int, syscall.Errno) { return 0, syscall.EINVAL }
func send(uintptr, []byte) (int, syscall.Errno)      { return 0, syscall.EINVAL }
