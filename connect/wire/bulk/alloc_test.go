//go:build !race

package bulk_test

import (
	"io"
	"testing"

	"github.com/serai-net/serai/connect/wire/bulk"
)

// In the steady state nothing is allocated, but by crypto/tls: both far ends and
// ours on both sides.
func TestAllocations(t *testing.T) {
	buffers := &bulk.Buffers{}
	for _, one := range ends() {
		src, far := one.connect(t, buffers)
		dst, out := one.connect(t, buffers)
		p := bulk.NewPipe(dst, src, buffers)
		message, got := random(1000), make([]byte, 1000)
		once := func() {
			if _, err := far.Write(message); err != nil {
				t.Fatal(err)
			}
			if _, err := p.Take(); err != nil {
				t.Fatal(err)
			}
			if err := p.Give(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(out, got); err != nil {
				t.Fatal(err)
			}
		}
		most := 0.0
		if one.version != 0 {
			most = 3
		}
		once()
		if n := testing.AllocsPerRun(200, once); n > most {
			t.Errorf("%s: %.1f allocations a message", one, n)
		}
	}
}
