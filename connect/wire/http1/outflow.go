package http1

import (
	"errors"
	"io"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// breach is a message that breaks its own word, or ours.
type breach string

func (b breach) Error() string { return string(b) }

const (
	errTooLong     breach = "body is longer than its Content-Length"
	errBadField    breach = "field with an invalid character"
	errClosedBody  breach = "read of a closed body"
	errBadResponse breach = "response that cannot be sent"
	errBadRequest  breach = "request that cannot be sent"
	panicked       breach = "panic while serving"
	errNoAnswer    breach = "neither response nor error"
	stalled        breach = "timeout"
	errUnasked     breach = "bytes that nobody asked for"
)

const (
	chunkPrefix = 10 // room for the size of a chunk and CRLF
	chunkSuffix = 7  // CRLF, and "0" CRLF CRLF
	bodyRoom    = 512
)

// outflow writes one body behind a head. What is at hand leaves in one write,
// what is not at hand keeps nothing waiting.
type outflow struct {
	snk  *sink
	pool *Buffers
	// buf.b[:head] is a head that has not left yet; at least bodyRoom follows.
	buf  *buffer
	head int
	// now is the time of the first write, if it is known.
	now time.Time

	frame  frame
	length int64 // for frameLength
	// read and sent count bytes of the body, wrote all bytes that have left.
	read, sent, wrote int64
	// ending, if not nil, is set before the write that ends the body.
	ending *atomic.Bool
	// whole, if not nil, gets the time when all of the body was read, in
	// nanoseconds since begun.
	whole *atomic.Int64
	begun time.Time
}

// copy reads body to its end and writes it. A body that breaks is never ended
// cleanly; if it breaks before anything has left, nothing is written.
func (o *outflow) copy(body wire.Body) (readErr, writeErr error) {
	if o.head > 0 && !wire.BodyAtHand(body) {
		if writeErr = o.flush(0, o.head); writeErr != nil {
			return nil, writeErr
		}
	}
	for {
		n, full, err := o.gather(body)
		last := errors.Is(err, io.EOF)
		switch {
		case o.frame == frameLength && o.read > o.length:
			return errTooLong, nil
		case last && o.frame == frameLength && o.read < o.length:
			err, last = io.ErrUnexpectedEOF, false
		}
		if err != nil && !last && o.wrote == 0 {
			return err, nil
		}
		if o.whole != nil && (last || o.frame == frameLength && o.read == o.length) {
			o.whole.CompareAndSwap(0, max(1, int64(time.Since(o.begun))))
		}
		if last && o.ending != nil {
			o.ending.Store(true)
		}
		if writeErr = o.emit(body, n, last); writeErr != nil {
			return nil, writeErr
		}
		switch {
		case last:
			return nil, nil
		case err != nil:
			return err, nil
		case full && len(o.buf.b) < largeBuffer:
			o.pool.put(o.buf)
			o.buf = o.pool.get(largeBuffer)
		}
	}
}

// gather waits for the first bytes and reads what else is at hand, behind the
// head. full says that there is no room for more.
func (o *outflow) gather(body wire.Body) (n int, full bool, err error) {
	space := o.buf.b[o.head:]
	if o.frame == frameChunked {
		space = space[chunkPrefix : len(space)-chunkSuffix]
	}
	for empty := 0; ; {
		m, err := body.Read(space[n:])
		n += m
		o.read += int64(m)
		full = n == len(space)
		switch {
		case err != nil || full:
			return n, full, err
		case m > 0:
			empty = 0
		default:
			if empty++; empty > 100 {
				return n, false, io.ErrNoProgress
			}
		}
		if n > 0 && !wire.BodyAtHand(body) {
			return n, false, nil
		}
	}
}

// emit writes the head, the n bytes gathered behind it, and the end if last.
func (o *outflow) emit(body wire.Body, n int, last bool) error {
	start, end := 0, o.head+n
	if o.frame == frameChunked {
		start, end = o.chunk(n)
		if last {
			var err error
			if start, end, err = o.finish(start, end, body.Trailer()); err != nil {
				return err
			}
		}
	}
	if err := o.flush(start, end); err != nil {
		return err
	}
	o.sent += int64(n)
	return nil
}

// chunk frames n bytes that lie behind the head and the room for the prefix.
func (o *outflow) chunk(n int) (start, end int) {
	if n == 0 {
		return 0, o.head
	}
	var digits [chunkPrefix]byte
	prefix := append(strconv.AppendUint(digits[:0], uint64(n), 16), '\r', '\n')
	start = chunkPrefix - len(prefix)
	copy(o.buf.b[start:], o.buf.b[:o.head])
	copy(o.buf.b[start+o.head:], prefix)
	end = o.head + chunkPrefix + n
	end += copy(o.buf.b[end:], "\r\n")
	return start, end
}

// finish appends the last chunk and the trailers to what lies between start and
// end, and writes that first if there is no room.
func (o *outflow) finish(start, end int, trailer *wire.Header) (newStart, newEnd int, err error) {
	size := len("0\r\n\r\n") + fieldsSize(trailer)
	if end+size > len(o.buf.b) {
		if err = o.flush(start, end); err != nil {
			return 0, 0, err
		}
		if start, end = 0, 0; size > len(o.buf.b) {
			o.pool.put(o.buf)
			o.buf = o.pool.get(size)
		}
	}
	b := append(o.buf.b[:end], "0\r\n"...)
	for i := range trailer.Len() {
		field := trailer.At(i)
		if grammar.Own(field.Name) {
			continue
		}
		if b, err = appendField(b, field.Name, field.Value); err != nil {
			return 0, 0, err
		}
	}
	return start, len(append(b, "\r\n"...)), nil
}

// flush writes what lies between start and end of the buffer.
func (o *outflow) flush(start, end int) error {
	o.head = 0
	if start == end {
		return nil
	}
	now := o.now
	if o.now = (time.Time{}); now.IsZero() {
		now = time.Now()
	}
	n, err := o.snk.write(now, o.buf.b[start:end])
	o.wrote += int64(n)
	return err
}
