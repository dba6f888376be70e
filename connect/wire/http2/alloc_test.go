//go:build !race

package http2_test

import (
	"io"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// same answers every request with the same response, and allocates nothing. It
// serves one exchange at a time.
func same(size int) wire.Service {
	resp := &wire.Response{}
	body := &replayed{text: []byte(strings.Repeat("y", size))}
	buf := make([]byte, 4096)
	return wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if req.Body != nil {
			exhaust(req.Body, buf)
		}
		resp.Header.Reset()
		resp.Header.Add("content-type", "text/plain")
		body.rest = body.text
		resp.Status, resp.ContentLength, resp.Body = 200, int64(size), body
		return resp, nil
	})
}

// replayed is a body in memory that can be read again.
type replayed struct {
	text, rest []byte
}

func (r *replayed) Read(p []byte) (int, error) {
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	if len(r.rest) == 0 {
		return n, io.EOF
	}
	return n, nil
}

func (r *replayed) Trailer() *wire.Header { return nil }
func (r *replayed) Buffered() bool        { return true }
func (r *replayed) Close() error          { return nil }

// TestAllocs holds a whole chain (a client, the relay, and the upstream, all of this
// package) at next to no allocation per exchange.
func TestAllocs(t *testing.T) {
	for name, post := range map[string]int{"get": 0, "post": 512} {
		t.Run(name, func(t *testing.T) {
			up := serve(t, http2.Config{Bounds: http2.Bounds{Buffers: &http2.Buffers{}}}, same(512))
			r := relayTo(t, up.addr, http2.Config{Bounds: http2.Bounds{Buffers: &http2.Buffers{}}})
			d := drive(t, r.addr)
			var body *replayed
			if post > 0 {
				body = &replayed{text: []byte(strings.Repeat("x", post))}
			}
			exchange := func() {
				if body == nil {
					d.do(nil, 0)
					return
				}
				body.rest = body.text
				d.do(body, int64(post))
			}
			for range 300 {
				exchange()
			}
			// A collection empties the pools, and the date changes every second.
			if got := testing.AllocsPerRun(3000, exchange); got >= 1 {
				t.Errorf("%v allocations per exchange", got)
			}
		})
	}
}
