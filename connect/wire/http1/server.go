package http1

import (
	"bytes"
	"crypto/tls"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// Server serves downstream connections. It is made by [NewServer] and safe for
// concurrent use.
type Server struct {
	// Stats counts what happened.
	Stats Stats
	// Also, if not nil, counts the same: it may outlive the server, and be that of
	// several. It is set before the first connection.
	Also *Stats

	// set by NewServer
	cfg     Config
	service func() wire.Service
	log     *slog.Logger

	exchanges sync.Pool // of *exchange
	date      atomic.Pointer[dateLine]
}

// dateLine is the value of Date in one second.
type dateLine struct {
	second int64
	text   string
}

// NewServer makes a server. It calls service once per exchange, so that what it
// returns may be swapped under living connections; it must not return nil. log
// is told what is a fault of ours (a panic, a response that cannot be written),
// never what a client or an upstream did.
func NewServer(cfg Config, service func() wire.Service, log *slog.Logger) *Server {
	return &Server{cfg: cfg.withDefaults(), service: service, log: log}
}

// Serve serves one downstream connection until it ends, and closes it. It takes
// as many requests as the client sends, one after the other. A connection that
// is exactly a *net.TCPConn, *net.UnixConn or *tls.Conn (its handshake done) is
// served best; any other may be used too. peer must not be nil and is shared by
// all exchanges. The connection is registered in drain while it lasts; nil means
// that nobody drains.
func (s *Server) Serve(nc net.Conn, peer *wire.Peer, drain *wire.Drain) {
	if drain == nil {
		drain = &wire.Drain{}
	}
	c := newConn(s, nc, peer, drain)
	drain.Add(c)
	defer drain.Remove(c)
	young := s.age(c)
	defer young()
	mayHTTP2 := s.cfg.HTTP2 != nil && !agreed(nc)
	for first := true; c.await(); first = false {
		if first && mayHTTP2 && c.isHTTP2() {
			read := bytes.Clone(c.src.unread())
			c.src.r = c.src.w
			c.src.forget()
			young()
			s.cfg.HTTP2(nc, read, peer, drain)
			return
		}
		if !c.serve() {
			break
		}
	}
	c.end()
	c.counted()
}

// age lets a connection end when it has become too old, until stop is called.
func (s *Server) age(c *conn) (stop func()) {
	if s.cfg.MaxAge <= 0 {
		return func() {}
	}
	timer := time.AfterFunc(s.cfg.MaxAge, func() {
		s.count(func(s *Stats) { s.Aged.Add(1) })
		c.CloseIdle()
	})
	return func() { timer.Stop() }
}

// count counts here, and where else it is to be counted.
func (s *Server) count(f func(s *Stats)) {
	f(&s.Stats)
	if s.Also != nil {
		f(s.Also)
	}
}

// agreed tells whether ALPN has chosen a protocol, which is ours then.
func agreed(nc net.Conn) bool {
	secured, ok := nc.(*tls.Conn)
	return ok && secured.ConnectionState().NegotiatedProtocol != ""
}

// dateAt returns the value of Date.
func (s *Server) dateAt(now time.Time) string {
	second := now.Unix()
	if d := s.date.Load(); d != nil && d.second == second {
		return d.text
	}
	d := &dateLine{second: second, text: now.UTC().Format(http.TimeFormat)}
	s.date.Store(d)
	return d.text
}

// exchange is what one exchange needs, kept for the next one.
type exchange struct {
	x       wire.Exchange
	req     wire.Request
	framing framing
	body    *requestBody
	done    bool // x.Done was called
	// waits says that the client was never told to send the body, so that nobody
	// knows whether it will.
	waits bool
	// early says that the request was not whole when the response began.
	early bool
}

func (s *Server) takeExchange() *exchange {
	if ex, ok := s.exchanges.Get().(*exchange); ok {
		return ex
	}
	return &exchange{body: &requestBody{}}
}
