package stack

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"

	"github.com/serai-net/serai/connect/wire"
)

const (
	// textChunk is how much of a body is made base64, or read of it, at a time;
	// a multiple of 3 and 4.
	textChunk = 12 << 10
	// trailerFrame begins the frame with the trailers.
	trailerFrame = 0x80
)

// webBody is the body of a response in gRPC-Web: that of gRPC, and behind it a
// frame with its trailers.
type webBody struct {
	body wire.Body
	text bool

	// rest is what was made and not read; ended says that nothing follows it.
	rest  []byte
	ended bool
	// plain and encoded are memory of the text variant.
	plain, encoded []byte
}

// Read implements [wire.Body].
func (b *webBody) Read(p []byte) (n int, err error) {
	switch {
	case len(p) == 0:
		return 0, nil
	case len(b.rest) > 0:
	case b.ended:
		return 0, io.EOF
	case b.text:
		if b.plain == nil {
			b.plain = make([]byte, textChunk)
		}
		if n, err = b.body.Read(b.plain); n > 0 {
			b.encoded = base64.StdEncoding.AppendEncode(b.encoded[:0], b.plain[:n])
			b.rest = b.encoded
		}
		n = 0
	default:
		n, err = b.body.Read(p)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		return n, err
	}
	if err != nil {
		b.ended = true
		b.rest = b.appendTrailer(b.rest)
	}
	m := copy(p[n:], b.rest)
	b.rest = b.rest[m:]
	if n += m; b.ended && len(b.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

// appendTrailer appends the frame with the trailers, if there are some.
func (b *webBody) appendTrailer(to []byte) []byte {
	trailer := b.body.Trailer()
	if trailer.Len() == 0 {
		return to
	}
	frame := []byte{trailerFrame, 0, 0, 0, 0}
	for name, value := range trailer.All() {
		frame = append(frame, name...)
		frame = append(frame, ':')
		frame = append(frame, value...)
		frame = append(frame, "\r\n"...)
	}
	binary.BigEndian.PutUint32(frame[1:], uint32(len(frame)-5))
	if b.text {
		return base64.StdEncoding.AppendEncode(to, frame)
	}
	return append(to, frame...)
}

// Trailer implements [wire.Body]: all is in the body.
func (b *webBody) Trailer() *wire.Header { return nil }

// Buffered implements [wire.Buffered].
func (b *webBody) Buffered() bool { return b.ended || wire.BodyBuffered(b.body) }

// AtHand implements [wire.AtHand].
func (b *webBody) AtHand() bool { return b.ended || len(b.rest) > 0 || wire.BodyAtHand(b.body) }

// Close implements [wire.Body].
func (b *webBody) Close() error { return b.body.Close() }

// textReader decodes a body of base64. A client may pad each of its messages, so
// padding may stand behind any four characters.
type textReader struct {
	body wire.Body

	// have is what has come and was not decoded: less than four characters, but
	// for the time of a Read. plain was decoded and not read, in mem. err comes
	// after it.
	have, plain, mem []byte
	err              error
}

// Read implements [wire.Body].
func (r *textReader) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	for len(r.plain) == 0 {
		if r.err != nil {
			return 0, r.err
		}
		r.receive()
	}
	n := copy(p, r.plain)
	if r.plain = r.plain[n:]; len(r.plain) == 0 && errors.Is(r.err, io.EOF) {
		return n, io.EOF
	}
	return n, nil
}

// receive reads once and decodes what is whole.
func (r *textReader) receive() {
	if r.mem == nil {
		r.mem, r.have = make([]byte, textChunk), make([]byte, 0, textChunk)
	}
	left := len(r.have)
	n, err := r.body.Read(r.have[left:cap(r.have)])
	all := r.have[:left+n]
	whole := len(all) &^ 3
	plain, ok := decodeText(r.mem, all[:whole])
	r.plain, r.err = plain, err
	r.have = r.have[:copy(r.have[:cap(r.have)], all[whole:])]
	if !ok || errors.Is(err, io.EOF) && len(r.have) > 0 {
		r.err = &wire.Fault{
			Status: http.StatusBadRequest, Flag: wire.FlagDownstreamProtocol, Text: "invalid base64 in a gRPC-Web request",
		}
	}
}

// decodeText decodes groups of four characters into mem, which has room for them.
func decodeText(mem, text []byte) (plain []byte, ok bool) {
	if bytes.ContainsAny(text, "\r\n") { // which the decoder would pass over
		return nil, false
	}
	plain = mem[:0]
	for len(text) > 0 {
		end := len(text)
		if i := bytes.IndexByte(text, '='); i >= 0 {
			end = i&^3 + 4
		}
		n, err := base64.StdEncoding.Decode(mem[len(plain):cap(mem)], text[:end])
		plain = plain[:len(plain)+n]
		if err != nil {
			return plain, false
		}
		text = text[end:]
	}
	return plain, true
}

// Trailer implements [wire.Body].
func (r *textReader) Trailer() *wire.Header { return r.body.Trailer() }

// Close implements [wire.Body].
func (r *textReader) Close() error { return r.body.Close() }
