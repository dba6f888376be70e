package http2_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
	serai "github.com/serai-net/serai/connect/wire/http2"
)

// upstream is a connection of ours to a peer that is played by script.
func upstream(t testing.TB, script func(r *raw)) *serai.ClientConn {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var running sync.WaitGroup
	running.Go(func() {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		defer conn.Close()
		io.ReadFull(conn, make([]byte, len(http2.ClientPreface)))
		r := newRaw(t, conn)
		r.fr.WriteSettings()
		script(r)
		io.Copy(io.Discard, conn)
	})
	cfg := serai.ClientConfig{Bounds: serai.Bounds{Buffers: poisoned()}}
	c := serai.NewClientConn(dial(t, l.Addr().String()), cfg)
	running.Go(func() { c.Run() })
	t.Cleanup(func() {
		l.Close()
		c.Close()
		running.Wait()
	})
	return c
}

// get makes one exchange and tells how it went.
func get(c *serai.ClientConn, method string, edit func(x *wire.Exchange, req *wire.Request)) string {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	req := &wire.Request{Method: method, Scheme: "http", Authority: "a", Path: "/"}
	if edit != nil {
		edit(x, req)
	}
	defer func() { x.Done(time.Now()) }()
	if !c.Acquire() {
		return "full"
	}
	resp, err := c.RoundTrip(x, x.NewAttempt("c", time.Now()), req)
	if err != nil {
		fault := wire.AsFault(err)
		return fmt.Sprintf("%d %s repeat %d", fault.Status, fault.Flag, fault.Repeat)
	}
	text := fmt.Sprint(resp.Status)
	if resp.Body == nil {
		return text
	}
	var body strings.Builder
	buf := make([]byte, 100)
	for {
		n, err := resp.Body.Read(buf)
		body.Write(buf[:n])
		if errors.Is(err, io.EOF) {
			text += fmt.Sprintf(" %q", body.String())
			for name, value := range resp.Body.Trailer().All() {
				text += " " + name + "=" + value
			}
			return text
		}
		if err != nil {
			return text + fmt.Sprintf(" %q then %s", body.String(), wire.AsFault(err).Flag)
		}
	}
}

// TestUpstreams asks peers of all kinds.
func TestUpstreams(t *testing.T) {
	checkLeaks(t)
	ok := func(r *raw, id uint32) { r.headers(id, true, ":status", "204") }
	for _, test := range []struct {
		name   string
		script func(r *raw)
		want   string
	}{
		{"no content", func(r *raw) { ok(r, 1) }, "204"},
		{"body", func(r *raw) { r.headers(1, false, ":status", "200"); r.fr.WriteData(1, true, []byte("hi")) }, `200 "hi"`},
		{"trailers", func(r *raw) {
			r.headers(1, false, ":status", "200")
			r.fr.WriteData(1, false, []byte("hi"))
			r.headers(1, true, "grpc-status", "0")
		}, `200 "hi" grpc-status=0`},
		{"trailers without data", func(r *raw) {
			r.headers(1, false, ":status", "200")
			r.headers(1, true, "grpc-status", "5")
		}, `200 "" grpc-status=5`},
		{"interim", func(r *raw) {
			r.headers(1, false, ":status", "103", "link", "x")
			r.headers(1, false, ":status", "200", "content-length", "2")
			r.fr.WriteData(1, true, []byte("hi"))
		}, `200 "hi"`},
		{"reset with no error behind the end", func(r *raw) {
			r.headers(1, false, ":status", "200")
			r.fr.WriteData(1, true, []byte("hi"))
			r.fr.WriteRSTStream(1, http2.ErrCodeNo)
		}, `200 "hi"`},

		{"refused", func(r *raw) { r.fr.WriteRSTStream(1, http2.ErrCodeRefusedStream) }, "503 UC repeat 2"},
		{"reset", func(r *raw) { r.fr.WriteRSTStream(1, http2.ErrCodeInternal) }, "503 UC repeat 1"},
		{"reset behind interim", func(r *raw) {
			r.headers(1, false, ":status", "103")
			r.fr.WriteRSTStream(1, http2.ErrCodeInternal)
		}, "503 UC repeat 0"},
		{"goaway, not processed", func(r *raw) { r.fr.WriteGoAway(0, http2.ErrCodeNo, nil) }, "503 UC repeat 2"},
		{"goaway, processed", func(r *raw) { r.fr.WriteGoAway(1, http2.ErrCodeNo, nil); ok(r, 1) }, "204"},
		{"closed", func(r *raw) { r.conn.Close() }, "503 UC repeat 1"},
		{"reset in the body", func(r *raw) {
			r.headers(1, false, ":status", "200")
			r.fr.WriteData(1, false, []byte("h"))
			r.fr.WriteRSTStream(1, http2.ErrCodeCancel)
		}, `then UC`},
		{"closed in the body", func(r *raw) {
			r.headers(1, false, ":status", "200", "content-length", "5")
			r.conn.Close()
		}, `then UC`},

		{"no status", func(r *raw) { r.headers(1, true, "x", "y") }, "502 UPE repeat 0"},
		{"bad status", func(r *raw) { r.headers(1, true, ":status", "2x0") }, "502 UPE repeat 0"},
		{"status 101", func(r *raw) { r.headers(1, false, ":status", "101") }, "502 UPE repeat 0"},
		{"final interim", func(r *raw) { r.headers(1, true, ":status", "103") }, "502 UPE repeat 0"},
		{"upper case", func(r *raw) { r.headers(1, true, ":status", "200", "X", "y") }, "502 UPE repeat 0"},
		{"field of the connection", func(r *raw) { r.headers(1, true, ":status", "200", "connection", "x") }, "502 UPE repeat 0"},
		{"path in a response", func(r *raw) { r.headers(1, true, ":status", "200", ":path", "/") }, "502 UPE repeat 0"},
		{"length without body", func(r *raw) { r.headers(1, true, ":status", "200", "content-length", "5") }, "502 UPE repeat 0"},
		{"body too long", func(r *raw) {
			r.headers(1, false, ":status", "200", "content-length", "1")
			r.fr.WriteData(1, true, []byte("hi"))
		}, `then UPE`},
		{"body too short", func(r *raw) {
			r.headers(1, false, ":status", "200", "content-length", "5")
			r.fr.WriteData(1, true, []byte("hi"))
		}, `then UPE`},
		{"data before the head", func(r *raw) { r.fr.WriteData(1, true, []byte("hi")) }, "502 UPE repeat 0"},
		{"too many interim", func(r *raw) {
			for range 17 {
				r.headers(1, false, ":status", "103")
			}
		}, "502 UPE repeat 0"},
		{"head too large", func(r *raw) {
			var more []string
			for range 101 {
				more = append(more, "x", "y")
			}
			r.headers(1, true, append([]string{":status", "200"}, more...)...)
		}, "502 UPE repeat 0"},
		{"push", func(r *raw) {
			r.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: r.block(request("GET")...), EndHeaders: true})
		}, "503 UC repeat 1"},
		{"stream of nobody", func(r *raw) { r.headers(7, true, ":status", "200") }, "503 UC repeat 1"},
		{"no HTTP/2", func(r *raw) { io.WriteString(r.conn, "HTTP/1.1 400 Bad Request\r\n\r\n") }, "503 UC repeat 1"},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := upstream(t, func(r *raw) {
				r.until("HEADERS 1")
				test.script(r)
			})
			got := get(c, "GET", nil)
			if strings.HasPrefix(test.want, "then") && strings.HasSuffix(got, test.want) {
				return // how much came before is a matter of time
			}
			if got != test.want {
				t.Errorf("got %s, want %s", got, test.want)
			}
		})
	}
}

// TestUpstreamResets resets many streams of one connection. Each of them has cost us a
// request: the others go on.
func TestUpstreamResets(t *testing.T) {
	checkLeaks(t)
	const resets = serai.DefaultMaxResets + 200
	c := upstream(t, func(r *raw) {
		for i := range uint32(resets) {
			r.until(fmt.Sprintf("HEADERS %d ", 2*i+1))
			if i%2 == 0 {
				r.fr.WriteRSTStream(2*i+1, http2.ErrCodeInternal)
			} else {
				r.headers(2*i+1, true, ":status", "2x0")
			}
		}
		r.until("HEADERS")
		r.headers(2*resets+1, true, ":status", "204")
	})
	for i := range resets {
		if got, want := get(c, "GET", nil), [...]string{"503 UC repeat 1", "502 UPE repeat 0"}[i%2]; got != want {
			t.Fatalf("%d: got %s, want %s", i, got, want)
		}
	}
	if got := get(c, "GET", nil); got != "204" {
		t.Errorf("then %s", got)
	}
}

// TestUpstreamFloods sends what costs little: the connection ends.
func TestUpstreamFloods(t *testing.T) {
	checkLeaks(t)
	for name, flood := range map[string]func(r *raw) error{
		"ping":     func(r *raw) error { return r.fr.WritePing(false, [8]byte{}) },
		"settings": func(r *raw) error { return r.fr.WriteSettings() },
		"window":   func(r *raw) error { return r.fr.WriteWindowUpdate(0, 1) },
		"empty":    func(r *raw) error { return r.fr.WriteData(1, false, nil) },
	} {
		t.Run(name, func(t *testing.T) {
			c := upstream(t, func(r *raw) {
				r.until("HEADERS 1")
				r.headers(1, false, ":status", "200")
				for flood(r) == nil {
				}
			})
			if got := get(c, "GET", nil); got != `200 "" then UC` {
				t.Error(got)
			}
			if !c.Gone() {
				t.Error("the connection lives")
			}
		})
	}
}

// TestPlaces keeps to what the upstream allows.
func TestPlaces(t *testing.T) {
	checkLeaks(t)
	c := upstream(t, func(r *raw) {
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: 2})
		r.until("HEADERS 1")
		r.headers(1, true, ":status", "204")
	})
	if got := get(c, "GET", nil); got != "204" {
		t.Fatal(got)
	}
	for _, want := range []bool{true, true, false} {
		if got := c.Acquire(); got != want {
			t.Error("not two places")
		}
	}
	if !c.IdleSince().IsZero() {
		t.Error("it is idle")
	}
}

// TestShutdown lets an exchange end, and takes no more.
func TestShutdown(t *testing.T) {
	checkLeaks(t)
	asked, shut := make(chan bool), make(chan bool)
	closed := make(chan string, 1)
	c := upstream(t, func(r *raw) {
		r.until("HEADERS 1")
		close(asked)
		<-shut
		r.headers(1, true, ":status", "204")
		closed <- r.until("GOAWAY")
	})
	go func() {
		<-asked
		c.Shutdown()
		if c.Acquire() {
			t.Error("it takes more")
		}
		close(shut)
	}()
	if got := get(c, "GET", nil); got != "204" {
		t.Error(got)
	}
	if got := <-closed; got != "GOAWAY NO_ERROR" {
		t.Error(got)
	}
}

// TestCancel gives an exchange up from outside, before the head and in the body.
func TestCancel(t *testing.T) {
	checkLeaks(t)
	for _, head := range []bool{false, true} {
		told := make(chan string, 1)
		started := make(chan *wire.Exchange, 1)
		c := upstream(t, func(r *raw) {
			r.until("HEADERS 1")
			if head {
				r.headers(1, false, ":status", "200")
			} else {
				(<-started).Abort(wire.ErrClientGone)
			}
			told <- r.until("RST")
		})
		x := &wire.Exchange{}
		x.Reset(nil, &wire.Peer{}, time.Now())
		started <- x
		c.Acquire()
		resp, err := c.RoundTrip(x, x.NewAttempt("c", time.Now()),
			&wire.Request{Method: "POST", Path: "/", Body: &endless{}, ContentLength: -1})
		if head {
			if err != nil {
				t.Fatal(err)
			}
			time.AfterFunc(10*time.Millisecond, func() { x.Abort(wire.ErrClientGone) })
			_, err = resp.Body.Read(make([]byte, 10))
		}
		if !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("head %v: %v", head, err)
		}
		x.Done(time.Now())
		if got := <-told; got != "RST 1 CANCEL" {
			t.Error(got)
		}
		if since := c.IdleSince(); since.IsZero() {
			t.Error("the place was not given back")
		}
	}
}

// endless is a body that waits for its end, which is its being closed.
type endless struct {
	once   sync.Once
	closed chan bool
}

func (e *endless) init() { e.once.Do(func() { e.closed = make(chan bool) }) }

func (e *endless) Read([]byte) (int, error) {
	e.init()
	<-e.closed
	return 0, context.Canceled
}

func (e *endless) Trailer() *wire.Header { return nil }

func (e *endless) Close() error {
	e.init()
	select {
	case <-e.closed:
	default:
		close(e.closed)
	}
	return nil
}
