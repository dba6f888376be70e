package http1_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/socket"
)

// gathered keeps what is written until there is more than one record of it, so that
// both are read at once.
type gathered struct {
	net.Conn
	on   bool
	kept []byte
}

func (g *gathered) Write(p []byte) (int, error) {
	if !g.on {
		return g.Conn.Write(p)
	}
	if g.kept == nil {
		g.kept = append(g.kept, p...)
		return len(p), nil
	}
	_, err := g.Conn.Write(append(g.kept, p...))
	return len(p), err
}

// secured is a client of a TLS upstream that answers its first request and sends a
// response that nobody asked for in another record, at once.
func secured(t *testing.T) *client {
	t.Helper()
	backend := httptest.NewUnstartedServer(http.NotFoundHandler())
	backend.StartTLS()
	t.Cleanup(backend.Close)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		raw, err := l.Accept()
		if err != nil {
			return
		}
		t.Cleanup(func() { raw.Close() })
		below := &gathered{Conn: raw}
		conn := tls.Server(below, backend.TLS)
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			t.Error(err)
			return
		}
		below.on = true
		for _, text := range []string{
			"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nforged",
		} {
			if _, err := conn.Write([]byte(text)); err != nil {
				t.Error(err)
			}
		}
	}()
	conn := tls.Client(bulk.Under(socket.New(dial(t, l.Addr().String())), &bulk.Buffers{}), &tls.Config{InsecureSkipVerify: true})
	if err := conn.HandshakeContext(context.Background()); err != nil {
		t.Fatal(err)
	}
	c := newClient(t, conn, http1.ClientConfig{})
	t.Cleanup(func() { c.conn.Close() })
	resp, _, err := c.do(simple("GET"))
	if err != nil || resp.Status != 200 {
		t.Fatal(resp, err)
	}
	c.done()
	return c
}

// What TLS has read ahead is seen also where the socket is not looked at.
func TestWarmSurplus(t *testing.T) {
	if secured(t).conn.Alive(true) {
		t.Error("alive in spite of unsolicited bytes")
	}
}

// It is no response to the next request, which has not left and may be repeated.
func TestSurplusIsNoResponse(t *testing.T) {
	c := secured(t)
	c.x.Reset(c.control, c.x.Peer, time.Now())
	resp, _, err := c.do(simple("POST"))
	fault, ok := errors.AsType[*wire.Fault](err)
	if !ok || fault.Repeat != wire.RepeatAny {
		t.Errorf("%+v, %v", resp, err)
	}
}
