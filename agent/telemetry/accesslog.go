package telemetry

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxPending bounds the lines that wait for the disk, in bytes.
	maxPending = 4 << 20
	// tellEvery is how often lost lines are told of.
	tellEvery = 10 * time.Second
)

// AccessLog writes one line for each exchange. Its destination is swapped by
// Prepare while exchanges go on; without one it costs nothing. It is safe for
// concurrent use.
type AccessLog struct {
	// set by NewAccessLog
	stdout io.Writer
	log    *slog.Logger

	encode atomic.Pointer[encoder] // nil while the log is off
	wake   chan struct{}

	written, dropped, failed atomic.Int64

	mu sync.Mutex // guards:
	// pending are whole lines. The spare buffer is the other of two that take
	// turns.
	pending, spare []byte
	out            destination
	old            []destination // to be finished by Run
}

// encoder appends one line.
type encoder func(line []byte, x *wire.Exchange) []byte

// destination is where lines go.
type destination struct {
	w      io.Writer
	closer io.Closer // nil if there is nothing to close
	rest   []byte    // lines that were meant for it when it was swapped out
}

// AccessLogStats are counters since the start.
type AccessLogStats struct {
	// Written lines; Dropped ones found the buffer full, Failed ones could not
	// be written.
	Written, Dropped, Failed int64
}

// NewAccessLog returns a log that is off until Prepare. The path "-" stands for
// stdout; log is told when lines are lost.
func NewAccessLog(stdout io.Writer, log *slog.Logger) *AccessLog {
	return &AccessLog{stdout: stdout, log: log, wake: make(chan struct{}, 1)}
}

// Prepare opens what c names; commit puts it in force. A nil c turns the log
// off. A commit that is never called leaves a file open until the process ends.
func (l *AccessLog) Prepare(c *AccessLogConfig) (commit func(), err error) {
	if c == nil {
		return func() { l.swap(nil, destination{}) }, nil
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	out := destination{w: l.stdout}
	if c.Path != "" && c.Path != "-" {
		file, err := os.OpenFile(c.Path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o640)
		if err != nil {
			return nil, at(c.Pos, "access_log: %v", err)
		}
		out = destination{w: file, closer: file}
	}
	encode := encoder(appendText)
	if json, _ := formats(c.Format); json {
		encode = appendJSON
	}
	return func() { l.swap(&encode, out) }, nil
}

func (l *AccessLog) swap(encode *encoder, out destination) {
	l.mu.Lock()
	if l.out.w != nil {
		l.out.rest, l.pending = l.pending, nil
		l.old = append(l.old, l.out)
	}
	l.out = out
	l.mu.Unlock()
	l.encode.Store(encode)
	l.signal()
}

// Layer notes each exchange; it stands outermost in a stack.
func (l *AccessLog) Layer(next wire.Service) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if l.encode.Load() != nil {
			x.OnEnd(l)
		}
		return next.Serve(x, req)
	})
}

var _ wire.End = (*AccessLog)(nil)

// End implements [wire.End]. The line is encoded under the lock, straight into
// the buffer: that takes half a microsecond and no memory.
func (l *AccessLog) End(x *wire.Exchange) {
	encode := l.encode.Load()
	if encode == nil {
		return
	}
	l.mu.Lock()
	before := len(l.pending)
	l.pending = (*encode)(l.pending, x)
	fits := len(l.pending) <= maxPending
	if !fits {
		l.pending = l.pending[:before]
	}
	l.mu.Unlock()
	if !fits {
		l.dropped.Add(1)
		return
	}
	l.signal()
}

func (l *AccessLog) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Run writes lines until ctx ends, then the rest of them, and closes the file.
// It is called once.
func (l *AccessLog) Run(ctx context.Context) error {
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	var told AccessLogStats
	for {
		select {
		case <-l.wake:
			l.flush()
		case <-tell.C:
			now := l.Stats()
			if now.Dropped+now.Failed > told.Dropped+told.Failed {
				l.log.Warn("access log lines lost", "dropped", now.Dropped-told.Dropped, "failed", now.Failed-told.Failed)
			}
			told = now
		case <-ctx.Done():
			l.swap(nil, destination{})
			l.flush()
			return nil
		}
	}
}

// flush writes all pending lines and finishes with what was swapped out.
func (l *AccessLog) flush() {
	l.mu.Lock()
	lines, out, old := l.pending, l.out, l.old
	l.pending, l.spare, l.old = l.spare[:0], nil, nil
	l.mu.Unlock()
	for _, gone := range old {
		l.write(gone.w, gone.rest)
		if gone.closer == nil {
			continue
		}
		if err := gone.closer.Close(); err != nil {
			l.log.Warn("old access log not closed", "err", err)
		}
	}
	l.write(out.w, lines)
	l.mu.Lock()
	l.spare = lines[:0]
	l.mu.Unlock()
}

func (l *AccessLog) write(w io.Writer, lines []byte) {
	if w == nil || len(lines) == 0 {
		return
	}
	count := int64(bytes.Count(lines, []byte{'\n'}))
	if _, err := w.Write(lines); err != nil {
		l.failed.Add(count)
		l.log.Debug("access log not written", "err", err)
		return
	}
	l.written.Add(count)
}

// Stats returns the counters.
func (l *AccessLog) Stats() AccessLogStats {
	return AccessLogStats{Written: l.written.Load(), Dropped: l.dropped.Load(), Failed: l.failed.Load()}
}
