package accesslog

import (
	"maps"
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
	name  string // by which it counts

	used bool // guarded by Sinks.mu
	// holders are what is under way, and the configuration.
	holders atomic.Int64
}

// Names by which sinks count; collectors may have one more behind it. maxNames bounds
// how many are remembered.
const (
	filesName      = "filesystem."
	collectorsName = "access_logs.open_telemetry_access_log."
	maxNames       = 256
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
		if _, ok := s.gone[k.name]; !ok && len(s.gone) >= maxNames {
			k.name = collectorsName
		}
		s.gone[k.name] = sum(s.gone[k.name], k.stats())
	})
}

// counts are what sinks count by their names. Those without one of their own are there
// from the beginning.
func (s *Sinks) counts() map[string]logfile.Stats {
	all := map[string]logfile.Stats{filesName: {}, collectorsName: {}}
	if s == nil {
		return all
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	maps.Copy(all, s.gone)
	for k := range s.running {
		all[k.name] = sum(all[k.name], k.stats())
	}
	return all
}

func sum(a, b logfile.Stats) logfile.Stats {
	return logfile.Stats{Written: a.Written + b.Written, Dropped: a.Dropped + b.Dropped, Failed: a.Failed + b.Failed}
}

// leave is told that no configuration names the sink any more.
func (k *sink) leave() { time.AfterFunc(lastHold, k.release) }

func (k *sink) hold() { k.holders.Add(1) }

func (k *sink) release() {
	if k.holders.Add(-1) == 0 {
		k.stop()
	}
}
