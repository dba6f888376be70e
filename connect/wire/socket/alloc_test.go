//go:build !race

package socket_test

import (
	"io"
	"testing"
)

func TestAllocs(t *testing.T) {
	near, far := pair(t, "tcp")
	go io.Copy(far, far) //nolint:errcheck // ends with the test
	b, mem := make([]byte, 512), make([]byte, 512)
	done := func() {}
	if n := testing.AllocsPerRun(100, func() {
		near.Hold(mem, done)
		_, werr := near.Write(b[:100])
		n, err := near.Read(b)
		if werr != nil || err != nil || n == 0 || !near.Drop() {
			t.Error(werr, n, err)
		}
		near.Peek()
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}
