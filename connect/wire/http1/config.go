package http1

import (
	"net"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// Defaults of [Config] and [ClientConfig].
const (
	DefaultMaxHeaderBytes  = 60 << 10
	DefaultMaxHeaders      = 100
	DefaultIdleTimeout     = 5 * time.Minute
	DefaultHeaderTimeout   = 10 * time.Second
	DefaultWriteTimeout    = time.Minute
	DefaultBodyIdleTimeout = time.Minute
	DefaultTunnelTimeout   = time.Hour
	DefaultStreamTimeout   = 5 * time.Minute
	DefaultContinueTimeout = time.Second
)

// Config is how downstream connections are served. For durations, zero means
// the default and a negative value no limit.
type Config struct {
	// MaxHeaderBytes bounds the head of a request in bytes, and its trailers
	// once more; beyond it a request is answered with 431, or 414 if it is the
	// request line that does not end. Zero means 60 KiB.
	MaxHeaderBytes int
	// MaxHeaders bounds the number of fields in a head; beyond it: 431. Zero
	// means 100.
	MaxHeaders int
	// IdleTimeout is how long a connection may wait for its next request.
	// Default 5 minutes.
	IdleTimeout time.Duration
	// HeaderTimeout is how long a head may take from its first byte to its
	// last; beyond it: 408. Default 10 seconds.
	HeaderTimeout time.Duration
	// WriteTimeout is how long the client may take to accept what is written at
	// once (at most 64 KiB), unless [wire.Exchange.IdleTimeout] is longer. Default 1
	// minute.
	WriteTimeout time.Duration
	// BodyIdleTimeout is how long a request body may pause while nothing of the
	// response moves either; see [wire.Exchange.IdleTimeout]. Default 1 minute.
	BodyIdleTimeout time.Duration
	// RequestTimeout is how long a request may take from its first byte to the last
	// of its body, unless the response begins before; beyond it: 408. Default: no limit.
	RequestTimeout time.Duration
	// MaxAge is how long a connection may take requests; then it closes after the
	// one under way. Default: no limit.
	MaxAge time.Duration
	// TunnelTimeout is how long both directions of a connection may be silent
	// after 101 or CONNECT; see [wire.Exchange.IdleTimeout]. Default 1 hour.
	TunnelTimeout time.Duration
	// Connect allows the method CONNECT; without it: 405.
	Connect bool
	// Buffers to take from; nil means the server's own.
	Buffers *Buffers
	// HTTP2 serves a connection that begins with the preface of HTTP/2, of which
	// read has been read, and closes it; nil means that it gets a 505. With it, a
	// request line without a version closes the connection, and there is no 400.
	HTTP2 func(conn net.Conn, read []byte, peer *wire.Peer, drain *wire.Drain)
}

// ClientConfig is how upstream connections are used. For durations, zero means
// the default and a negative value no limit. [wire.Exchange.Deadline] holds
// besides.
type ClientConfig struct {
	// MaxHeaderBytes bounds the head of a response in bytes, and its trailers
	// once more. Zero means 60 KiB.
	MaxHeaderBytes int
	// MaxHeaders bounds the number of fields in a head. Zero means 100.
	MaxHeaders int
	// HeaderTimeout is how long the upstream may take for the head of its
	// response, once the request has left. Default: no limit.
	HeaderTimeout time.Duration
	// WriteTimeout is how long the upstream may take to accept what is written
	// at once (at most 64 KiB), unless [wire.Exchange.IdleTimeout] is longer. Default
	// 1 minute.
	WriteTimeout time.Duration
	// StreamTimeout is how long a response body may pause while nothing of the
	// request moves either; see [wire.Exchange.IdleTimeout]. Default 5 minutes.
	StreamTimeout time.Duration
	// TunnelTimeout is how long both directions may be silent after 101 or
	// CONNECT; see [wire.Exchange.IdleTimeout]. Default 1 hour.
	TunnelTimeout time.Duration
	// ContinueTimeout is how long a request body waits for 100 after
	// "expect: 100-continue" was sent. Default 1 second.
	ContinueTimeout time.Duration
	// Buffers to take from; nil means the connection's own. Connections should
	// share one.
	Buffers *Buffers
}

// Stats counts what a [Server] did that no exchange tells of. Its fields may be
// read at any time.
type Stats struct {
	// Rejected counts requests that were answered with 4xx or 5xx because of
	// their form, HeaderTimeouts those answered with 408.
	Rejected, HeaderTimeouts atomic.Uint64
	// Aborted counts responses that were cut off: the client left or stopped
	// reading, or the upstream's body broke.
	Aborted atomic.Uint64
	// Panics counts panics of services.
	Panics atomic.Uint64
	// Malformed counts what is no HTTP/1: heads, and bodies whose chunks are none.
	Malformed atomic.Uint64
	// IdleTimeouts counts connections that were closed since no request came,
	// BodyTimeouts requests whose body paused for too long, RequestTimeouts those that
	// took too long on the whole, Aged connections beyond MaxAge.
	IdleTimeouts, BodyTimeouts, RequestTimeouts, Aged atomic.Uint64
	// Ended counts connections that have ended, Lingered those of them that we closed
	// since the client did not, although it was told to; Drained those that a response
	// told so because of a drain.
	Ended             wire.Endings
	Lingered, Drained atomic.Uint64
	// Early counts responses that began before the request was whole, Unfinished those
	// that ended before.
	Early, Unfinished atomic.Uint64
}

func orDefault(d, otherwise time.Duration) time.Duration {
	switch {
	case d == 0:
		return otherwise
	case d < 0:
		return 0
	}
	return d
}

func (c Config) withDefaults() Config {
	if c.MaxHeaderBytes <= 0 {
		c.MaxHeaderBytes = DefaultMaxHeaderBytes
	}
	if c.MaxHeaders <= 0 {
		c.MaxHeaders = DefaultMaxHeaders
	}
	c.IdleTimeout = orDefault(c.IdleTimeout, DefaultIdleTimeout)
	c.HeaderTimeout = orDefault(c.HeaderTimeout, DefaultHeaderTimeout)
	c.WriteTimeout = orDefault(c.WriteTimeout, DefaultWriteTimeout)
	c.BodyIdleTimeout = orDefault(c.BodyIdleTimeout, DefaultBodyIdleTimeout)
	c.RequestTimeout = orDefault(c.RequestTimeout, 0)
	c.TunnelTimeout = orDefault(c.TunnelTimeout, DefaultTunnelTimeout)
	if c.Buffers == nil {
		c.Buffers = &Buffers{}
	}
	return c
}

func (c ClientConfig) withDefaults() ClientConfig {
	if c.MaxHeaderBytes <= 0 {
		c.MaxHeaderBytes = DefaultMaxHeaderBytes
	}
	if c.MaxHeaders <= 0 {
		c.MaxHeaders = DefaultMaxHeaders
	}
	c.HeaderTimeout = orDefault(c.HeaderTimeout, 0)
	c.WriteTimeout = orDefault(c.WriteTimeout, DefaultWriteTimeout)
	c.StreamTimeout = orDefault(c.StreamTimeout, DefaultStreamTimeout)
	c.TunnelTimeout = orDefault(c.TunnelTimeout, DefaultTunnelTimeout)
	c.ContinueTimeout = orDefault(c.ContinueTimeout, DefaultContinueTimeout)
	if c.Buffers == nil {
		c.Buffers = &Buffers{}
	}
	return c
}
