package stack

import (
	"crypto/tls"
	"log/slog"
	"net"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/http2"
)

// ServerConfig is how downstream connections are served.
type ServerConfig = mesh.Codec

// Server serves HTTP/1.1 and HTTP/2 on one port. Which of them is what ALPN has
// chosen, and if it has not, what the client's first bytes say, with and without TLS.
type Server struct {
	h1 *http1.Server
	h2 *http2.Server
	// only1 says that HTTP/2 is not served, whatever ALPN has chosen.
	only1 bool
	// second counts connections of HTTP/2; nil if nobody does. It is set before the
	// first connection.
	second *secondConns
}

// secondConns are connections of HTTP/2.
type secondConns struct {
	total stats.Counter
	open  stats.Gauge
}

// NewServer makes a server; service and log are as in [http1.NewServer].
func NewServer(c ServerConfig, service func() wire.Service, log *slog.Logger) *Server {
	s := &Server{only1: c.HTTP1Only}
	s.h2 = http2.NewServer(http2.Config{
		Bounds:     bounds(c),
		MaxStreams: c.HTTP2.MaxStreams, IdleTimeout: c.IdleTimeout, HeaderTimeout: c.HeaderTimeout,
		RequestTimeout: c.RequestTimeout, MaxAge: c.MaxAge, Connect: c.Connect,
	}, service, log)
	h1 := http1.Config{
		MaxHeaderBytes: c.MaxHeaderBytes, MaxHeaders: c.MaxHeaders, IdleTimeout: c.IdleTimeout, HeaderTimeout: c.HeaderTimeout,
		RequestTimeout: c.RequestTimeout, MaxAge: c.MaxAge, Connect: c.Connect,
	}
	if !c.HTTP1Only {
		h1.HTTP2 = func(conn net.Conn, read []byte, peer *wire.Peer, drain *wire.Drain) {
			defer s.countSecond()()
			s.h2.Resume(conn, read, peer, drain)
		}
	}
	s.h1 = http1.NewServer(h1, service, log)
	return s
}

func bounds(c ServerConfig) http2.Bounds {
	return http2.Bounds{
		MaxHeaderBytes: c.MaxHeaderBytes, MaxHeaders: c.MaxHeaders,
		StreamWindow: c.HTTP2.StreamWindow, ConnWindow: c.HTTP2.ConnWindow,
		PingInterval: c.HTTP2.PingInterval, PingTimeout: c.HTTP2.PingTimeout,
	}
}

func (s *Server) countSecond() (ended func()) {
	if s.second == nil {
		return func() {}
	}
	s.second.total.Add(1)
	s.second.open.Add(1)
	return func() { s.second.open.Add(-1) }
}

// Stats are the counters of both codecs.
func (s *Server) Stats() (*http1.Stats, *http2.Stats) { return &s.h1.Stats, &s.h2.Stats }

// Serve serves one connection and closes it.
func (s *Server) Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain) {
	if secured, ok := conn.(*tls.Conn); ok && !s.only1 && secured.ConnectionState().NegotiatedProtocol == "h2" {
		defer s.countSecond()()
		s.h2.Serve(conn, peer, drain)
		return
	}
	s.h1.Serve(conn, peer, drain)
}
