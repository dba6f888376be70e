package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"
)

// vital is a process whose leaks are looked for.
type vital struct {
	name  string
	pid   int
	meter *meter
	base  *signs // at rest
}

// signs are what a process holds at one moment.
type signs struct {
	under      float64 // requests and connections that were asked and have not ended: must be none
	clients    float64 // connections of clients that live
	sockets    int
	goroutines float64
	heap       float64 // MiB that are allocated
	anonymous  int     // MiB that the kernel has given
}

// String tells all of them.
func (s *signs) String() string {
	return fmt.Sprintf("%.0f under way, %.0f client connections, %d sockets, %.0f goroutines, %.1f MiB heap, %d MiB anonymous memory",
		s.under, s.clients, s.sockets, s.goroutines, s.heap, s.anonymous)
}

// What may be more at the end than it was at first.
const (
	// Idle connections between proxies are kept for 55 s. A long soak waits for their end; in a short one there may be
	// as many more as have once been busy at the same time, and HTTP/1 has a goroutine for each.
	moreIdle = 24
	// Consul's streams, scrapes, timers: they come and go by themselves.
	moreOther = 8
	// What a GC has not seen yet, and tables that have grown to the size of the load.
	moreHeap = 4 // MiB
	// The runtime gives pages back late, and in part: a leak of all that passes would be hundreds.
	moreAnonymous = 24 // MiB
	// The race detector remembers accesses in memory of its own, 5 to 10 times what is accessed, and lets its pools drop
	// what they keep: there memory says little, and the plain soak watches it.
	raceFactor = 8
)

// memoryFactor is by how much more memory may be held if the processes run with the race detector, as SOAK_RACE says.
func memoryFactor() int {
	if os.Getenv("SOAK_RACE") != "" {
		return raceFactor
	}
	return 1
}

// soakLong is from when on a soak is long: it lasts longer than idle connections live.
const soakLong = time.Minute

// atFirst is how a process is at rest, before a load: of each sign the least of a while.
func (v *vital) atFirst(t *testing.T) *signs {
	t.Helper()
	var least *signs
	for range 20 {
		now, err := v.look(t.Context())
		must(t, err)
		if least == nil {
			least = now
		}
		*least = signs{
			under: min(least.under, now.under), clients: min(least.clients, now.clients), sockets: min(least.sockets, now.sockets),
			goroutines: min(least.goroutines, now.goroutines), heap: min(least.heap, now.heap), anonymous: min(least.anonymous, now.anonymous),
		}
	}
	return least
}

// atLast waits until a process is at rest after a load, as it was at first.
func (v *vital) atLast(t *testing.T, long time.Duration) *signs {
	t.Helper()
	limit, more := patience, moreIdle+moreOther
	if long >= soakLong {
		limit, more = 150*time.Second, moreOther // as long as the runtime is without a GC, at most
	}
	var now *signs
	factor := memoryFactor()
	within(t, limit, v.name+" to be as it was", func(ctx context.Context) (err error) {
		if now, err = v.look(ctx); err != nil {
			return err
		}
		switch {
		case now.under != 0 || now.clients > v.base.clients+float64(more):
		case now.sockets > v.base.sockets+more || now.goroutines > v.base.goroutines+2*float64(more):
		case now.heap > v.base.heap+float64(moreHeap*factor) || now.anonymous > v.base.anonymous+moreAnonymous*factor:
		default:
			return nil
		}
		return fmt.Errorf("it holds %v; at first it was %v", now, v.base)
	})
	return now
}

// look reads the signs. Scrapes make garbage themselves, so that a GC comes if this is done again and again.
func (v *vital) look(ctx context.Context) (*signs, error) {
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // its connection must not count
	families, err := v.meter.scrape(ctx, client)
	if err != nil {
		return nil, err
	}
	sum := func(name string) (total float64) {
		for _, value := range byLabels(families[name]) {
			total += value
		}
		return total
	}
	if sum("go_goroutines") == 0 {
		return nil, errors.New("there are no metrics of the runtime")
	}
	held, err := memoryOf(v.pid)
	if err != nil {
		return nil, err
	}
	sockets, err := socketsOf(v.pid)
	if err != nil {
		return nil, err
	}
	return &signs{
		under:      sum("serai_cluster_upstream_rq_active") + sum("serai_connections_active"),
		clients:    sum("serai_listener_downstream_cx_active"),
		sockets:    sockets,
		goroutines: sum("go_goroutines"),
		heap:       sum("go_memstats_heap_alloc_bytes") / (1 << 20),
		anonymous:  held["Anonymous"] >> 10,
	}, nil
}

// socketsOf counts the open sockets and pipes of a process.
func socketsOf(pid int) (int, error) {
	folder := fmt.Sprintf("/proc/%d/fd", pid)
	entries, err := os.ReadDir(folder)
	if err != nil {
		return 0, fmt.Errorf("read open files: %w", err)
	}
	count := 0
	for _, entry := range entries {
		// One that was closed in between has no target.
		if target, err := os.Readlink(folder + "/" + entry.Name()); err == nil &&
			(strings.HasPrefix(target, "socket:") || strings.HasPrefix(target, "pipe:")) {
			count++
		}
	}
	return count, nil
}
