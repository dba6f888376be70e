package stack

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/socket"
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
		cluster.Note(x)
		a := x.NewAttempt(x.Cluster, time.Now())
		conn, host, err := cluster.Dial(upstream.For(x.Context(), x.Peer), x.Choice)
		if err != nil {
			a.End, a.Flag = time.Now(), wire.AsFault(err).Flag
			a.Fail(err)
			return nil, dialFault(x, err)
		}
		host.Note(a, conn)
		a.Connected = time.Now()
		a.Head = a.Connected
		t := &tunnel{conn: conn, down: req.Body, idle: x.Pause(http1.DefaultTunnelTimeout)}
		t.touch()
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
	idle time.Duration // how long both directions may be silent; 0 for ever
	done chan struct{} // closed when the goroutine has ended; nil before it began
	// last is when a byte last moved either way, in Unix nanoseconds.
	last atomic.Int64
}

func (t *tunnel) touch() { t.last.Store(time.Now().UnixNano()) }

// Read implements [wire.Body].
func (t *tunnel) Read(p []byte) (int, error) {
	if t.done == nil {
		t.done = make(chan struct{})
		go t.pump()
	}
	n, err := t.read(p)
	if n > 0 || err == nil || errors.Is(err, io.EOF) {
		t.touch()
		return n, err
	}
	return n, &wire.Fault{Status: http.StatusBadGateway, Flag: wire.FlagUpstreamReset, Text: "upstream connection was lost", Err: err}
}

// read waits as long as something moves, this way or the other.
func (t *tunnel) read(p []byte) (int, error) {
	for {
		last := t.last.Load()
		if t.idle > 0 {
			t.conn.SetReadDeadline(time.Unix(0, last).Add(t.idle)) //nolint:errcheck // the read will tell
		}
		n, err := t.conn.Read(p)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) || t.last.Load() == last {
			return n, err
		}
	}
}

// sent is the upstream as who sends to it: what moves is noticed.
type sent struct{ *tunnel }

func (s sent) Write(p []byte) (int, error) {
	s.touch()
	return s.conn.Write(p)
}

// copyBuffer is what one direction of a tunnel takes at once, in bytes.
const copyBuffer = 16 << 10

// pump sends what the client does, and its end. A client that breaks off takes the
// connection with it.
func (t *tunnel) pump() {
	defer close(t.done)
	if _, err := io.CopyBuffer(sent{t}, struct{ io.Reader }{t.down}, make([]byte, copyBuffer)); err != nil {
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

// Cancel implements [wire.Canceler]. Closing TLS might wait for an upstream that does
// not read, so what is below it is closed.
func (t *tunnel) Cancel() {
	if sock := socket.Of(bulk.Bare(t.conn)); sock != nil {
		sock.Close()
		return
	}
	t.conn.Close()
}

// Close implements [wire.Body].
func (t *tunnel) Close() error {
	err := t.conn.Close()
	if t.done != nil {
		t.down.Close() // it ends the goroutine
		<-t.done
	}
	return err
}
