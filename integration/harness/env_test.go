package harness_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestPorts takes more ports than a block has, for two environments, and gets none twice.
func TestPorts(t *testing.T) {
	t.Parallel()
	seen := map[int]bool{}
	for range 2 {
		env := harness.ForTest(t)
		for _, n := range []int{1, 45, 20, 50} {
			first, err := env.Ports(n)
			if err != nil {
				t.Fatal(err)
			}
			for port := first; port < first+n; port++ {
				if seen[port] {
					t.Errorf("port %d was given twice", port)
				}
				seen[port] = true
			}
		}
	}
	if _, err := harness.ForTest(t).Ports(51); err == nil {
		t.Error("got more ports in a row than a block has")
	}
}

// TestUntil tells the last thing that was in the way.
func TestUntil(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	shut := errors.New("the gate is shut")
	err := harness.Until(ctx, "the gate", func(context.Context) error { return shut })
	if !errors.Is(err, shut) || !errors.Is(err, context.DeadlineExceeded) || !strings.HasPrefix(err.Error(), "wait for the gate") {
		t.Error(err)
	}
}

// TestTool tells what to do about a tool that is nowhere.
func TestTool(t *testing.T) {
	t.Parallel()
	if _, err := harness.ForTest(t).Tool("no-such-tool"); err == nil || !strings.Contains(err.Error(), "make tools") {
		t.Error(err)
	}
}
