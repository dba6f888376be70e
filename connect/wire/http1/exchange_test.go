package http1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// recorder keeps what an end sees.
type recorder struct {
	mu   sync.Mutex
	seen []string
}

func (r *recorder) End(x *wire.Exchange) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, fmt.Sprintf("%s %s %s %d in=%d out=%d flag=%s sent=%v err=%v",
		x.Method, x.Authority, x.Path, x.Status, x.BytesIn, x.BytesOut, x.Flag, !x.HeadSent.IsZero(), x.Err != nil))
}

func (r *recorder) take() []string {
	for range 4000 { // 20 s
		r.mu.Lock()
		seen := r.seen
		r.mu.Unlock()
		if len(seen) > 0 {
			break
		}
		time.Sleep(5 * time.Millisecond)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	seen := r.seen
	r.seen = nil
	return seen
}

func TestExchange(t *testing.T) {
	checkLeaks(t)
	var ends recorder
	broken := errors.New("broken")
	services := byPath{
		"/echo": func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			body, err := io.ReadAll(req.Body)
			return wire.Text(200, string(body)+string(body)), err
		},
		"/fault": func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return nil, &wire.Fault{Status: 403, Flag: wire.FlagDenied, Err: broken}
		},
		"/broken": func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			body := newStream("abc").end()
			body.err = broken
			return &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: body}, nil
		},
		"/panic": func(*wire.Exchange, *wire.Request) (*wire.Response, error) { panic("no") },
	}
	service := wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		x.OnEnd(&ends)
		return services.Serve(x, req)
	})
	r := serve(t, http1.Config{}, service)
	quietly := http1.NewServer(http1.Config{}, func() wire.Service { return service }, slog.New(slog.DiscardHandler))
	for _, test := range []struct{ request, want string }{
		{"POST /echo?a HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc", "POST h /echo?a 200 in=3 out=6 flag=- sent=true err=false"},
		{"GET /fault HTTP/1.1\r\nHost: h\r\n\r\n", "GET h /fault 403 in=0 out=10 flag=UAEX sent=true err=true"},
		{"GET /broken HTTP/1.1\r\nHost: h\r\n\r\n", "GET h /broken 200 in=0 out=3 flag=UC sent=true err=true"},
		{"GET /panic HTTP/1.1\r\nHost: h\r\n\r\n", "GET h /panic 500 in=0 out=22 flag=IE sent=true err=true"},
		{"POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na", "POST h /echo 400 in=1 out=24 flag=DC sent=true err=true"},
		{"POST /echo HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nax", "POST h /echo 400 in=1 out=23 flag=DPE sent=true err=true"},
	} {
		var conn net.Conn
		if strings.Contains(test.request, "panic") {
			near, far := net.Pipe()
			defer near.Close()
			go quietly.Serve(far, &wire.Peer{}, nil)
			conn = near
			send(t, conn, test.request)
		} else {
			conn = dial(t, r.addr)
			send(t, conn, test.request)
			conn.(*net.TCPConn).CloseWrite()
		}
		io.Copy(io.Discard, conn)
		if diff := cmp.Diff([]string{test.want}, ends.take()); diff != "" {
			t.Errorf("%q: %s", test.request, diff)
		}
	}
}

// TestContextKept keeps an exchange whose context was taken.
func TestContextKept(t *testing.T) {
	checkLeaks(t)
	var kept atomic.Pointer[wire.Exchange]
	r := serve(t, http1.Config{}, wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		if old := kept.Load(); old == x || old != nil && old.Path != "/first" {
			return nil, errors.New("the exchange was used again")
		}
		if req.Path == "/first" {
			x.Context()
			kept.Store(x)
		}
		return wire.Text(200, req.Path), nil
	}))
	conn := dial(t, r.addr)
	br := bufio.NewReader(conn)
	for _, path := range []string{"/first", "/other", "/third"} {
		send(t, conn, get(path))
		if _, body := answer(t, br, "GET"); body != path {
			t.Errorf("got %q", body)
		}
	}
	if err := kept.Load().Context().Err(); err == nil {
		t.Error("the context has not ended")
	}
}
