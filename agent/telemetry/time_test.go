package telemetry_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// script is what one end of a connection does: it sends text, or lets time pass.
// An upstream first reads the whole request.
type script []any

func (s script) play(w io.WriteCloser) {
	for _, step := range s {
		switch step := step.(type) {
		case string:
			if _, err := io.WriteString(w, step); err != nil {
				return
			}
		case time.Duration:
			<-time.After(step)
		case nil:
			w.Close()
		}
	}
}

// times is what an exchange is said to have taken.
type times struct {
	Upstream, Proxy, Whole time.Duration
	Flag                   string
}

// timed lets a client and an upstream play their scripts with our codecs in
// between, on a clock that only their pauses move.
func timed(t *testing.T, client, upstream script) times {
	t.Helper()
	var got times
	synctest.Test(t, func(t *testing.T) {
		near, down := net.Pipe()
		up, far := net.Pipe()
		defer near.Close()
		defer far.Close()
		conn := http1.NewClientConn(up, http1.ClientConfig{}, func(c *http1.ClientConn, _ bool) { c.Close() })
		service := wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.OnEnd(endFunc(func(x *wire.Exchange) {
				got.Upstream, got.Proxy = x.Upstream()
				got.Whole, got.Flag = x.Finish.Sub(x.Start), x.Flag.String()
			}))
			a := x.NewAttempt("c", time.Now())
			a.Connected = time.Now()
			resp, err := conn.RoundTrip(x, a, req)
			if err != nil {
				a.End = time.Now()
			}
			return resp, err
		})
		done := make(chan struct{})
		go func() {
			defer close(done)
			http1.NewServer(http1.Config{}, func() wire.Service { return service }, discard()).Serve(down, &wire.Peer{}, nil)
		}()
		go func() {
			req, err := http.ReadRequest(bufio.NewReader(far))
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, req.Body); err == nil {
				upstream.play(far)
			}
		}()
		go io.Copy(io.Discard, near) //nolint:errcheck // until it is closed
		client.play(near)
		<-time.After(time.Minute) // the exchange is over by then
		near.Close()
		<-done
	})
	return got
}

type endFunc func(x *wire.Exchange)

func (f endFunc) End(x *wire.Exchange) { f(x) }

func TestTimes(t *testing.T) {
	const s = time.Second
	get, post := "GET / HTTP/1.1\r\nHost: h\r\n\r\n", "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\n\r\n"
	chunked := "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
	ok := "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
	for _, row := range []struct {
		name             string
		client, upstream script
		want             times
	}{
		{"a slow upstream", script{get}, script{10 * s, ok, "ok"}, times{10 * s, 0, 10 * s, "-"}},
		{"a slow response", script{get}, script{ok, "o", 5 * s, "k"}, times{0, 0, 5 * s, "-"}},
		{"both", script{get}, script{3 * s, ok, 5 * s, "ok"}, times{3 * s, 0, 8 * s, "-"}},
		{"a slow request body", script{post, 7 * s, "body"}, script{3 * s, ok, "ok"}, times{3 * s, 0, 10 * s, "-"}},
		{"in pieces", script{post, 4 * s, "bo", 4 * s, "dy"}, script{1 * s, ok, "ok"}, times{1 * s, 0, 9 * s, "-"}},
		{"in chunks", script{chunked, 4 * s, "2\r\nbo\r\n", 4 * s, "0\r\n\r\n"}, script{1 * s, ok, "ok"}, times{1 * s, 0, 9 * s, "-"}},
		{"a slow head", script{get[:10], 2 * s, get[10:20], s, get[20:]}, script{4 * s, ok, "ok"}, times{4 * s, 0, 7 * s, "-"}},
		{"the client leaves", script{get, 4 * s, nil}, script{30 * s, ok, "ok"}, times{4 * s, 0, 4 * s, "DC"}},
		{"the client leaves its body", script{post, "b", 4 * s, nil}, script{30 * s, ok, "ok"}, times{0, 0, 4 * s, "DC"}},
		{"the upstream leaves", script{get}, script{6 * s, nil}, times{6 * s, 0, 6 * s, "UC"}},
		{"the upstream leaves its body", script{get}, script{6 * s, ok, "o", s, nil}, times{6 * s, 0, 7 * s, "UC"}},
	} {
		t.Run(row.name, func(t *testing.T) {
			if diff := cmp.Diff(row.want, timed(t, row.client, row.upstream)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
