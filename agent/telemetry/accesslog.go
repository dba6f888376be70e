package telemetry

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxPending bounds the lines that wait for the disk, in bytes.
	maxPending = 4 << 20
	// maxOld bounds destinations that were swapped out and still have lines.
	maxOld = 4
	// tellEvery is how often lost lines are told of.
	tellEvery = 10 * time.Second
	// lingerFor is how long a line waits for others to be written with.
	lingerFor = 10 * time.Millisecond
	// lastLines is how long the last lines may take when Run ends; what takes
	// nothing must not hold up the end of the process.
	lastLines = 300 * time.Millisecond
)

// AccessLog writes one line for each exchange and TCP connection. Its
// destination is swapped by Prepare while exchanges go on; without one it costs
// nothing. It is safe for concurrent use.
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
	out            *destination // nil while the log is off
	old            []*destination
}

// encoder appends one line.
type encoder func(line []byte, p *Place, x *wire.Exchange) []byte

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
		return func() { l.swap(nil, nil) }, nil
	}
	if err := c.Validate(); err != nil {
		return nil, err
	}
	out := &destination{w: l.stdout}
	if c.Path != "" && c.Path != "-" {
		file, err := open(c.Path)
		if err != nil {
			return nil, at(c.Pos, "access_log: %v", err)
		}
		out = &destination{w: file, closer: file}
	}
	encode := encoder(appendText)
	if json, _ := formats(c.Format); json {
		encode = appendJSON
	}
	return func() { l.swap(&encode, out) }, nil
}

// open opens a file or FIFO to append to. One that has no reader is an error
// instead of a wait, and a write to one that is full can be given up: for that
// it must not block.
func open(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640)
	if errors.Is(err, syscall.ENXIO) {
		return nil, &os.PathError{Op: "open", Path: path, Err: errors.New("it is a FIFO that nobody reads")}
	}
	return file, err
}

// swap puts another destination in force. What is pending goes to the one
// before, or is lost if too many of those have not taken their lines yet.
func (l *AccessLog) swap(encode *encoder, out *destination) {
	l.mu.Lock()
	gone := l.out
	l.out = out
	if gone != nil {
		if len(l.old) >= maxOld {
			l.dropped.Add(lines(l.pending))
			l.pending = l.pending[:0]
		}
		gone.rest, l.pending = l.pending, nil
		l.old = append(l.old, gone)
	}
	l.mu.Unlock()
	l.encode.Store(encode)
	l.signal()
}

// Log writes one line on x, which has ended, at p. The line is encoded under the
// lock, straight into the buffer: that takes less than a microsecond and no memory.
func (l *AccessLog) Log(p *Place, x *wire.Exchange) {
	encode := l.encode.Load()
	if encode == nil {
		return
	}
	l.mu.Lock()
	before := len(l.pending)
	l.pending = (*encode)(l.pending, p, x)
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

// Stats returns the counters.
func (l *AccessLog) Stats() AccessLogStats {
	return AccessLogStats{Written: l.written.Load(), Dropped: l.dropped.Load(), Failed: l.failed.Load()}
}

func lines(text []byte) int64 { return int64(bytes.Count(text, []byte{'\n'})) }
