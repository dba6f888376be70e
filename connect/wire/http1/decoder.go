package http1

import (
	"bytes"
	"errors"
	"io"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/grammar"
)

// maxChunkLine bounds the line before a chunk, its extension included.
const maxChunkLine = 512

// decoder takes the body of one message off a source (RFC 9112 sections 6 and 7).
type decoder struct {
	src   *source
	frame frame
	lim   limits
	state chunkState
	// left is what is left of the body, or of the current chunk.
	left int64
	// excess is by how much chunk lines outweigh data, which is bounded.
	excess  int64
	done    bool
	trailer wire.Header
}

// chunkState is what comes next in a chunked body.
type chunkState uint8

const (
	chunkLine    chunkState = iota // the size of a chunk
	chunkData                      // left bytes of data
	chunkEnd                       // the CRLF after data
	chunkTrailer                   // the trailer section
)

// start begins a body; length counts for frameLength only.
func (d *decoder) start(src *source, f frame, length int64, lim limits) {
	d.src, d.frame, d.lim = src, f, lim
	d.state, d.left, d.excess = chunkLine, length, 0
	d.done = f == frameNone
	d.trailer.Reset()
}

// read returns io.EOF with or after the last bytes, io.ErrUnexpectedEOF if the
// connection ends before the body, and a problem if the body is malformed. It
// does not wait once it has something.
func (d *decoder) read(p []byte) (n int, err error) {
	switch {
	case d.done:
		return 0, io.EOF
	case len(p) == 0:
		return 0, nil
	}
	switch d.frame {
	case frameLength:
		n, err = d.plain(p[:min(int64(len(p)), d.left)])
		d.left -= int64(n)
		d.done = d.left == 0
	case frameChunked:
		n, err = d.chunked(p)
	default:
		n, err = d.plain(p)
		if errors.Is(err, io.EOF) {
			d.done = true
			return n, err
		}
	}
	switch {
	case d.done && err == nil:
		return n, io.EOF
	case errors.Is(err, io.EOF):
		return n, io.ErrUnexpectedEOF
	}
	return n, err
}

// plain reads bytes that are not framed.
func (d *decoder) plain(p []byte) (int, error) {
	if have := d.src.unread(); len(have) > 0 {
		n := copy(p, have)
		d.src.r += n
		return n, nil
	}
	return d.src.read(p)
}

// chunked reads the data of as many chunks as have arrived and fit.
func (d *decoder) chunked(p []byte) (n int, err error) {
	for !d.done {
		have := d.src.unread()
		used, more := 0, false
		switch d.state {
		case chunkLine:
			used, err = d.line(have)
			more = used == 0
		case chunkData:
			if n == len(p) {
				return n, nil
			}
			used = copy(p[n:], have[:min(int64(len(have)), d.left)])
			n += used
			if used == 0 && n == 0 && d.left >= smallBuffer && len(p) >= smallBuffer {
				n, err = d.src.read(p[:min(int64(len(p)), d.left)])
				d.took(n)
				return n, err
			}
			more = used == 0
			d.took(used)
		case chunkEnd:
			switch {
			case len(have) > 0 && have[0] != '\r' || len(have) > 1 && have[1] != '\n':
				err = errBadChunk
			case len(have) > 1:
				used, d.state = 2, chunkLine
			default:
				more = true
			}
		case chunkTrailer:
			used, err = d.trailers(have)
			more = used == 0
		}
		d.src.r += used
		switch {
		case err != nil && n > 0:
			return n, nil // the same error comes again
		case err != nil:
			return 0, err
		case !more:
		case n > 0:
			return n, nil
		default:
			if err = d.src.fill(); err != nil {
				return 0, err
			}
		}
	}
	d.src.hold()
	return n, nil
}

// took counts n bytes of data.
func (d *decoder) took(n int) {
	if d.left -= int64(n); d.left == 0 {
		d.state = chunkEnd
	}
}

// line reads the line before a chunk from have and returns its length, 0 if it
// has not arrived.
func (d *decoder) line(have []byte) (int, error) {
	size, used, p := parseChunkLine(have)
	if p != 0 || used == 0 {
		return 0, p.err()
	}
	// A chunk line of a reasonable sender has 16 bytes at most, and its data
	// outweighs it.
	if d.excess = max(0, d.excess+int64(used)-16-2*size); d.excess > mediumBuffer {
		return 0, errBadChunk
	}
	d.left = size
	d.state = chunkData
	if size == 0 {
		d.state = chunkTrailer
	}
	return used, nil
}

// parseChunkLine reads "size[;extension]CRLF"; used is 0 if it is not complete.
func parseChunkLine(b []byte) (size int64, used int, p problem) {
	i := 0
	for ; i < len(b) && grammar.IsHex(b[i]); i++ {
		if size > 1<<56 {
			return 0, 0, errBadChunk
		}
		size = size<<4 | int64(hexValue(b[i]))
	}
	switch {
	case i == len(b) && i < maxChunkLine:
		return 0, 0, 0
	case i == 0, i == len(b), b[i] != '\r' && b[i] != ';':
		return 0, 0, errBadChunk
	}
	end := bytes.IndexByte(b[:min(len(b), maxChunkLine)], '\n')
	switch {
	case end < 0 && len(b) >= maxChunkLine:
		return 0, 0, errBadChunk
	case end < 0 && b[i] == '\r' && len(b) > i+1:
		return 0, 0, errBadChunk
	case end < 0:
		return 0, 0, 0
	case b[end-1] != '\r' || !grammar.IsValue(b[i:end-1]):
		return 0, 0, errBadChunk
	}
	return size, end + 1, 0
}

func hexValue(c byte) byte {
	if c <= '9' {
		return c - '0'
	}
	return c&^0x20 - 'A' + 10
}

// trailers reads the trailer section from have and returns its length, 0 if it
// has not arrived.
func (d *decoder) trailers(have []byte) (int, error) {
	used := trailerEnd(have)
	switch {
	case used > d.lim.bytes, used == 0 && len(have) > d.lim.bytes:
		return 0, errBadTrailer
	case used == 0:
		return 0, checkLines(have, 0).err()
	}
	if p := parseTrailers(have[:used], d.lim, &d.trailer); p != 0 {
		return 0, p
	}
	d.done = true
	return used, nil
}

// trailerEnd returns the length of the trailer section that b begins with, its
// empty line included, or 0 if it is not complete.
func trailerEnd(b []byte) int {
	if len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
		return 2
	}
	return headEnd(b, 0)
}

// ready tells whether the next read will not wait; whole whether none will.
func (d *decoder) ready() (some, whole bool) {
	have := d.src.unread()
	switch {
	case d.done:
		return true, true
	case d.frame == frameLength:
		return len(have) > 0, int64(len(have)) >= d.left
	case d.frame != frameChunked:
		return len(have) > 0, false
	}
	state, left := d.state, d.left
	for {
		switch state {
		case chunkLine:
			size, used, p := parseChunkLine(have)
			if p != 0 {
				return true, true // the error comes without waiting
			}
			if used == 0 {
				return some, false
			}
			have, left, state = have[used:], size, chunkData
			if size == 0 {
				state = chunkTrailer
			}
		case chunkData:
			some = some || len(have) > 0
			if int64(len(have)) < left+2 {
				return some, false
			}
			have, state = have[left+2:], chunkLine
		case chunkEnd:
			if len(have) < 2 {
				return some, false
			}
			have, state = have[2:], chunkLine
		case chunkTrailer:
			whole = trailerEnd(have) > 0
			return some || whole, whole
		}
	}
}
