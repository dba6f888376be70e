package http1_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// lastMoment is a connection on which the end of a request's body comes just when the
// read of it is interrupted, which takes so long that the watcher has begun.
type lastMoment struct {
	net.Conn
	head, body         string        // that are still to be read
	reading            chan struct{} // closed when the body is waited for
	interrupted, began chan struct{} // closed when the body's read is, and when the watcher reads
	stopped, watched   atomic.Bool   // that they are closed

	mu      sync.Mutex // guards:
	changed sync.Cond
	past    bool // the deadline of reads
	closed  bool
	wrote   strings.Builder
}

func newLastMoment(head, body string) *lastMoment {
	c := &lastMoment{head: head, body: body, reading: make(chan struct{}), interrupted: make(chan struct{}), began: make(chan struct{})}
	c.changed.L = &c.mu
	return c
}

func (c *lastMoment) Read(p []byte) (n int, err error) {
	switch {
	case c.head != "":
		n = copy(p, c.head)
		c.head = c.head[n:]
		return n, nil
	case c.body != "":
		close(c.reading)
		<-c.interrupted
		n = copy(p, c.body)
		c.body = c.body[n:]
		return n, nil
	}
	first := !c.watched.Swap(true)
	if first {
		close(c.began)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for !c.past && !c.closed {
		c.changed.Wait()
	}
	if c.closed {
		return 0, io.EOF
	}
	if first { // whoever has interrupted goes on first, if he does not wait
		c.mu.Unlock()
		time.Sleep(50 * time.Millisecond)
		c.mu.Lock()
	}
	return 0, os.ErrDeadlineExceeded
}

func (c *lastMoment) SetReadDeadline(t time.Time) error {
	past := !t.IsZero() && t.Before(time.Now())
	c.mu.Lock()
	c.past = past
	c.changed.Broadcast()
	c.mu.Unlock()
	if past && !c.stopped.Swap(true) {
		close(c.interrupted)
		<-c.began
	}
	return nil
}

func (c *lastMoment) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.wrote.Write(p)
}

func (c *lastMoment) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	c.changed.Broadcast()
	return nil
}

func (*lastMoment) SetWriteDeadline(time.Time) error { return nil }

// TestBodyEndsWhenClosed closes a body at the moment at which it ends by itself, while
// the client is watched. That is no sign that the client has left.
func TestBodyEndsWhenClosed(t *testing.T) {
	checkLeaks(t)
	conn := newLastMoment("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\n", "abc")
	aborted := make(chan error, 1)
	server := http1.NewServer(http1.Config{Buffers: poisoned()}, func() wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.OnEnd(endFunc(func(x *wire.Exchange) { aborted <- x.Aborted(); conn.Close() }))
			x.Watch()
			var reader sync.WaitGroup
			reader.Go(func() { io.ReadAll(req.Body) })
			<-conn.reading
			req.Body.Close()
			reader.Wait()
			return wire.Text(200, "ok"), nil
		})
	}, quiet(t))
	server.Serve(conn, &wire.Peer{}, nil)
	if err := <-aborted; err != nil {
		t.Errorf("aborted with %v", err)
	}
	if got := conn.wrote.String(); !strings.HasPrefix(got, "HTTP/1.1 200 OK") {
		t.Errorf("answered %q", got)
	}
}

// grudging is a connection that takes its second write only when that is interrupted.
type grudging struct {
	net.Conn
	writes      int // owned by who writes
	once        sync.Once
	interrupted chan struct{}
}

func (c *grudging) Write(p []byte) (int, error) {
	if c.writes++; c.writes == 2 {
		<-c.interrupted
		return len(p), nil
	}
	return c.Conn.Write(p)
}

func (c *grudging) SetWriteDeadline(t time.Time) error {
	if !t.IsZero() && t.Before(time.Now()) {
		c.once.Do(func() { close(c.interrupted) })
	}
	return c.Conn.SetWriteDeadline(t)
}

// TestUploadEndsWhenInterrupted answers before the end of a body has left, which it does
// just when it is given up. What was interrupted is of no use to anybody any more.
func TestUploadEndsWhenInterrupted(t *testing.T) {
	checkLeaks(t)
	near, far := net.Pipe()
	defer far.Close()
	go func() {
		readHead(bufio.NewReader(far))
		io.WriteString(far, "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	}()
	c := newClient(t, &grudging{Conn: near, interrupted: make(chan struct{})}, http1.ClientConfig{})
	body := stubborn{newStream()}
	time.AfterFunc(10*time.Millisecond, func() { body.pieces <- "x"; body.end() })
	resp, _, err := c.do(&wire.Request{Method: http.MethodPost, Authority: "a", Path: "/", ContentLength: 1, Body: body})
	if err != nil || resp.Status != 200 {
		t.Fatalf("got %v, %v", resp, err)
	}
	if diff := cmp.Diff([]bool{false}, c.released); diff != "" {
		t.Errorf("released: %s", diff)
	}
	c.done()
}
