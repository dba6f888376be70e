//go:build !race

package http1_test

import (
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/wire/http1"
)

// TestAllocs holds the relay at zero allocations per exchange.
func TestAllocs(t *testing.T) {
	chunked := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n" + strings.Repeat("z", 512) + "\r\n0\r\n\r\n"
	post := "POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 512\r\n\r\n" + strings.Repeat("x", 512)
	chunkedPost := "POST /upload HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n200\r\n" + strings.Repeat("x", 512) + "\r\n0\r\n\r\n"
	for _, test := range []struct {
		name, request, response string
		size                    int // of the answer; zero if its head tells
	}{
		{"get", getRequest, fixed("200 OK", strings.Repeat("y", 512)), 0},
		{"get 64k", getRequest, fixed("200 OK", strings.Repeat("y", 64<<10)), 0},
		{"post", post, fixed("201 Created", ""), 0},
		{"chunked post", chunkedPost, fixed("201 Created", ""), 0},
		{"chunked", getRequest, chunked, len(chunked) + len("date: Mon, 02 Jan 2006 15:04:05 GMT\r\n")},
	} {
		t.Run(test.name, func(t *testing.T) {
			r := relayTo(t, echoUpstream(t, test.response), http1.Config{Buffers: &http1.Buffers{}}, http1.ClientConfig{})
			conn := dial(t, r.addr)
			size := test.size
			if size == 0 {
				size = expected(t, conn, test.request)
			}
			request, buf := []byte(test.request), make([]byte, size)
			exchange := func() { exchangeOnce(t, conn, request, buf) }
			for range 100 {
				exchange()
			}
			// A collection empties the pools, so a rare allocation is no fault.
			if got := testing.AllocsPerRun(2000, exchange); got != 0 {
				t.Errorf("%v allocations per exchange", got)
			}
			if t.Failed() {
				t.Logf("%q", buf[:min(len(buf), 400)])
			}
		})
	}
}
