package extension

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// firstBuffer is what is taken for a body before a byte of it has come: a client
// that claims a large one has not sent it yet.
const firstBuffer = 4 << 10

// heldBody is a request body that is wholly in memory, with its trailers, so
// that it can be given to plugins and then be sent. Nobody changes data.
type heldBody struct {
	data, rest []byte
	trailer    *wire.Header
}

var (
	_ wire.Body     = (*heldBody)(nil)
	_ wire.Buffered = (*heldBody)(nil)
)

// Read implements wire.Body.
func (b *heldBody) Read(p []byte) (int, error) {
	if len(b.rest) == 0 {
		return 0, io.EOF
	}
	n := copy(p, b.rest)
	b.rest = b.rest[n:]
	return n, nil
}

// Trailer implements wire.Body.
func (b *heldBody) Trailer() *wire.Header { return b.trailer }

// Buffered implements wire.Buffered.
func (b *heldBody) Buffered() bool { return true }

// Close implements wire.Body.
func (b *heldBody) Close() error { b.rest = nil; return nil }

// isTunnel tells whether the body is what a client sends after a switch of
// protocols.
func isTunnel(req *wire.Request) bool { return req.Upgrade != "" || req.Method == http.MethodConnect }

// hold reads the body of req, puts one in its place that can be read again, and
// returns the bytes. A limit of 0 leaves the body alone.
func hold(x *wire.Exchange, req *wire.Request, limit int) ([]byte, error) {
	if limit == 0 || req.Body == nil || isTunnel(req) {
		return nil, nil
	}
	if held, ok := req.Body.(*heldBody); ok { // by a plugin before
		if len(held.data) > limit {
			return nil, tooLarge(limit)
		}
		return held.data, nil
	}
	if req.ContentLength > int64(limit) {
		return nil, tooLarge(limit)
	}
	data, err := readInTime(x, req.Body, limit)
	if err != nil {
		return nil, err
	}
	held := &heldBody{data: data, rest: data}
	if trailer := req.Body.Trailer(); trailer.Len() > 0 {
		clone := trailer.Clone()
		held.trailer = &clone
	} else {
		req.ContentLength = int64(len(data))
	}
	req.Body = held
	req.ExpectContinue = false // it has continued
	if x.Timeout > 0 {
		x.Deadline = time.Now().Add(x.Timeout) // which counts from the end of the request
	}
	return data, nil
}

func tooLarge(limit int) error {
	return &wire.Fault{
		Status: http.StatusRequestEntityTooLarge, Flag: wire.FlagDenied,
		Text: fmt.Sprintf("the request body is too large, at most %d bytes are taken here", limit),
	}
}

// readInTime reads all of body by the exchange's deadline, if it has one.
func readInTime(x *wire.Exchange, body wire.Body, limit int) ([]byte, error) {
	if x.Deadline.IsZero() || wire.BodyBuffered(body) {
		return read(body, limit)
	}
	closed := make(chan struct{})
	timer := time.AfterFunc(time.Until(x.Deadline), func() {
		defer close(closed)
		_ = body.Close() // ends the read under way
	})
	data, err := read(body, limit)
	if !timer.Stop() {
		<-closed // nobody may close the body of the next exchange
		if err != nil {
			return nil, &wire.Fault{
				Status: http.StatusRequestTimeout, Flag: wire.FlagDownstreamReset,
				Text: "request body timeout", Close: true, Err: err,
			}
		}
	}
	return data, err
}

func read(body wire.Body, limit int) ([]byte, error) {
	data := make([]byte, 0, min(firstBuffer, limit+1))
	for {
		if len(data) == cap(data) {
			data = append(data, 0)[:len(data)]
		}
		n, err := body.Read(data[len(data):cap(data)])
		data = data[:len(data)+n]
		switch {
		case len(data) > limit:
			return nil, tooLarge(limit)
		case errors.Is(err, io.EOF):
			return data, nil
		case err != nil:
			return nil, fmt.Errorf("read a request body for a plugin: %w", err)
		}
	}
}
