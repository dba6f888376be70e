package http2_test

import (
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// relay is a server on a loopback port.
type relay struct {
	addr   string
	server *http2.Server
	drain  *wire.Drain
	pool   *pool
}

// serve runs a server for one test.
func serve(t testing.TB, cfg http2.Config, service wire.Service) *relay {
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
		server: http2.NewServer(cfg, func() wire.Service { return service }, quiet(t)),
		drain:  &wire.Drain{},
	}
	var conns sync.WaitGroup
	conns.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { r.server.Serve(conn, &wire.Peer{}, r.drain) })
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

// relayTo runs a server that forwards to addr.
func relayTo(t testing.TB, addr string, cfg http2.Config) *relay {
	t.Helper()
	if cfg.Buffers == nil {
		cfg.Buffers = poisoned()
	}
	p := &pool{addr: addr, cfg: http2.ClientConfig{Bounds: http2.Bounds{Buffers: cfg.Buffers}}}
	r := serve(t, cfg, p)
	r.pool = p
	return r
}

// pool is the simplest service that has an upstream: connections are shared, and a
// new one is made when the others are full.
type pool struct {
	addr string
	cfg  http2.ClientConfig

	mu      sync.Mutex
	conns   []*http2.ClientConn
	dials   int
	running sync.WaitGroup
}

func (p *pool) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	a := x.NewAttempt("upstream", time.Now())
	conn, err := p.get()
	if err != nil {
		return nil, &wire.Fault{Status: 503, Flag: wire.FlagUpstreamConnect, Err: err}
	}
	a.Connected = time.Now()
	return conn.RoundTrip(x, a, req)
}

func (p *pool) get() (*http2.ClientConn, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.conns {
		if c.Acquire() {
			return c, nil
		}
	}
	nc, err := net.Dial("tcp", p.addr)
	if err != nil {
		return nil, err
	}
	c := http2.NewClientConn(nc, p.cfg)
	p.running.Go(func() { c.Run() })
	c.Acquire()
	p.dials++
	p.conns = append(p.conns, c)
	return c, nil
}

func (p *pool) close() {
	p.mu.Lock()
	for _, c := range p.conns {
		c.Close()
	}
	p.mu.Unlock()
	p.running.Wait()
}

func poisoned() *http2.Buffers {
	b := &http2.Buffers{}
	b.Poison()
	return b
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

// backend runs handler behind cleartext HTTP/2 of net/http.
func backend(t testing.TB, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.Protocols.SetHTTP1(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// client is a client of net/http without TLS.
func client(t testing.TB) *http.Client {
	transport := &http.Transport{DisableCompression: true, Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return &http.Client{Transport: transport}
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	return conn
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
