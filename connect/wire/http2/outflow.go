package http2

import (
	"runtime"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

const (
	// maxQueued is how much may wait to be written before those who want to add
	// data wait, too.
	maxQueued = 256 << 10
	// maxRounds is how often a goroutine writes what others add meanwhile, before
	// it leaves that to one of its own.
	maxRounds = 4
	// slowly is how long a write takes that waits for the other side.
	slowly = time.Second
)

// outflow is what a link has to write. Those who have something to say append it
// under the lock; one of them writes for all. link.mu guards it.
type outflow struct {
	out, spare []byte
	// flushing says that somebody writes, full that somebody waits for room.
	flushing, full bool
	// opened is when there was last room, or more of the connection's window.
	opened time.Time
	// flushed is told when nobody writes any more.
	flushed sync.Cond
	// parting says that the write deadline is the last one.
	parting bool
	// written counts the bytes that were given to the socket, left those of them that
	// it has taken.
	written, left uint64
	// behind says that a stream is.
	behind bool
	// deadline is the write deadline that is set. Owned by who flushes.
	deadline time.Time
}

// unlock gives the lock back and sees to it that what was appended leaves: the
// caller writes it, unless somebody does already, or else if reader is true,
// since who reads must not wait for the other side to do so.
func (l *link) unlock(reader bool) {
	if !l.mayFlush() {
		l.mu.Unlock()
		return
	}
	l.flushing = true
	l.mu.Unlock()
	if reader {
		go l.flush(-1)
		return
	}
	runtime.Gosched() // others may have something to add
	l.flush(maxRounds)
}

// mayFlush tells whether there is something to write and nobody who does. The lock
// is held.
func (l *link) mayFlush() bool { return len(l.out) > 0 && !l.flushing && l.dead == nil }

// flush writes until nothing is left, or for so many rounds; negative for no
// bound. Its caller has set flushing.
func (l *link) flush(rounds int) {
	for {
		l.mu.Lock()
		if len(l.out) == 0 || l.dead != nil {
			l.flushing = false
			l.flushed.Broadcast()
			l.mu.Unlock()
			return
		}
		if rounds == 0 {
			l.mu.Unlock()
			go l.flush(-1)
			return
		}
		rounds--
		b := l.out
		l.out, l.spare = l.spare[:0], nil
		l.written += uint64(len(b))
		parting := l.parting
		l.mu.Unlock()

		began := time.Now()
		if !parting {
			l.armWrite(began)
		}
		_, err := l.nc.Write(b)

		l.mu.Lock()
		l.left += uint64(len(b))
		if !l.pinged.IsZero() && time.Since(began) > slowly {
			l.pinged = time.Now() // it could not be answered before
		}
		if cap(b) <= 2*maxQueued {
			l.spare = b
		}
		if l.full {
			l.full, l.opened = false, time.Now()
			l.wakeWriters()
		}
		if l.behind {
			l.behind = false
			l.wakeBehind()
		}
		if err != nil {
			l.flushing = false
			l.flushed.Broadcast()
			l.fail(err)
			l.mu.Unlock()
			base(l.nc).Close() // the reader sees it, and ends all
			return
		}
		l.mu.Unlock()
	}
}

// armWrite sets the write deadline, if the one that is set will not do.
func (l *link) armWrite(now time.Time) {
	d := l.bounds.WriteTimeout
	if d <= 0 {
		return
	}
	if until := l.deadline; until.Sub(now) < d {
		l.deadline = now.Add(d + d/8)
		l.nc.SetWriteDeadline(l.deadline) //nolint:errcheck // the write tells
	}
}

// wakeWriters wakes all who may wait for a window or for room. The lock is held.
func (l *link) wakeWriters() {
	for _, s := range l.streams {
		s.wake()
	}
}

// wakeBehind wakes those who are behind. The lock is held.
func (l *link) wakeBehind() {
	for _, s := range l.streams {
		if s.behind {
			s.wake()
		}
	}
}

// beginHead begins the frame of a header block, which the caller appends behind it,
// and endHead ends it. The lock is held.
func (l *link) beginHead(id uint32, ended bool) (start int) {
	flags := http2.FlagHeadersEndHeaders
	if ended {
		flags |= http2.FlagHeadersEndStream
	}
	start = len(l.out)
	l.out = appendFrame(l.out, 0, http2.FrameHeaders, flags, id)
	return start
}

func (l *link) endHead(start int) {
	size := len(l.out) - start - frameHead
	if size > l.sendFrame {
		l.split(start, size)
		return
	}
	b := l.out[start:]
	b[0], b[1], b[2] = byte(size>>16), byte(size>>8), byte(size)
}

// split cuts a header block of size bytes behind start into frames.
func (l *link) split(start, size int) {
	h := parseHead(l.out[start:])
	block := append(make([]byte, 0, size), l.out[start+frameHead:]...)
	l.out = appendFrame(l.out[:start], l.sendFrame, http2.FrameHeaders, h.Flags&^http2.FlagHeadersEndHeaders, h.StreamID)
	l.out = append(l.out, block[:l.sendFrame]...)
	for block = block[l.sendFrame:]; len(block) > l.sendFrame; block = block[l.sendFrame:] {
		l.out = appendFrame(l.out, l.sendFrame, http2.FrameContinuation, 0, h.StreamID)
		l.out = append(l.out, block[:l.sendFrame]...)
	}
	l.out = appendFrame(l.out, len(block), http2.FrameContinuation, http2.FlagContinuationEndHeaders, h.StreamID)
	l.out = append(l.out, block...)
}

// checkFields tells whether all fields of h may be written.
func checkFields(h *wire.Header) error {
	for i := range h.Len() {
		if f := h.At(i); !grammar.IsName(f.Name) || !isValue(f.Value) {
			return errBadField
		}
	}
	return nil
}

// trailers appends the trailers of s and ends it. The lock is held.
func (s *stream) trailers(h *wire.Header) {
	l := s.l
	start := l.beginHead(s.id, true)
	l.out = appendFields(l.enc, l.enc.begin(l.out), h)
	l.endHead(start)
	s.localEnd()
}

// send appends as much of p as the windows allow, and END_STREAM behind the last
// byte if ended. It returns what is left. The lock is held.
func (s *stream) send(p []byte, ended bool) []byte {
	l := s.l
	for len(p) > 0 && len(l.out) < maxQueued {
		n := min(int64(len(p)), int64(l.sendFrame), l.sendLeft, s.sendLeft)
		if n <= 0 {
			return p
		}
		flags := http2.Flags(0)
		if ended && int(n) == len(p) {
			flags = http2.FlagDataEndStream
		}
		l.out = append(appendFrame(l.out, int(n), http2.FrameData, flags, s.id), p[:n]...)
		l.sendLeft -= n
		s.sendLeft -= n
		l.control.earn(10)
		p = p[n:]
		if flags != 0 {
			s.localEnd()
		}
	}
	return p
}

// sendAll sends all of p, waiting for windows and room as long as side bears.
// The lock is held, and given back meanwhile. The error is why s is over, or
// errStalled.
func (s *stream) sendAll(p []byte, ended bool, side sending) error {
	l := s.l
	var since time.Time // nothing has been appended, or what was has left, since then
	var mark uint64     // is what was appended to the link by then
	stuck := -1         // so much of p was left then
	for {
		if s.over != nil {
			return s.over
		}
		if s.localDone {
			return errEndedStream
		}
		if len(p) == 0 {
			if ended {
				l.out = appendFrame(l.out, 0, http2.FrameData, http2.FlagDataEndStream, s.id)
				s.localEnd()
			}
			return nil
		}
		if p = s.send(p, ended); len(p) == 0 {
			return nil
		}
		// What we have may be what the other side needs to open its window.
		if l.mayFlush() {
			l.unlock(false)
			l.mu.Lock()
			continue
		}
		if len(p) != stuck {
			stuck, mark, s.behind = len(p), l.written+uint64(len(l.out)), true
		}
		if s.behind {
			since, s.behind = time.Now(), l.left < mark
		}
		l.behind = l.behind || s.behind
		from := since
		if s.sendLeft > 0 { // it is the connection that takes nothing, or only of others
			from = later(from, l.opened)
		}
		l.full = l.full || len(l.out) >= maxQueued
		if !s.await(&s.writeUntil, side.writeLimit(from)) && (!s.behind || reached(side.writeLimit(time.Now()), time.Now())) {
			return errStalled
		}
	}
}
