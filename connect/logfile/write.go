package logfile

import (
	"context"
	"fmt"
	"io"
	"time"
)

// Destination is where lines go. It belongs to the goroutine that writes, but
// for its closer.
type Destination struct {
	w      io.Writer
	closer io.Closer // nil if there is nothing to close
	// path is that of the file, "" if it is none that might be moved away; looked is
	// when that was looked at last.
	path   string
	looked time.Time
	rest   []byte // lines that were meant for it when it was swapped out
	// torn says that the last write broke off within a line; told that it was told that
	// the file could not be opened anew.
	torn, told bool
}

// Run writes lines until ctx ends, then the rest of them, and closes the file.
// If the destination does not take the last lines in a while, they are lost, and
// an error says so. It is called once.
func (l *Writer) Run(ctx context.Context) error {
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		l.writeUntil(stop)
	}()
	tell := time.NewTicker(tellEvery)
	defer tell.Stop()
	var told Stats
	for {
		select {
		case <-tell.C:
			told = l.tell(told)
			continue
		case <-ctx.Done():
		}
		break
	}
	l.Swap(nil)
	close(stop)
	return l.finish(done)
}

// tell logs what was lost since it was told last.
func (l *Writer) tell(told Stats) Stats {
	now := l.Stats()
	if now.Dropped+now.Failed > told.Dropped+told.Failed {
		l.log.Warn("access log lines lost", "dropped", now.Dropped-told.Dropped, "failed", now.Failed-told.Failed)
	}
	return now
}

// finish waits for the writer, but not for ever: a write that blocks is given up
// by closing the file, or left alone where that does not help.
func (l *Writer) finish(done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-time.After(lastLines):
	}
	l.mu.Lock()
	var lost int64
	for _, d := range l.old {
		lost += lines(d.rest)
		d.rest = nil
		if d.closer != nil {
			d.closer.Close()
		}
	}
	l.mu.Unlock()
	l.dropped.Add(lost)
	select {
	case <-done:
	case <-time.After(lastLines):
	}
	return fmt.Errorf("access log: the last lines are lost, %d of them not begun: the destination does not take them", lost)
}

// writeUntil writes lines until stop is closed, and then what is left.
func (l *Writer) writeUntil(stop <-chan struct{}) {
	linger := time.NewTimer(0)
	defer linger.Stop()
	for {
		select {
		case <-l.wake:
		case <-stop:
			l.flush()
			return
		}
		// Others follow soon: to be woken for each line costs more than the lines.
		linger.Reset(lingerFor)
		select {
		case <-linger.C:
		case <-stop:
		}
		l.flush()
	}
}

// flush writes all pending lines and finishes with what was swapped out.
func (l *Writer) flush() {
	for l.flushOld() {
	}
	l.mu.Lock()
	text, out := l.pending, l.out
	l.pending, l.spare = l.spare[:0], nil
	l.mu.Unlock()
	l.write(out, text)
	l.mu.Lock()
	l.spare = text[:0]
	l.mu.Unlock()
}

// flushOld finishes with the oldest destination that was swapped out, and tells
// whether there was one. It stays in the list meanwhile, where finish finds it.
func (l *Writer) flushOld() bool {
	l.mu.Lock()
	if len(l.old) == 0 {
		l.mu.Unlock()
		return false
	}
	gone := l.old[0]
	text := gone.rest
	gone.rest = nil
	l.mu.Unlock()
	l.write(gone, text)
	l.mu.Lock()
	l.old = l.old[1:]
	l.mu.Unlock()
	if gone.closer != nil {
		if err := gone.closer.Close(); err != nil {
			l.log.Warn("old access log not closed", "err", err)
		}
	}
	return true
}

// write writes whole lines. A write that breaks off within one ends it first the
// next time, so that no more than that is lost.
func (l *Writer) write(d *Destination, text []byte) {
	if d == nil || len(text) == 0 {
		return
	}
	l.follow(d)
	if d.torn {
		if _, err := d.w.Write([]byte{'\n'}); err == nil {
			d.torn = false
		}
	}
	count := lines(text)
	n, err := d.w.Write(text)
	if err == nil {
		l.written.Add(count)
		return
	}
	whole := lines(text[:n])
	d.torn = d.torn || n > 0 && text[n-1] != '\n'
	l.written.Add(whole)
	l.failed.Add(count - whole)
	l.log.Debug("access log not written", "err", err)
}
