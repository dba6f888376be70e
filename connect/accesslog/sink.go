package accesslog

import (
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/logfile"
)

// lastHold is how long a sink that no configuration names is kept for who has found it
// just before, and is about to hold it.
const lastHold = time.Second

// sink is a file or a collector that some logs use. It ends when no configuration names
// it and nothing is under way that it will be told of: a connection may live for long.
type sink struct {
	// set by Sinks.start
	stop  func() // may be called more than once
	stats func() logfile.Stats
	kind  int

	used bool // guarded by Sinks.mu
	// holders are what is under way, and the configuration.
	holders atomic.Int64
}

// What sinks are, as Sinks.gone has them.
const (
	files = iota
	collectors
)

// start runs a sink, until it is stopped. Callers hold the lock.
func (s *Sinks) start(k *sink, run func()) {
	k.holders.Store(1)
	s.running[k] = struct{}{}
	s.group.Go(func() {
		run()
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.running, k)
		add(&s.gone[k.kind], k.stats())
	})
}

// leave is told that no configuration names the sink any more.
func (k *sink) leave() { time.AfterFunc(lastHold, k.release) }

func (k *sink) hold() { k.holders.Add(1) }

func (k *sink) release() {
	if k.holders.Add(-1) == 0 {
		k.stop()
	}
}
