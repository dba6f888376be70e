package http2

import (
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// Server serves downstream connections. It is made by [NewServer] and safe for
// concurrent use.
type Server struct {
	// Stats counts what happened.
	Stats Stats
	// Also, if not nil, counts the same, and Frames in the place of Stats: it may outlive
	// the server, and be that of several. It is set before the first connection.
	Also *Stats

	// set by NewServer
	cfg     Config
	service func() wire.Service
	log     *slog.Logger

	date atomic.Pointer[dateLine]
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

// Serve serves one downstream connection until it ends and all its exchanges have
// ended, and closes it. The client must speak HTTP/2 from its first byte on, by
// prior knowledge or because ALPN has chosen "h2" (a *tls.Conn has done its
// handshake). peer must not be nil and is shared by all exchanges. The connection
// is registered in drain while it lasts; nil means that nobody drains.
func (s *Server) Serve(nc net.Conn, peer *wire.Peer, drain *wire.Drain) {
	s.Resume(nc, nil, peer, drain)
}

// Resume is Serve for a connection of which somebody has read the first bytes to
// find out what the client speaks. It does not keep read.
func (s *Server) Resume(nc net.Conn, read []byte, peer *wire.Peer, drain *wire.Drain) {
	if drain == nil {
		drain = &wire.Drain{}
	}
	c := newConn(s, nc, peer, drain)
	drain.Add(c)
	defer drain.Remove(c)
	if d := s.cfg.MaxAge; d > 0 {
		defer time.AfterFunc(d, func() {
			s.count(func(s *Stats) { s.Aged.Add(1) })
			c.CloseIdle()
		}).Stop()
	}
	c.run(read)
}

// count counts here, and where else it is to be counted.
func (s *Server) count(f func(s *Stats)) {
	f(&s.Stats)
	if s.Also != nil {
		f(s.Also)
	}
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
