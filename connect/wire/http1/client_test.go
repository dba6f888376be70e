package http1_test

import (
	"bufio"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// control is the downstream side of an exchange that no server drives.
type control struct {
	interim []int
	watched int
}

func (c *control) Interim(status int, _ *wire.Header) error {
	c.interim = append(c.interim, status)
	return nil
}

func (c *control) Watch() { c.watched++ }

// client is one upstream connection and an exchange for it.
type client struct {
	conn     *http1.ClientConn
	x        *wire.Exchange
	control  *control
	released []bool
}

func newClient(t testing.TB, conn net.Conn, cfg http1.ClientConfig) *client {
	t.Helper()
	c := &client{x: &wire.Exchange{}, control: &control{}}
	cfg.Buffers = poisoned()
	c.conn = http1.NewClientConn(conn, cfg, func(_ *http1.ClientConn, reusable bool) { c.released = append(c.released, reusable) })
	c.x.Reset(c.control, &wire.Peer{}, time.Now())
	t.Cleanup(func() { c.conn.Close() })
	return c
}

func dialClient(t testing.TB, addr string, cfg http1.ClientConfig) *client {
	t.Helper()
	return newClient(t, dial(t, addr), cfg)
}

// do sends req and reads the whole response.
func (c *client) do(req *wire.Request) (resp *wire.Response, body string, err error) {
	a := c.x.NewAttempt("upstream", time.Now())
	resp, err = c.conn.RoundTrip(c.x, a, req)
	if err != nil || resp.Body == nil {
		return resp, "", err
	}
	b, err := io.ReadAll(resp.Body)
	return resp, string(b), err
}

func (c *client) done() { c.x.Done(time.Now()) }

// replying answers each request with the same bytes, then closes if told.
func replying(t testing.TB, reply string, closing bool) string {
	return upstream(t, func(conn net.Conn, r *bufio.Reader) {
		for {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(conn, reply)
			if closing {
				conn.(*net.TCPConn).CloseWrite()
				io.Copy(io.Discard, conn)
				return
			}
		}
	})
}

func simple(method string) *wire.Request {
	return &wire.Request{Method: method, Scheme: "http", Authority: "a", Path: "/", Proto: 1, Minor: 1}
}

func TestUpstreamResponses(t *testing.T) {
	checkLeaks(t)
	for _, test := range []struct {
		name, method, reply, body string
		status                    int
		length                    int64
		reusable                  bool
	}{
		{"length", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", 200, 3, true},
		{"no reason", "GET", "HTTP/1.1 200\r\nContent-Length: 3\r\n\r\nabc", "abc", 200, 3, true},
		{"chunked", "GET", "HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n", "abc", 200, -1, true},
		{"empty", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200, 0, true},
		{"until close", "GET", "HTTP/1.1 200 OK\r\n\r\nabc", "abc", 200, -1, false},
		{"HTTP/1.0", "GET", "HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", 200, 3, false},
		{"HTTP/1.0 keep-alive", "GET", "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 3\r\n\r\nabc", "abc", 200, 3, true},
		{"close", "GET", "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\nabc", "abc", 200, 3, false},
		{"HEAD", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "", 200, 3, true},
		{"HEAD chunked", "HEAD", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", 200, -1, true},
		{"HEAD with body", "HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "", 200, 3, false},
		{"204", "GET", "HTTP/1.1 204 No Content\r\n\r\n", "", 204, 0, true},
		{"204 with body", "GET", "HTTP/1.1 204 No Content\r\nContent-Length: 3\r\n\r\nabc", "", 204, 0, false},
		{"304", "GET", "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", "", 304, 9, true},
		{"304 without length", "GET", "HTTP/1.1 304 Not Modified\r\n\r\n", "", 304, -1, true},
		{"unsolicited bytes", "GET", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK", "abc", 200, 3, false},
		{"interim", "GET", "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "abc", 200, 3, true},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialClient(t, replying(t, test.reply, test.name == "until close"), http1.ClientConfig{})
			resp, body, err := c.do(simple(test.method))
			if err != nil {
				t.Fatal(err)
			}
			if resp.Status != test.status || resp.ContentLength != test.length || body != test.body {
				t.Errorf("got %d, length %d, %q", resp.Status, resp.ContentLength, body)
			}
			if diff := cmp.Diff([]bool{test.reusable}, c.released); diff != "" {
				t.Errorf("released: %s", diff)
			}
			a := c.x.Attempts[0]
			if a.Status != test.status || a.Head.IsZero() || a.Flag != wire.FlagNone {
				t.Errorf("attempt: %+v", a)
			}
			if got := len(c.control.interim); got != strings.Count(test.name, "interim") {
				t.Errorf("%d interim responses", got)
			}
			c.done()
			if test.reusable {
				if !c.conn.Alive(false) {
					t.Error("not alive")
				}
				c.x.Reset(c.control, c.x.Peer, time.Now())
				if _, again, err := c.do(simple(test.method)); err != nil || again != body {
					t.Errorf("again: %q, %v", again, err)
				}
				c.done()
			}
		})
	}
}

func TestUpstreamRequests(t *testing.T) {
	checkLeaks(t)
	heads, lengths := make(chan string, 1), make(chan int, 1)
	addr := upstream(t, func(conn net.Conn, r *bufio.Reader) {
		head, _ := readHead(r)
		body := make([]byte, <-lengths)
		n, _ := io.ReadFull(r, body)
		conn.SetReadDeadline(time.Now().Add(50 * time.Millisecond)) // for what should not come
		rest, _ := io.ReadAll(r)
		heads <- head + string(body[:n]) + string(rest)
	})
	header := func(fields ...string) (h wire.Header) {
		for i := 0; i < len(fields); i += 2 {
			h.Add(fields[i], fields[i+1])
		}
		return h
	}
	withTrailer := newStream("abc", "d").end()
	withTrailer.trailer.Add("x-sum", "1")
	for _, test := range []struct {
		name string
		req  wire.Request
		want string
	}{
		{"get", wire.Request{Method: "GET", Path: "/x?y"}, "GET /x?y HTTP/1.1\r\nhost: a\r\n\r\n"},
		{"options", wire.Request{Method: "OPTIONS", Path: "*"}, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"},
		{"post without body", wire.Request{Method: "POST", Path: "/"}, "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 0\r\n\r\n"},
		{
			"fields",
			wire.Request{Method: "GET", Path: "/", Header: header("b", "c", "host", "x", "connection", "b", "te", "trailers", "transfer-encoding", "chunked")},
			"GET / HTTP/1.1\r\nhost: a\r\nb: c\r\nte: trailers\r\nconnection: te\r\n\r\n",
		},
		{
			"body at hand",
			wire.Request{Method: "PUT", Path: "/", ContentLength: 3, Body: wire.NewBytes([]byte("abc"))},
			"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 3\r\n\r\nabc",
		},
		{
			"chunked at hand",
			wire.Request{Method: "PUT", Path: "/", ContentLength: -1, Body: wire.NewBytes([]byte("abc"))},
			"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
		},
		{
			"body not at hand",
			wire.Request{Method: "PUT", Path: "/", ContentLength: 4, Body: newStream("abc", "d").end()},
			"PUT / HTTP/1.1\r\nhost: a\r\ncontent-length: 4\r\n\r\nabcd",
		},
		{
			"chunked with trailers",
			wire.Request{Method: "PUT", Path: "/", ContentLength: -1, Body: withTrailer},
			"PUT / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n1\r\nd\r\n0\r\nx-sum: 1\r\n\r\n",
		},
		{
			"upgrade",
			wire.Request{Method: "GET", Path: "/", Upgrade: "websocket", Body: newStream(), Header: header("te", "trailers")},
			"GET / HTTP/1.1\r\nhost: a\r\nte: trailers\r\nconnection: upgrade, te\r\nupgrade: websocket\r\n\r\n",
		},
		{"connect", wire.Request{Method: "CONNECT", Authority: "b:1", Body: newStream()}, "CONNECT b:1 HTTP/1.1\r\nhost: b:1\r\n\r\n"},
	} {
		t.Run(test.name, func(t *testing.T) {
			if test.req.Authority == "" {
				test.req.Authority = "a"
			}
			_, body, _ := strings.Cut(test.want, "\r\n\r\n")
			lengths <- len(body)
			c := dialClient(t, addr, http1.ClientConfig{})
			c.do(&test.req)
			if diff := cmp.Diff(test.want, <-heads); diff != "" {
				t.Error(diff)
			}
			c.done()
		})
	}
	for _, test := range []struct {
		name string
		req  wire.Request
	}{
		{"method", wire.Request{Method: "G T", Path: "/"}},
		{"path", wire.Request{Method: "GET", Path: "/ HTTP/1.1\r\nx: y"}},
		{"no path", wire.Request{Method: "GET"}},
		{"authority", wire.Request{Method: "GET", Path: "/", Authority: "a\r\nb: c"}},
		{"value", wire.Request{Method: "GET", Path: "/", Header: header("a", "b\nc: d")}},
		{"name", wire.Request{Method: "GET", Path: "/", Header: header("Transfer-Encoding", "chunked")}},
		{"no body", wire.Request{Method: "POST", Path: "/", ContentLength: 3}},
	} {
		t.Run("bad "+test.name, func(t *testing.T) {
			lengths <- 0
			c := dialClient(t, addr, http1.ClientConfig{})
			_, _, err := c.do(&test.req)
			if fault := wire.AsFault(err); err == nil || fault.Flag != wire.FlagInternal || fault.Repeat != wire.RepeatNever {
				t.Errorf("got %v", err)
			}
			if diff := cmp.Diff([]bool{true}, c.released); diff != "" {
				t.Errorf("released: %s", diff)
			}
			c.done()
			c.conn.Close()
			<-heads
		})
	}
}
