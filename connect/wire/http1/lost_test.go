package http1_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/socket"
)

// TestRepeat tells failures apart by what had left.
func TestRepeat(t *testing.T) {
	checkLeaks(t)
	silent := upstream(t, func(_ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	t.Run("aborted before", func(t *testing.T) {
		c := dialClient(t, silent, http1.ClientConfig{})
		c.x.Abort(wire.ErrClientGone)
		_, _, err := c.do(simple("GET"))
		if fault := wire.AsFault(err); fault.Flag != wire.FlagDownstreamReset || !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("got %v", err)
		}
		if diff := cmp.Diff([]bool{true}, c.released); diff != "" {
			t.Errorf("released: %s", diff)
		}
	})
	t.Run("closed", func(t *testing.T) {
		c := dialClient(t, silent, http1.ClientConfig{})
		c.conn.Close()
		_, _, err := c.do(simple("GET"))
		if fault := wire.AsFault(err); fault.Status != 503 || fault.Repeat != wire.RepeatAny {
			t.Errorf("got %v, %+v", err, fault)
		}
	})
	t.Run("deadline over", func(t *testing.T) {
		c := dialClient(t, silent, http1.ClientConfig{})
		c.x.Deadline = time.Now().Add(-time.Second)
		_, _, err := c.do(simple("GET"))
		if fault := wire.AsFault(err); fault.Status != 504 || fault.Repeat != wire.RepeatAny || fault.Flag != wire.FlagUpstreamTimeout {
			t.Errorf("got %v, %+v", err, fault)
		}
	})
	t.Run("aborted while waiting", func(t *testing.T) {
		c := dialClient(t, silent, http1.ClientConfig{})
		time.AfterFunc(100*time.Millisecond, func() { c.x.Abort(wire.ErrClientGone) })
		_, _, err := c.do(simple("GET"))
		if fault := wire.AsFault(err); fault.Flag != wire.FlagDownstreamReset || fault.Repeat != wire.RepeatNever {
			t.Errorf("got %v, %+v", err, fault)
		}
		if c.control.watched != 1 {
			t.Errorf("watched %d times", c.control.watched)
		}
	})
}

// TestClientTimeouts runs an upstream connection under a fake clock.
func TestClientTimeouts(t *testing.T) {
	for _, test := range []struct {
		name     string
		cfg      http1.ClientConfig
		deadline time.Duration
		reply    string // sent after a second
		want     time.Duration
		repeat   wire.Repeat
	}{
		{"deadline", http1.ClientConfig{}, 10 * time.Second, "", 10 * time.Second, wire.RepeatIdempotent},
		{"deadline after an interim response", http1.ClientConfig{}, 10 * time.Second, "HTTP/1.1 103 x\r\n\r\n", 10 * time.Second, wire.RepeatNever},
		{"deadline in a body", http1.ClientConfig{}, 10 * time.Second, "HTTP/1.1 200 OK\r\n\r\nabc", 10 * time.Second, wire.RepeatNever},
		{"head", http1.ClientConfig{HeaderTimeout: 5 * time.Second}, 0, "", 5 * time.Second, wire.RepeatIdempotent},
		{"stream", http1.ClientConfig{StreamTimeout: 20 * time.Second}, 0, "HTTP/1.1 200 OK\r\n\r\nabc", 21 * time.Second, wire.RepeatNever},
		{"stream, default", http1.ClientConfig{}, 0, "HTTP/1.1 200 OK\r\n\r\nabc", 301 * time.Second, wire.RepeatNever},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				near, far := net.Pipe()
				c := newClient(t, near, test.cfg)
				done := make(chan bool)
				go func() {
					defer close(done)
					readHead(bufio.NewReader(far))
					time.Sleep(time.Second)
					io.WriteString(far, test.reply)
					io.Copy(io.Discard, far)
				}()
				if test.deadline > 0 {
					c.x.Deadline = time.Now().Add(test.deadline)
				}
				var err error
				d := took(func() { _, _, err = c.do(simple("GET")) })
				fault := wire.AsFault(err)
				if d != test.want || fault.Status != 504 || fault.Flag != wire.FlagUpstreamTimeout || fault.Repeat != test.repeat {
					t.Errorf("after %v: %v, %+v", d, err, fault)
				}
				if c.control.watched != 1 {
					t.Errorf("watched %d times", c.control.watched)
				}
				c.done()
				far.Close()
				<-done
			})
		})
	}
}

func TestAlive(t *testing.T) {
	checkLeaks(t)
	backend := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/hijack" {
			conn, rw, _ := http.NewResponseController(w).Hijack()
			rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			rw.Flush()
			time.Sleep(20 * time.Millisecond)
			rw.WriteString("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
			rw.Flush()
			time.AfterFunc(200*time.Millisecond, func() { conn.Close() })
		}
	}))
	for _, secure := range []bool{false, true} {
		backend := httptest.NewUnstartedServer(backend.Config.Handler)
		connect := func() net.Conn { return dial(t, backend.Listener.Addr().String()) }
		if secure {
			backend.StartTLS()
			connect = func() net.Conn {
				conn := tls.Client(socket.New(dial(t, backend.Listener.Addr().String())), &tls.Config{InsecureSkipVerify: true})
				if err := conn.HandshakeContext(context.Background()); err != nil {
					t.Fatal(err)
				}
				return conn
			}
		} else {
			backend.Start()
		}
		c := newClient(t, connect(), http1.ClientConfig{})
		for range 3 {
			c.x.Reset(c.control, c.x.Peer, time.Now())
			if _, _, err := c.do(simple("GET")); err != nil {
				t.Fatal(err)
			}
			c.done()
			if !c.conn.Alive(false) {
				t.Fatalf("secure %v: not alive", secure)
			}
		}
		backend.CloseClientConnections()
		if !eventually(func() bool { return !c.conn.Alive(false) }) {
			t.Errorf("secure %v: alive after the upstream has closed it", secure)
		}
		c = newClient(t, connect(), http1.ClientConfig{})
		req := simple("GET")
		req.Path = "/hijack"
		if _, _, err := c.do(req); err != nil {
			t.Fatal(err)
		}
		c.done()
		if !eventually(func() bool { return !c.conn.Alive(false) }) {
			t.Errorf("secure %v: alive in spite of unsolicited bytes", secure)
		}
		c.conn.Close()
		backend.Close()
	}
	near, far := net.Pipe()
	c := newClient(t, near, http1.ClientConfig{})
	if !c.conn.Alive(false) {
		t.Error("a pipe is not alive")
	}
	far.Close()
	if c.conn.Alive(false) {
		t.Error("a closed pipe is alive")
	}
	if _, err := near.Read(nil); errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
