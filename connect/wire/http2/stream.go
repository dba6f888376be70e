package http2

import (
	"io"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

// stream is one stream of a link, on either side. At most two goroutines wait on
// it: one that reads and one that writes.
type stream struct {
	// set by open
	l  *link
	id uint32
	// ex or trip is what the stream is a part of.
	ex   *exchange
	trip *trip

	// l.mu guards:
	cond sync.Cond
	// sendLeft and recvLeft are the windows, recvFreed what was read of ours and
	// not yet announced.
	sendLeft, recvLeft, recvFreed int64
	// left is what is left of the Content-Length of what we receive; negative
	// without one.
	left int64
	// first to last have arrived and were not read.
	first, last *buffer
	// remoteDone and localDone say that a direction has ended well.
	remoteDone, localDone bool
	// over is why the stream has ended early; nil if it has not.
	over error
	// dropped says that nobody will read any more.
	dropped bool
	// reading says that somebody is reading, torn that he was when it was closed.
	reading, torn bool
	trailer       wire.Header
	// readUntil and writeUntil are when who waits wants to be woken; zero for never.
	readUntil, writeUntil time.Time
	// began is how much of the link was written before the stream.
	began uint64
	// behind says that what it waits to send more of is still ours: it is to be looked at
	// again when more has left.
	behind bool
	// marked says that the stream is in l.woken.
	marked bool
}

// open makes s the stream id of l. The lock is held.
func (s *stream) open(l *link, id uint32, left int64) {
	if s.l != l { // a trip has it already, and may be cancelled at this moment
		s.l, s.cond.L = l, &l.mu
	}
	s.id = id
	s.sendLeft, s.recvLeft, s.recvFreed, s.left = l.sendFirst, int64(l.bounds.StreamWindow), 0, left
	s.first, s.last = nil, nil
	s.remoteDone, s.localDone, s.over, s.dropped, s.reading, s.torn = false, false, nil, false, false, false
	s.trailer.Reset()
	s.readUntil, s.writeUntil, s.behind = time.Time{}, time.Time{}, false
	s.began = l.written + uint64(len(l.out))
	l.streams[id] = s
	l.frames.Streams.Add(1)
}

// arrive takes data in. The lock is held.
func (s *stream) arrive(p []byte) {
	l := s.l
	if len(p) == 0 {
		return
	}
	if s.dropped {
		l.free(int64(len(p)))
		return
	}
	for len(p) > 0 {
		if s.last == nil || s.last.w == len(s.last.b) {
			b := l.bounds.Buffers.get(len(p) > smallBuffer || s.last != nil)
			if s.last == nil {
				s.first = b
			} else {
				s.last.next = b
			}
			s.last = b
		}
		n := copy(s.last.b[s.last.w:], p)
		s.last.w += n
		p = p[n:]
	}
	s.wake()
}

// receive reads what has arrived. It returns io.EOF with the last bytes, and
// neither bytes nor an error if it would have to wait. The lock is held.
func (s *stream) receive(p []byte) (n int, err error) {
	l := s.l
	for s.first != nil && n < len(p) {
		b := s.first
		m := copy(p[n:], b.b[b.r:b.w])
		n += m
		if b.r += m; b.r == b.w {
			s.first, b.next = b.next, nil
			if s.first == nil {
				s.last = nil
			}
			l.bounds.Buffers.put(b)
		}
	}
	if n > 0 {
		l.free(int64(n))
		s.free(int64(n))
	}
	switch {
	case s.first != nil:
	case s.remoteDone:
		return n, io.EOF
	case s.over != nil && n == 0:
		return 0, s.over
	}
	return n, nil
}

// drop forgets what has arrived: nobody will read it. The lock is held.
func (s *stream) drop() {
	s.dropped = true
	size := 0
	for b := s.first; b != nil; b = b.next {
		size += b.w - b.r
	}
	s.l.bounds.Buffers.put(s.first)
	s.first, s.last = nil, nil
	if size > 0 {
		s.l.free(int64(size))
	}
}

// free gives n bytes back to the window of the stream. The lock is held.
func (s *stream) free(n int64) {
	l := s.l
	if s.remoteDone || s.over != nil {
		return
	}
	if s.recvFreed += n; s.recvFreed*2 < int64(l.bounds.StreamWindow) {
		return
	}
	l.out = appendUpdate(l.out, s.id, s.recvFreed)
	s.recvLeft += s.recvFreed
	s.recvFreed = 0
}

// free gives n bytes back to the window of the connection. The lock is held.
func (l *link) free(n int64) {
	if l.recvFreed += n; l.recvFreed*2 < int64(l.bounds.ConnWindow) {
		return
	}
	l.out = appendUpdate(l.out, 0, l.recvFreed)
	l.recvLeft += l.recvFreed
	l.recvFreed = 0
}

// isReady tells whether the next read of s will not wait (some), and whether reading
// it to its end will not (whole). The lock is held.
func (s *stream) isReady() (some, whole bool) {
	whole = s.remoteDone || s.over != nil
	return whole || s.first != nil, whole
}

// await waits until something has changed about s, or until the time in *until
// has come, and tells which: false means the latter. The lock is held, and given
// back meanwhile.
func (s *stream) await(until *time.Time, at time.Time) bool {
	*until = at
	s.l.remind(at)
	s.cond.Wait()
	*until = time.Time{}
	return at.IsZero() || time.Now().Before(at)
}

// localEnd notes that our END_STREAM has been appended. The lock is held.
func (s *stream) localEnd() {
	s.localDone = true
	if s.remoteDone {
		s.l.end(s, nil, false)
	}
}

// abandon ends what is left of s, whichever way. The lock is held.
func (s *stream) abandon(code http2.ErrCode, err error) {
	s.l.reset(s, code, err)
	if s.over == nil && !s.localDone {
		s.over = err
	}
	s.drop()
	s.wake()
}

// wake wakes who waits on s. The lock is held; what the reader wakes wakes up when
// it has taken all that has arrived.
func (s *stream) wake() {
	l := s.l
	switch {
	case !l.taking:
		s.cond.Broadcast()
	case !s.marked:
		s.marked = true
		l.woken = append(l.woken, s)
	}
}
