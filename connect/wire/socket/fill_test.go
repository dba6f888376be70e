package socket_test

import (
	"syscall"
	"testing"
)

// fill writes until the socket takes no more and returns how much that was.
func fill(t *testing.T, raw syscall.RawConn) (total int) {
	t.Helper()
	b := make([]byte, 64<<10)
	err := raw.Write(func(fd uintptr) bool {
		for quiet := 0; quiet < 100; {
			n, err := syscall.Write(int(fd), b)
			if err != nil {
				quiet++
				continue
			}
			total, quiet = total+n, 0
		}
		return true
	})
	if err != nil {
		t.Fatal(err)
	}
	return total
}
