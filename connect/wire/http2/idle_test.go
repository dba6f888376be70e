//go:build !race

package http2_test

import (
	"runtime"
	"testing"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// TestIdleHoldsNoBuffer bounds the heap of connections that have served a request
// and wait: a read buffer alone would be more. It is not parallel, since it looks
// at the heap of the process; the race detector keeps more alive.
func TestIdleHoldsNoBuffer(t *testing.T) {
	const conns, most = 200, 24 << 10
	service := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return &wire.Response{Status: 204}, nil
	})
	r := serve(t, http2.Config{Bounds: http2.Bounds{Buffers: &http2.Buffers{}}}, service)
	clients := make([]*raw, 0, conns)
	before := heap()
	for range conns {
		c := rawClient(t, r.addr)
		c.get(1)
		c.until("HEADERS 1 :status=204")
		// of the client only the socket is to count
		c.fr, c.enc, c.dec = nil, nil, nil
		clients = append(clients, c)
	}
	var got int64
	if !eventually(func() bool { got = (heap() - before) / conns; return got <= most }) {
		t.Errorf("a connection that waits holds %d bytes, want at most %d", got, most)
	}
	t.Logf("a connection that waits holds %d bytes", got)
	runtime.KeepAlive(clients)
}

// heap is how many bytes are in use; pools have given back what nobody uses.
func heap() int64 {
	for range 3 {
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}
