package wire_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/wire"
)

func TestReadAll(t *testing.T) {
	t.Parallel()
	for _, n := range []int{0, 1, 511, 512, 513, 2000} {
		text := strings.Repeat("x", n)
		if got, err := wire.ReadAll(wire.NewBytes([]byte(text)), n); err != nil || string(got) != text {
			t.Errorf("of %d bytes %d, %v", n, len(got), err)
		}
		if n > 0 {
			if _, err := wire.ReadAll(wire.NewBytes([]byte(text)), n-1); !errors.Is(err, wire.ErrTooLarge) {
				t.Errorf("%d bytes where one less is taken: %v", n, err)
			}
		}
	}
	if got, err := wire.ReadAll(nil, 1); err != nil || len(got) != 0 {
		t.Errorf("of no body %q, %v", got, err)
	}
}
