package integration_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// What a sidecar at rest may hold, in KiB. There is one for each instance on a machine, so that it counts many times.
const (
	idleAnonymous = 12 << 10 // its own: heap, stacks, the runtime's tables
	// With the pages of the binary, which all sidecars of a machine share: what its start alone needed is given back.
	idleResident = 26 << 10
	// idleFor is how long it must stay so: with health checks, Consul's keep-alives and now and then a call.
	idleFor = 15 * time.Second
)

// TestIdleMemory bounds the memory of a sidecar that has its configuration and nothing to do: one in front of an
// instance, and one that has an upstream besides and has served calls.
func TestIdleMemory(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		harness.Skip(t, "there is no smaps_rollup on "+runtime.GOOS)
	}
	w := newWorld(t, map[string]string{"api": "http", "web": "http"})
	w.allow(t, "web", "api")
	api := w.run(t, "api-1", "api")
	web := w.run(t, "web-1", "web", "api")
	sidecarReady(t, api)
	sidecarReady(t, web)
	for range 20 {
		w.waitOK(t, web.url("api", "/"))
	}
	for _, i := range []*instance{api, web} {
		// What a start has left behind goes back to the kernel soon.
		eventually(t, "the sidecar of "+i.id+" to be small", func(context.Context) error { return small(t, i) })
	}
	// What is still needed comes back by then.
	for range idleFor / time.Second {
		pause(t, time.Second)
		w.waitOK(t, web.url("api", "/"))
	}
	for _, i := range []*instance{api, web} {
		eventually(t, fmt.Sprintf("the sidecar of %s to be small after %v", i.id, idleFor), func(context.Context) error { return small(t, i) })
	}
}

// small tells whether the sidecar of an instance is within the bounds.
func small(t *testing.T, i *instance) error {
	t.Helper()
	held, err := memoryOf(i.sidecar.PID())
	if err != nil {
		return err
	}
	if held["Anonymous"] > idleAnonymous || held["Rss"] > idleResident {
		return fmt.Errorf("%d KiB anonymous (at most %d), %d KiB resident (at most %d)",
			held["Anonymous"], idleAnonymous, held["Rss"], idleResident)
	}
	t.Logf("%s: %d KiB anonymous, %d KiB resident", i.id, held["Anonymous"], held["Rss"])
	return nil
}

// memoryOf reads a /proc/PID/smaps_rollup: KiB by name.
func memoryOf(pid int) (map[string]int, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/smaps_rollup", pid))
	if err != nil {
		return nil, fmt.Errorf("read memory: %w", err)
	}
	held := map[string]int{}
	for line := range strings.Lines(string(text)) {
		name, value, ok := strings.Cut(line, ":")
		if !ok || !strings.HasSuffix(strings.TrimSpace(value), " kB") {
			continue
		}
		kib, err := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")))
		if err != nil {
			return nil, fmt.Errorf("read memory: %s: %w", strings.TrimSpace(line), err)
		}
		held[name] = kib
	}
	if held["Rss"] == 0 {
		return nil, errors.New("read memory: there is no Rss")
	}
	return held, nil
}
