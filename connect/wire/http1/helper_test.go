package http1_test

import (
	"bufio"
	"io"
	"log/slog"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// relay is a server on a loopback port.
type relay struct {
	addr   string
	server *http1.Server
	drain  *wire.Drain
	pool   *pool
}

// serve runs a server for one test.
func serve(t testing.TB, cfg http1.Config, service wire.Service) *relay {
	t.Helper()
	if cfg.Buffers == nil {
		cfg.Buffers = poisoned()
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{
		addr:   l.Addr().String(),
		server: http1.NewServer(cfg, func() wire.Service { return service }, quiet(t)),
		drain:  &wire.Drain{},
	}
	peer := &wire.Peer{}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { r.server.Serve(conn, peer, r.drain) })
		}
	})
	t.Cleanup(func() {
		l.Close()
		r.drain.Kill()
		conns.Wait()
		if r.pool != nil {
			r.pool.close()
		}
	})
	return r
}

// quiet is a logger that is not to be used.
func quiet(t testing.TB) *slog.Logger {
	return slog.New(slog.NewTextHandler(complainer{t}, nil))
}

type complainer struct{ t testing.TB }

func (c complainer) Write(b []byte) (int, error) {
	c.t.Errorf("logged: %s", strings.ReplaceAll(string(b), `\n`, "\n"))
	return len(b), nil
}

// relayTo runs a server that forwards to addr.
func relayTo(t testing.TB, addr string, cfg http1.Config, ccfg http1.ClientConfig) *relay {
	t.Helper()
	if cfg.Buffers == nil {
		cfg.Buffers = poisoned()
	}
	ccfg.Buffers = cfg.Buffers
	p := newPool(addr, ccfg)
	r := serve(t, cfg, p)
	r.pool = p
	return r
}

func poisoned() *http1.Buffers {
	b := &http1.Buffers{}
	b.Poison()
	return b
}

// readHead reads up to and including the empty line.
func readHead(r *bufio.Reader) (string, error) {
	var head strings.Builder
	for {
		line, err := r.ReadString('\n')
		head.WriteString(line)
		if err != nil || line == "\r\n" {
			return head.String(), err
		}
	}
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(time.Minute))
	return conn
}

func send(t testing.TB, w io.Writer, text string) {
	t.Helper()
	if _, err := io.WriteString(w, text); err != nil {
		t.Fatalf("send: %v", err)
	}
}

// answer reads one response and its body.
func answer(t testing.TB, r *bufio.Reader, method string) (*http.Response, string) {
	t.Helper()
	resp, err := http.ReadResponse(r, &http.Request{Method: method})
	if err != nil {
		t.Fatalf("read response: %v", err)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatalf("read body: %v", err)
	}
	resp.Body.Close()
	return resp, string(body)
}

// eventually tells whether ok is true within a minute.
func eventually(ok func() bool) bool {
	for range 3000 {
		if ok() {
			return true
		}
		time.Sleep(20 * time.Millisecond)
	}
	return ok()
}

// checkLeaks fails the test if it leaves goroutines behind.
func checkLeaks(t testing.TB) {
	t.Helper()
	before := runtime.NumGoroutine()
	t.Cleanup(func() {
		if eventually(func() bool { return runtime.NumGoroutine() <= before }) {
			return
		}
		buf := make([]byte, 1<<20)
		t.Errorf("goroutines leak: %d, had %d\n%s", runtime.NumGoroutine(), before, buf[:runtime.Stack(buf, true)])
	})
}
