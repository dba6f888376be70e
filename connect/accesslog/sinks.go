package accesslog

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"maps"
	"os"
	"slices"
	"sync"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/logfile"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
)

var errClosed = errors.New("we are about to end")

// Sinks are where logs go: files, shared by all logs of one path, and collectors,
// shared by all logs that say the same. They are kept as long as a configuration
// names them. A nil Sinks takes nothing. It is safe for concurrent use.
type Sinks struct {
	// set by New
	node           Node
	stdout, stderr io.Writer
	find           call.Find
	log            *slog.Logger

	mu sync.Mutex // guards:
	// running are all sinks, also those that only what is under way holds; gone is what
	// others have counted, by their names.
	running map[*sink]struct{}
	gone    map[string]logfile.Stats
	// known are compiled logs by what they say, told are refusals that were told.
	known map[string]*logger
	told  map[string]bool
	// nouns are compiled logs by what they were made of, as long as that is in use.
	nouns map[*mesh.AccessLog]use
	// round counts calls of Begin.
	round  uint64
	files  map[string]*file
	closed bool
	group  sync.WaitGroup
}

// file is an open file.
type file struct {
	sink
	writer *logfile.Writer
}

// use is a log that was asked for, and in which round that was last.
type use struct {
	logger *logger
	round  uint64
}

// Node is who we are, for collectors.
type Node struct{ ID, Cluster, Zone string }

// New returns Sinks of a node. find gives the clusters of collectors. Close flushes and ends
// what logs have opened.
func New(node Node, stdout, stderr io.Writer, find call.Find, log *slog.Logger) *Sinks {
	return &Sinks{
		node: node, stdout: stdout, stderr: stderr, find: find, log: log,
		known: map[string]*logger{}, nouns: map[*mesh.AccessLog]use{}, told: map[string]bool{}, files: map[string]*file{}, running: map[*sink]struct{}{}, gone: map[string]logfile.Stats{},
	}
}

// Begin begins a new configuration: what is not asked for until Sweep is closed then.
func (s *Sinks) Begin() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.round++
	for _, l := range s.known {
		l.used = false
	}
	for _, f := range s.files {
		f.used = false
	}
}

// Sweep closes what the configuration does not ask for, once nothing is under way that
// it will be told of.
func (s *Sinks) Sweep() {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for key, l := range s.known {
		if !l.used {
			delete(s.known, key)
			if l.collector != nil {
				l.sink.leave()
			}
		}
	}
	for m, u := range s.nouns {
		if u.round != s.round {
			delete(s.nouns, m)
		}
	}
	for path, f := range s.files {
		if !f.used {
			delete(s.files, path)
			f.leave()
		}
	}
}

// Compile makes logs of what is asked for; nil if that is none. What is refused, or
// cannot be opened, is told and left out.
func (s *Sinks) Compile(all []*mesh.AccessLog) *Logs {
	if s == nil {
		return nil
	}
	var logs Logs
	for _, m := range all {
		l, err := s.compile(m)
		if err != nil {
			s.tell(err)
			continue
		}
		if l != nil {
			logs.all = append(logs.all, l)
		}
	}
	if len(logs.all) == 0 {
		return nil
	}
	return &logs
}

// Keep asks for logs that Compile has made, as Compile would, without making them. It
// is false if there is one that was not made: one of a file that could not be opened.
func (s *Sinks) Keep(all []*mesh.AccessLog) bool {
	if s == nil || len(all) == 0 {
		return true
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range all {
		if m.Refusal == "" && m.Path != os.DevNull && !s.keepLocked(m) {
			return false
		}
	}
	return true
}

// keepLocked marks a log as used, if it was made.
func (s *Sinks) keepLocked(m *mesh.AccessLog) bool {
	l := s.nouns[m].logger
	if l == nil {
		return false
	}
	s.nouns[m] = use{l, s.round}
	l.used = true
	l.sink.used = true
	return true
}

// tell says of a refusal once that it is one.
func (s *Sinks) tell(err error) {
	s.mu.Lock()
	told := s.told[err.Error()]
	if !told && len(s.told) < 1024 {
		s.told[err.Error()] = true
	}
	s.mu.Unlock()
	if !told {
		s.log.Error("access log refused: it is not written", "reason", err)
	}
}

func (s *Sinks) compile(m *mesh.AccessLog) (*logger, error) {
	if m.Refusal != "" {
		return nil, errors.New(m.Refusal)
	}
	if m.Path == os.DevNull {
		return nil, nil //nolint:nilnil // nothing is to be written
	}
	key, err := json.Marshal(m)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.known[string(key)]
	if l == nil {
		if l, err = newLogger(m); err != nil {
			return nil, err
		}
	}
	if m.OTLP != nil {
		if l.collector == nil {
			if s.closed {
				return nil, errClosed
			}
			if l.collector, err = newCollector(m.OTLP, s.node, s.find, s.log); err != nil {
				return nil, err
			}
			l.sink = &sink{stop: l.collector.records.Close, stats: l.collector.stats, name: collectorsName}
			if m.OTLP.StatPrefix != "" {
				l.sink.name += m.OTLP.StatPrefix + "."
			}
			s.start(l.sink, l.collector.records.Run)
		}
	} else if err := s.openLocked(l, m.Path); err != nil {
		return nil, err
	}
	l.used = true
	s.known[string(key)] = l
	s.nouns[m] = use{l, s.round}
	return l, nil
}

// openLocked lets l write to a path, which it opens if that was not yet.
func (s *Sinks) openLocked(l *logger, path string) error {
	f := s.files[path]
	if f == nil {
		if s.closed {
			return errClosed
		}
		out, err := s.destination(path)
		if err != nil {
			return err
		}
		ctx, stop := context.WithCancel(context.Background())
		f = &file{writer: logfile.New(s.log)}
		f.stop, f.stats, f.name = stop, f.writer.Stats, filesName
		f.writer.Swap(out)
		s.files[path] = f
		s.start(&f.sink, func() {
			if err := f.writer.Run(ctx); err != nil {
				s.log.Warn("access log", "path", path, "err", err)
			}
		})
	}
	f.used = true
	if l.sink != &f.sink { // or it is in use, and stays as it is
		l.sink, l.out = &f.sink, f.writer
	}
	return nil
}

func (s *Sinks) destination(path string) (*logfile.Destination, error) {
	switch path {
	case "/dev/stdout", "/proc/self/fd/1", "/dev/fd/1":
		return logfile.To(s.stdout), nil
	case "/dev/stderr", "/proc/self/fd/2", "/dev/fd/2":
		return logfile.To(s.stderr), nil
	}
	return logfile.Open(path)
}

// Stats are what files and collectors count: lines and records that were written, that
// found no room, and that could not be written.
func (s *Sinks) Stats() (files, collectors logfile.Stats) {
	for name, one := range s.counts() {
		if name == filesName {
			files = one
		} else {
			collectors = sum(collectors, one)
		}
	}
	return files, collectors
}

// Each yields what is counted, by Envoy's names. Of files these count lines, where Envoy counts
// writes; filesystem.write_dropped is our own: Envoy's buffers have no bound.
func (s *Sinks) Each(yield func(stats.Stat) bool) {
	all := s.counts()
	files := all[filesName]
	delete(all, filesName)
	counted := []stats.Stat{
		{Name: filesName + "write_completed", Value: files.Written},
		{Name: filesName + "write_failed", Value: files.Failed},
		{Name: filesName + "write_buffered", Value: files.Written + files.Failed},
		{Name: filesName + "write_dropped", Value: files.Dropped},
	}
	for _, name := range slices.Sorted(maps.Keys(all)) {
		counted = append(counted, stats.Stat{Name: name + "logs_written", Value: all[name].Written},
			stats.Stat{Name: name + "logs_dropped", Value: all[name].Dropped + all[name].Failed})
	}
	for _, one := range counted {
		if !yield(one) {
			return
		}
	}
	stats.Zeros(filesName, "flushed_by_timer reopen_failed", yield)
}

// Close writes what is pending, as far as it is taken in a short while, and ends
// all sinks. Clusters must still be there.
func (s *Sinks) Close() {
	s.mu.Lock()
	s.closed = true
	for k := range s.running {
		k.stop()
	}
	s.mu.Unlock()
	s.group.Wait()
}
