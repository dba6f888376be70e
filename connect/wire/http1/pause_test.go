package http1_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// TestRequestTimeout gives a request that long, however evenly its body comes.
func TestRequestTimeout(t *testing.T) {
	read := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if _, err := io.ReadAll(req.Body); err != nil {
			return nil, err
		}
		return wire.Text(200, "ok"), nil
	})
	inBubble(t, http1.Config{RequestTimeout: 10 * time.Second}, read, func(t *testing.T, conn net.Conn) {
		var writer sync.WaitGroup
		writer.Go(func() {
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 100\r\n\r\n")
			for range 100 {
				if _, err := conn.Write([]byte("x")); err != nil {
					return
				}
				time.Sleep(time.Second)
			}
		})
		d := took(func() {
			if resp, _ := answer(t, bufio.NewReader(conn), "POST"); resp.StatusCode != http.StatusRequestTimeout {
				t.Errorf("got %s", resp.Status)
			}
		})
		if d != 10*time.Second {
			t.Errorf("after %v", d)
		}
		conn.Close()
		writer.Wait()
	})
}

// TestRequestTimeoutEnds begins the response before the request is whole, which may
// take its time from then on, as long as anything moves.
func TestRequestTimeoutEnds(t *testing.T) {
	cfg := http1.Config{RequestTimeout: 10 * time.Second, BodyIdleTimeout: 20 * time.Second}
	var got chan string // made in the bubble
	duplex := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		body := &ticking{left: 60}
		go func() {
			all, err := io.ReadAll(req.Body)
			got <- string(all) + " " + wire.AsFault(err).Text
		}()
		return &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: body}, nil
	})
	inBubble(t, cfg, duplex, func(t *testing.T, conn net.Conn) {
		got = make(chan string, 1)
		send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\n\r\n")
		time.AfterFunc(50*time.Second, func() { io.WriteString(conn, "x") })
		if _, body := answer(t, bufio.NewReader(conn), "POST"); len(body) != 60 {
			t.Errorf("the answer has %d bytes", len(body))
		}
		if text := <-got; text != "x " {
			t.Errorf("the request is %q", text)
		}
	})
}

// TestAgeOfHTTP2 leaves it to the codec of HTTP/2 how old a connection may become that
// turns out to be one.
func TestAgeOfHTTP2(t *testing.T) {
	cfg := http1.Config{MaxAge: time.Second, HTTP2: func(conn net.Conn, _ []byte, _ *wire.Peer, _ *wire.Drain) {
		time.Sleep(time.Minute)
		conn.Close()
	}}
	synctest.Test(t, func(t *testing.T) {
		server := http1.NewServer(cfg, nil, quiet(t))
		near, far := net.Pipe()
		go io.WriteString(near, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		server.Serve(far, &wire.Peer{}, nil)
		if n := server.Stats.Aged.Load(); n != 0 {
			t.Errorf("%d count as too old", n)
		}
	})
}

// TestUploadPauses lets an upstream take nothing of a request for as long as the exchange
// may pause.
func TestUploadPauses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		got := make(chan int, 1)
		go func() {
			br := bufio.NewReader(far)
			req, err := http.ReadRequest(br)
			if err != nil {
				return
			}
			time.Sleep(4 * time.Minute)
			body, _ := io.ReadAll(req.Body)
			io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			got <- len(body)
		}()
		c := newClient(t, near, http1.ClientConfig{})
		c.x.IdleTimeout = 5 * time.Minute
		body := newStream(strings.Repeat("x", 1000), strings.Repeat("y", 100_000)).end()
		resp, _, err := c.do(&wire.Request{Method: "POST", Authority: "a", Path: "/", ContentLength: wire.UnknownLength, Body: body})
		if err != nil || resp.Status != 200 {
			t.Fatalf("got %v, %v", resp, err)
		}
		if n := <-got; n != 101_000 {
			t.Errorf("the upstream got %d bytes", n)
		}
		c.done()
		far.Close()
	})
}

// TestMaxAge lets a connection take requests for so long, and closes an idle one then.
func TestMaxAge(t *testing.T) {
	ok := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return wire.Text(200, "ok"), nil })
	inBubble(t, http1.Config{MaxAge: 10 * time.Second}, ok, func(t *testing.T, conn net.Conn) {
		br := bufio.NewReader(conn)
		for range 3 {
			send(t, conn, get("/"))
			if resp, _ := answer(t, br, "GET"); resp.Close {
				t.Error("it closes early")
			}
			time.Sleep(3 * time.Second)
		}
		var err error
		if d := took(func() { _, err = br.ReadByte() }); d != time.Second || !errors.Is(err, io.EOF) {
			t.Errorf("closed after %v with %v", d, err)
		}
	})
}

// TestExchangePauses lets an exchange say how long its upstream may pause: before the
// head, and in the body; what the request moves meanwhile counts.
func TestExchangePauses(t *testing.T) {
	for _, test := range []struct {
		name, answer string
		body         wire.Body
		took         time.Duration
	}{
		{"before the head", "", nil, 20 * time.Second},
		{"before the head, from the end of the request", "", &ticking{left: 30}, 50 * time.Second},
		{"in the body", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", nil, 20 * time.Second},
		{"in the body, while the request moves", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", &ticking{left: 30}, 50 * time.Second},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				go func() {
					br := bufio.NewReader(far)
					readHead(br)
					go io.WriteString(far, test.answer)
					io.Copy(io.Discard, br)
				}()
				c := http1.NewClientConn(near, http1.ClientConfig{Buffers: poisoned()}, func(*http1.ClientConn, bool) {})
				x := &wire.Exchange{}
				x.Reset(nil, &wire.Peer{}, time.Now())
				x.IdleTimeout = 20 * time.Second
				req := &wire.Request{Method: "POST", Authority: "a", Path: "/", Proto: 1, Minor: 1}
				if test.body != nil {
					req.Body, req.ContentLength = test.body, wire.UnknownLength
				}
				var err error
				d := took(func() {
					var resp *wire.Response
					if resp, err = c.RoundTrip(x, x.NewAttempt("c", time.Now()), req); err == nil {
						_, err = io.ReadAll(resp.Body)
					}
				})
				if fault := wire.AsFault(err); err == nil || fault.Status != 504 || fault.Flag != wire.FlagStreamIdle || d.Round(time.Second) != test.took {
					t.Errorf("%v after %v, want %v", err, d, test.took)
				}
				x.Done(time.Now())
				far.Close()
				near.Close()
			})
		})
	}
}

// ticking is a body of one byte each second.
type ticking struct{ left int }

func (b *ticking) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	b.left--
	time.Sleep(time.Second)
	p[0] = 'x'
	return 1, nil
}

func (b *ticking) Trailer() *wire.Header { return nil }
func (b *ticking) Close() error          { return nil }
