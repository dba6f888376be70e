package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"sync"
	"time"
)

// A process has settled when it has been ready for this long: what its start
// needed has been needed.
const (
	settleAfter = 5 * time.Second
	askReady    = time.Second
	// startGC is GOGC until then: to read a large configuration leaves much behind,
	// of which the peak of our memory would be made otherwise.
	startGC, usualGC = 40, 100
	// room is how much garbage may lie about after that, as long as to collect it
	// more often than usual takes less than gcShare of a core. It is looked at every
	// reviewGC.
	room     = 8 << 20
	gcShare  = 0.02
	reviewGC = 10 * time.Second
)

// collectAtStart makes the collector frugal, unless GOGC says what is wanted.
func collectAtStart() { setGC(startGC) }

// collectByNeed sets the collector from time to time until ctx ends. A large
// configuration stays in memory, and the usual collector would let as much garbage
// again lie beside it, of updates that are few.
func collectByNeed(ctx context.Context) {
	tick := time.NewTicker(reviewGC)
	defer tick.Stop()
	read := []metrics.Sample{{Name: "/gc/heap/live:bytes"}, {Name: "/cpu/classes/gc/total:cpu-seconds"}, {Name: "/cpu/classes/gc/mark/idle:cpu-seconds"}}
	percent, spent, since := startGC, 0.0, time.Now()
	for now := since; ; {
		metrics.Read(read)
		if read[0].Value.Kind() != metrics.KindUint64 || read[1].Value.Kind() != metrics.KindFloat64 || read[2].Value.Kind() != metrics.KindFloat64 {
			setGC(usualGC) // this runtime does not tell
			return
		}
		total := read[1].Value.Float64() - read[2].Value.Float64() // what nobody else had a use for is free
		share := 0.0
		if took := now.Sub(since).Seconds(); took > 0 {
			share = (total - spent) / took
		}
		if next := gcPercent(read[0].Value.Uint64(), share); next != percent {
			percent = next
			setGC(percent)
		}
		spent, since = total, now
		select {
		case <-ctx.Done():
			return
		case now = <-tick.C:
		}
	}
}

// gcPercent is GOGC for so many bytes that live, when the collector takes a share of a
// core: garbage in proportion to what lives, but not much more than there is room for,
// unless that keeps the collector busy.
func gcPercent(live uint64, share float64) int {
	if live == 0 || share > gcShare {
		return usualGC
	}
	return int(min(max(100*room/live, startGC), usualGC))
}

func setGC(percent int) {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(percent)
	}
}

// server is what a command runs.
type server interface {
	// Run serves until ctx ends.
	Run(ctx context.Context) error
	// Ready returns nil if traffic should be sent here.
	Ready() error
}

// serve runs s. Once it has settled, the memory that only its start needed goes
// back to the kernel: there is a sidecar for each instance on a machine, and most
// of what one touches, it touches once. See [releasePages].
func serve(ctx context.Context, s server, log *slog.Logger) error {
	running, stop := context.WithCancel(ctx)
	var settling sync.WaitGroup
	settling.Go(func() {
		if !settled(running, s) {
			return
		}
		debug.FreeOSMemory()
		if err := releasePages(); err != nil {
			log.Debug("pages of the program's file not given back", "err", err)
		}
		collectByNeed(running)
	})
	err := s.Run(ctx)
	stop()
	settling.Wait()
	return err
}

// settled waits until s has; it is false if ctx ends before.
func settled(ctx context.Context, s server) bool {
	tick := time.NewTicker(askReady)
	defer tick.Stop()
	var since time.Time // when s became ready
	for {
		select {
		case <-ctx.Done():
			return false
		case now := <-tick.C:
			switch {
			case s.Ready() != nil:
				since = time.Time{}
			case since.IsZero():
				since = now
			case now.Sub(since) >= settleAfter:
				return true
			}
		}
	}
}
