//go:build !linux

package socket

// canPeek says that a socket can be looked at without reading from it.
const canPeek = false

func ended(uintptr) bool { return false }

func broken(uintptr) bool { return false }
