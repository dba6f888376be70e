package stack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"time"

	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// Connect answers CONNECT itself: it makes a connection for raw bytes to a host of
// the cluster that find returns, and says 200. What was asked for in the target does
// not matter; where the bytes go is configured, so nobody can reach anything else.
func Connect(find func() (*upstream.Cluster, error)) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if req.Method != http.MethodConnect || req.Body == nil {
			return nil, &wire.Fault{Status: http.StatusMethodNotAllowed, Flag: wire.FlagDenied, Text: "only CONNECT is served here"}
		}
		cluster, err := find()
		if err != nil {
			return nil, err
		}
		x.Cluster = cluster.Name()
		a := x.NewAttempt(x.Cluster, time.Now())
		conn, host, err := cluster.Dial(upstream.For(x.Context(), x.Peer))
		if err != nil {
			a.End, a.Flag = time.Now(), wire.AsFault(err).Flag
			return nil, dialFault(x, err)
		}
		a.Endpoint, a.Connected = host.Address(), time.Now()
		a.Head = a.Connected
		t := &tunnel{conn: conn, down: req.Body}
		if err := x.OnAbort(t); err != nil {
			t.Close()
			return nil, wire.Aborted(err)
		}
		return &wire.Response{Status: http.StatusOK, ContentLength: wire.UnknownLength, Body: t}, nil
	})
}

// dialFault is an error of Dial as the answer to a request.
func dialFault(x *wire.Exchange, err error) error {
	if reason := x.Aborted(); reason != nil {
		return wire.Aborted(reason)
	}
	fault := *wire.AsFault(err)
	if fault.Status == 0 {
		fault.Status = http.StatusServiceUnavailable
	}
	if fault.Text == "" {
		fault.Text = "upstream connect error"
	}
	fault.Err = fmt.Errorf("connect: %w", err)
	return &fault
}

// tunnel is what an upstream sends on a raw connection, as the body of a response.
// Another goroutine sends what the client does, from the first Read on: the head of
// the response has left then.
type tunnel struct {
	conn net.Conn
	down wire.Body
	done chan struct{} // closed when the goroutine has ended; nil before it began
}

// Read implements [wire.Body].
func (t *tunnel) Read(p []byte) (int, error) {
	if t.done == nil {
		t.done = make(chan struct{})
		go t.pump()
	}
	n, err := t.conn.Read(p)
	if n > 0 || err == nil || errors.Is(err, io.EOF) {
		return n, err
	}
	return n, &wire.Fault{Status: http.StatusBadGateway, Flag: wire.FlagUpstreamReset, Text: "upstream connection was lost", Err: err}
}

// copyBuffer is what one direction of a tunnel takes at once, in bytes.
const copyBuffer = 16 << 10

// pump sends what the client does, and its end. A client that breaks off takes the
// connection with it.
func (t *tunnel) pump() {
	defer close(t.done)
	if _, err := io.CopyBuffer(struct{ io.Writer }{t.conn}, struct{ io.Reader }{t.down}, make([]byte, copyBuffer)); err != nil {
		t.conn.Close()
		t.down.Close() // its other end learns of it
		return
	}
	if half, ok := t.conn.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
		t.conn.Close()
	}
}

// Trailer implements [wire.Body].
func (t *tunnel) Trailer() *wire.Header { return nil }

// Cancel implements [wire.Canceler].
func (t *tunnel) Cancel() { t.conn.Close() }

// Close implements [wire.Body].
func (t *tunnel) Close() error {
	err := t.conn.Close()
	if t.done != nil {
		t.down.Close() // it ends the goroutine
		<-t.done
	}
	return err
}
