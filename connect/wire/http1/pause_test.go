package http1_test

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
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
