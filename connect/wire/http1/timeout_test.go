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

// inBubble serves service over a pipe under a fake clock.
func inBubble(t *testing.T, cfg http1.Config, service wire.Service, f func(t *testing.T, conn net.Conn)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		cfg.Buffers = poisoned()
		server := http1.NewServer(cfg, func() wire.Service { return service }, quiet(t))
		near, far := net.Pipe()
		done := make(chan struct{})
		go func() {
			defer close(done)
			server.Serve(far, &wire.Peer{}, nil)
		}()
		f(t, near)
		near.Close()
		<-done
	})
}

// took tells how long f takes.
func took(f func()) time.Duration {
	start := time.Now()
	f()
	return time.Since(start)
}

func TestServerTimeouts(t *testing.T) {
	cfg := http1.Config{
		IdleTimeout: time.Minute, HeaderTimeout: 10 * time.Second, BodyIdleTimeout: 20 * time.Second, WriteTimeout: 40 * time.Second,
	}
	ok := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if req.Body != nil {
			if _, err := io.ReadAll(req.Body); err != nil {
				return nil, err
			}
		}
		return wire.Text(200, "ok"), nil
	})
	t.Run("idle", func(t *testing.T) {
		inBubble(t, cfg, ok, func(t *testing.T, conn net.Conn) {
			br := bufio.NewReader(conn)
			for range 5 { // the timeout begins anew after each exchange
				time.Sleep(55 * time.Second)
				send(t, conn, get("/"))
				answer(t, br, "GET")
			}
			var err error
			if d := took(func() { _, err = br.ReadByte() }); err != io.EOF || d != time.Minute {
				t.Errorf("closed after %v with %v", d, err)
			}
		})
	})
	t.Run("first", func(t *testing.T) {
		inBubble(t, cfg, ok, func(t *testing.T, conn net.Conn) {
			if d := took(func() { io.ReadAll(conn) }); d != time.Minute {
				t.Errorf("closed after %v", d)
			}
		})
	})
	t.Run("head", func(t *testing.T) {
		inBubble(t, cfg, ok, func(t *testing.T, conn net.Conn) {
			br := bufio.NewReader(conn)
			send(t, conn, get("/"))
			answer(t, br, "GET")
			time.Sleep(30 * time.Second)
			var writer sync.WaitGroup
			d := took(func() {
				writer.Go(func() {
					for _, c := range get("/" + strings.Repeat("a", 100)) {
						if _, err := conn.Write([]byte{byte(c)}); err != nil {
							return
						}
						time.Sleep(time.Second)
					}
				})
				resp, _ := answer(t, br, "GET")
				if resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
					t.Errorf("got %s", resp.Status)
				}
			})
			if d != 10*time.Second {
				t.Errorf("answered after %v", d)
			}
			conn.Close()
			writer.Wait()
		})
	})
	t.Run("body", func(t *testing.T) {
		inBubble(t, cfg, ok, func(t *testing.T, conn net.Conn) {
			br := bufio.NewReader(conn)
			send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n")
			for range 5 {
				time.Sleep(19 * time.Second)
				send(t, conn, "a")
			}
			d := took(func() {
				if resp, _ := answer(t, br, "POST"); resp.StatusCode != http.StatusRequestTimeout || !resp.Close {
					t.Errorf("got %s", resp.Status)
				}
			})
			if d != 20*time.Second {
				t.Errorf("answered after %v", d)
			}
		})
	})
	for _, test := range []struct{ idle, want time.Duration }{
		{0, 40 * time.Second}, {20 * time.Second, 40 * time.Second}, {80 * time.Second, 80 * time.Second},
	} {
		t.Run("write", func(t *testing.T) {
			var flags chan wire.Flag // made in the bubble
			endless := wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
				x.IdleTimeout = test.idle
				x.OnEnd(endFunc(func(x *wire.Exchange) { flags <- x.Flag }))
				s := newStream()
				for range 100 {
					s.pieces <- strings.Repeat("x", 1000)
				}
				return &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: s}, nil
			})
			inBubble(t, cfg, endless, func(t *testing.T, conn net.Conn) {
				flags = make(chan wire.Flag, 1)
				send(t, conn, get("/"))
				var flag wire.Flag
				d := took(func() { flag = <-flags })
				if d < test.want || d > test.want*9/8 || flag != wire.FlagDownstreamReset {
					t.Errorf("ended after %v with %v, want %v", d, flag, test.want)
				}
			})
		})
	}
}

// TestTunnelPauses lets a tunnel pause for as long as its exchange may.
func TestTunnelPauses(t *testing.T) {
	for _, test := range []struct{ idle, want time.Duration }{
		{0, time.Hour}, {20 * time.Second, 20 * time.Second}, {2 * time.Hour, 2 * time.Hour},
	} {
		var ended chan error // made in the bubble
		inBubble(t, http1.Config{Connect: true}, wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.IdleTimeout = test.idle
			return &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: listener{req.Body, ended}}, nil
		}), func(t *testing.T, conn net.Conn) {
			ended = make(chan error, 1)
			send(t, conn, "CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n")
			readHead(bufio.NewReader(conn))
			time.Sleep(5 * time.Second)
			send(t, conn, "x")
			var err error
			d := took(func() { err = <-ended })
			if fault := wire.AsFault(err); fault.Status != 408 || d != test.want {
				t.Errorf("%v after %v, want %v", err, d, test.want)
			}
		})
	}
}

// listener is the response of a tunnel that only listens, and ends with what it hears.
type listener struct {
	wire.Body
	ended chan error
}

func (l listener) Read([]byte) (int, error) {
	var err error
	for err == nil {
		_, err = l.Body.Read(make([]byte, 10))
	}
	l.ended <- err
	return 0, io.EOF
}

type endFunc func(x *wire.Exchange)

func (f endFunc) End(x *wire.Exchange) { f(x) }

// TestWatch waits for a client that leaves, or does not.
func TestWatch(t *testing.T) {
	aborted := make(chan error, 1)
	proceed := make(chan bool)
	service := byPath{
		"/": func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return wire.Text(200, "ok"), nil },
		"/wait": func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.Watch()
			if req.Body != nil {
				if _, err := io.ReadAll(req.Body); err != nil {
					return nil, err
				}
			}
			select {
			case <-x.Context().Done():
				aborted <- x.Aborted()
				return nil, errors.New("too late")
			case <-proceed:
				return wire.Text(200, "waited"), nil
			}
		},
	}
	checkLeaks(t)
	r := serve(t, http1.Config{}, service)
	for _, request := range []string{
		get("/wait"),
		"POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
	} {
		conn := dial(t, r.addr)
		send(t, conn, request)
		time.Sleep(20 * time.Millisecond)
		conn.Close()
		if err := <-aborted; !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("aborted with %v", err)
		}
		// What is read ahead is the beginning of the next request.
		conn = dial(t, r.addr)
		br := bufio.NewReader(conn)
		for _, cut := range []int{1, 10, len(get("/"))} {
			send(t, conn, request)
			time.Sleep(20 * time.Millisecond)
			send(t, conn, get("/")[:cut])
			time.Sleep(20 * time.Millisecond)
			proceed <- true
			if _, body := answer(t, br, "GET"); body != "waited" {
				t.Errorf("got %q", body)
			}
			send(t, conn, get("/")[cut:])
			if _, body := answer(t, br, "GET"); body != "ok" {
				t.Errorf("got %q", body)
			}
		}
	}
}
