package main

import (
	"context"
	"log/slog"
	"os"
	"runtime/debug"
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
)

// collectAtStart makes the collector frugal, unless GOGC says what is wanted.
func collectAtStart() { setGC(startGC) }

// collectAsUsual spares the processor again.
func collectAsUsual() { setGC(usualGC) }

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
		collectAsUsual()
		debug.FreeOSMemory()
		if err := releasePages(); err != nil {
			log.Debug("pages of the program's file not given back", "err", err)
		}
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
