// Package logfile writes lines to files without ever holding up who has something
// to say: lines are appended to a bounded buffer, one goroutine writes them, and
// what the disk does not take in time is dropped and counted.
package logfile

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
	// lookEvery is how often is looked whether a file was moved away.
	lookEvery = time.Second
	// lastLines is how long the last lines may take when Run ends; what takes
	// nothing must not hold up the end of the process.
	lastLines = 300 * time.Millisecond
)

// Writer writes lines to one destination at a time, which is swapped while lines
// come. It is safe for concurrent use.
type Writer struct {
	// set by New
	log  *slog.Logger
	wake chan struct{}

	written, dropped, failed atomic.Int64

	mu sync.Mutex // guards:
	// pending are whole lines. The spare buffer is the other of two that take
	// turns.
	pending, spare []byte
	before         int          // what was pending at Begin
	out            *Destination // nil while the log is off
	old            []*Destination
}

// Stats are counters since the start.
type Stats struct {
	// Written lines; Dropped ones found the buffer full, Failed ones could not
	// be written.
	Written, Dropped, Failed int64
}

// New returns a Writer without a destination; log is told when lines are lost.
func New(log *slog.Logger) *Writer { return &Writer{log: log, wake: make(chan struct{}, 1)} }

// To is a destination that stays open.
func To(w io.Writer) *Destination { return &Destination{w: w} }

// Open opens a file or FIFO to append to. One that has no reader is an error
// instead of a wait, and a write to one that is full can be given up: for that
// it must not block. A file that is moved away, or deleted, while lines come is
// opened anew: that is how logs are rotated.
func Open(path string) (*Destination, error) {
	file, err := openFile(path)
	if err != nil {
		return nil, err
	}
	d := &Destination{w: file, closer: file}
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		d.path = path
	}
	return d, nil
}

func openFile(path string) (*os.File, error) {
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY|syscall.O_NONBLOCK, 0o640)
	if errors.Is(err, syscall.ENXIO) {
		return nil, &os.PathError{Op: "open", Path: path, Err: errors.New("it is a FIFO that nobody reads")}
	}
	return file, err
}

// follow opens the file of d anew if it was moved away. It belongs to the goroutine
// that writes.
func (l *Writer) follow(d *Destination) {
	now := time.Now()
	if d.path == "" || now.Sub(d.looked) < lookEvery {
		return
	}
	d.looked = now
	file, ok := d.w.(*os.File)
	if !ok {
		return
	}
	ours, err := file.Stat()
	if err != nil {
		return
	}
	if there, err := os.Stat(d.path); err == nil && os.SameFile(ours, there) {
		return
	}
	fresh, err := openFile(d.path)
	if err != nil {
		if !d.told {
			d.told = true
			l.log.Warn("a log file that was moved away is not opened anew, lines still go to the old one: let us write into its folder", "path", d.path, "err", err)
		}
		return
	}
	l.mu.Lock()
	d.w, d.closer, d.torn, d.told = fresh, fresh, false, false
	l.mu.Unlock()
	file.Close()
}

// Swap puts another destination in force, nil for none. What is pending goes to the
// one before, or is lost if too many of those have not taken their lines yet.
func (l *Writer) Swap(out *Destination) {
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
	l.signal()
}

// Begin returns the buffer to append one line to, which Commit must get back: the
// Writer is locked in between, which must be short.
func (l *Writer) Begin() []byte {
	l.mu.Lock()
	l.before = len(l.pending)
	return l.pending
}

// Commit takes the buffer that Begin has given, with one line more. If that does
// not fit it is dropped.
func (l *Writer) Commit(line []byte) {
	l.pending = line
	fits := len(line) <= maxPending
	if !fits {
		l.pending = line[:l.before]
	}
	l.mu.Unlock()
	if !fits {
		l.dropped.Add(1)
		return
	}
	l.signal()
}

func (l *Writer) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Stats returns the counters.
func (l *Writer) Stats() Stats {
	return Stats{Written: l.written.Load(), Dropped: l.dropped.Load(), Failed: l.failed.Load()}
}

func lines(text []byte) int64 { return int64(bytes.Count(text, []byte{'\n'})) }
