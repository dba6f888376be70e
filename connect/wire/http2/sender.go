package http2

import (
	"errors"
	"io"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

// sending is what an exchange and a trip do in their own ways while their body is
// sent. All methods are called with the lock held.
type sending interface {
	// sendHead appends the head.
	sendHead() error
	// writeLimit is until when the other side may keep its window shut, which it
	// does since then.
	writeLimit(since time.Time) time.Time
	// touch notes that bytes have moved.
	touch()
}

// sender sends one body behind a head. What is at hand leaves together, what is
// not at hand keeps nothing waiting.
type sender struct {
	s      *stream
	length int64 // of the body, negative if it is not known
	side   sending
	headed bool // the head has left

	read, sent int64
	// buf[:have] was read before copy, and ended says that it is all.
	buf   *buffer
	have  int
	ended bool
}

// begin appends the head if it has not been. The lock is held.
func (o *sender) begin() error {
	if o.headed {
		return nil
	}
	if err := o.side.sendHead(); err != nil {
		return err
	}
	o.headed = true
	return nil
}

// copy reads body to its end and sends it. A body that breaks is never ended
// cleanly; if it breaks before anything was sent, nothing is.
func (o *sender) copy(body wire.Body) (readErr, writeErr error) {
	l := o.s.l
	if !wire.BodyAtHand(body) && o.have == 0 && !o.ended {
		l.mu.Lock()
		writeErr = o.begin()
		l.unlock(false)
		if writeErr != nil {
			return nil, writeErr
		}
	}
	if o.buf == nil {
		o.buf = l.bounds.Buffers.get(o.length < 0 || o.length > smallBuffer)
	}
	defer func() { l.bounds.Buffers.put(o.buf); o.buf = nil }()
	for {
		full, err := o.gather(body)
		last := errors.Is(err, io.EOF)
		switch {
		case o.length >= 0 && o.read > o.length:
			return errTooLong, nil
		case last && o.length >= 0 && o.read < o.length:
			return io.ErrUnexpectedEOF, nil
		case err != nil && !last && !o.headed && o.sent == 0:
			return err, nil
		}
		if writeErr = o.emit(body, last); writeErr != nil || last {
			return nil, writeErr
		}
		if err != nil {
			return err, nil
		}
		if full && len(o.buf.b) == smallBuffer {
			l.bounds.Buffers.put(o.buf)
			o.buf = l.bounds.Buffers.get(true)
		}
	}
}

// gather waits for the first bytes and reads what else is at hand. full says that
// there is no room for more.
func (o *sender) gather(body wire.Body) (full bool, err error) {
	if o.ended {
		return false, io.EOF
	}
	for empty := 0; ; {
		n, err := body.Read(o.buf.b[o.have:])
		o.have += n
		o.read += int64(n)
		full = o.have == len(o.buf.b)
		switch {
		case err != nil || full:
			return full, err
		case n > 0:
			empty = 0
		default:
			if empty++; empty > 100 {
				return false, io.ErrNoProgress
			}
		}
		if o.have > 0 && !wire.BodyAtHand(body) {
			return false, nil
		}
	}
}

// emit sends the head and what was gathered, and the end if last.
func (o *sender) emit(body wire.Body, last bool) error {
	var trailer *wire.Header
	if last {
		if trailer = body.Trailer(); trailer.Len() == 0 {
			trailer = nil
		} else if err := checkFields(trailer); err != nil {
			return err
		}
	}
	s, l := o.s, o.s.l
	l.mu.Lock()
	defer l.unlock(false)
	if err := o.begin(); err != nil {
		return err
	}
	if err := s.sendAll(o.buf.b[:o.have], last && trailer == nil, o.side); err != nil {
		if errors.Is(err, errStalled) {
			l.frames.Stalled.Add(1)
			s.abandon(http2.ErrCodeCancel, errStalled)
		}
		return err
	}
	o.sent += int64(o.have)
	o.have = 0
	if trailer != nil {
		s.trailers(trailer)
	}
	o.side.touch()
	return nil
}
