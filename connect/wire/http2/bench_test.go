package http2_test

import (
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// fixed answers every request with a body, and reads what it is sent.
func fixed(size int) wire.Service {
	body := []byte(strings.Repeat("y", size))
	return wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if req.Body != nil {
			exhaust(req.Body, make([]byte, 1024))
		}
		resp := &wire.Response{Status: 200, ContentLength: int64(len(body)), Body: wire.NewBytes(body)}
		resp.Header.Add("content-type", "text/plain")
		return resp, nil
	})
}

// exhaust reads a body to its end, whatever that is.
func exhaust(body wire.Body, buf []byte) {
	for err := error(nil); err == nil; {
		_, err = body.Read(buf)
	}
}

// driver asks a server over one connection, as a proxy would.
type driver struct {
	t    testing.TB
	conn *http2.ClientConn
	pool sync.Pool
	peer wire.Peer
}

type job struct {
	x   wire.Exchange
	req wire.Request
	buf [32 << 10]byte
}

func drive(t testing.TB, addr string) *driver {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	d := &driver{t: t, conn: http2.NewClientConn(nc, http2.ClientConfig{MaxStreams: 1000})}
	var running sync.WaitGroup
	running.Go(func() { d.conn.Run() })
	t.Cleanup(func() { d.conn.Close(); running.Wait() })
	return d
}

// get makes one exchange.
func (d *driver) get(body []byte) {
	if body == nil {
		d.do(nil, 0)
		return
	}
	d.do(wire.NewBytes(body), int64(len(body)))
}

func (d *driver) do(body wire.Body, length int64) {
	j, ok := d.pool.Get().(*job)
	if !ok {
		j = &job{}
	}
	j.x.Reset(nil, &d.peer, time.Now())
	j.req.Method, j.req.Scheme, j.req.Authority, j.req.Path = "GET", "http", "service.example:8080", "/some/path?with=query"
	j.req.Header.Reset()
	j.req.Header.Add("user-agent", "bench/1.0")
	j.req.Header.Add("accept", "*/*")
	j.req.Header.Add("accept-encoding", "gzip")
	j.req.Body, j.req.ContentLength = body, length
	if body != nil {
		j.req.Method = "POST"
	}
	if !d.conn.Acquire() {
		d.t.Error("no place")
		return
	}
	resp, err := d.conn.RoundTrip(&j.x, j.x.NewAttempt("c", time.Now()), &j.req)
	if err != nil {
		d.t.Error(err)
		return
	}
	for resp.Body != nil {
		if _, err := resp.Body.Read(j.buf[:]); err != nil {
			break
		}
	}
	j.x.Done(time.Now())
	d.pool.Put(j)
}

func BenchmarkRelay(b *testing.B) {
	for _, bench := range []struct {
		name       string
		size, post int
		parallel   int
	}{
		{"get-512", 512, 0, 1},
		{"get-512-64streams", 512, 0, 64},
		{"post-512-64streams", 512, 512, 64},
		{"get-64k-8streams", 64 << 10, 0, 8},
		{"get-1m-8streams", 1 << 20, 0, 8},
	} {
		b.Run(bench.name, func(b *testing.B) {
			up := serve(b, http2.Config{Bounds: http2.Bounds{Buffers: &http2.Buffers{}}}, fixed(bench.size))
			r := relayTo(b, up.addr, http2.Config{Bounds: http2.Bounds{Buffers: &http2.Buffers{}}})
			d := drive(b, r.addr)
			var body []byte
			if bench.post > 0 {
				body = []byte(strings.Repeat("x", bench.post))
			}
			b.SetBytes(int64(bench.size))
			b.ReportAllocs()
			b.SetParallelism((bench.parallel + 1) / 2) // of two processors
			b.RunParallel(func(pb *testing.PB) {
				for pb.Next() {
					d.get(body)
				}
			})
		})
	}
}
