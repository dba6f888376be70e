package http2

import (
	"cmp"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// Defaults of [Config] and [ClientConfig].
const (
	DefaultMaxHeaderBytes  = 60 << 10
	DefaultMaxHeaders      = 100
	DefaultMaxStreams      = 100
	DefaultStreamWindow    = 256 << 10
	DefaultConnWindow      = 1 << 20
	DefaultMaxResets       = 1000
	DefaultMaxControl      = 1000
	DefaultIdleTimeout     = 5 * time.Minute
	DefaultHeaderTimeout   = 10 * time.Second
	DefaultWriteTimeout    = time.Minute
	DefaultBodyIdleTimeout = time.Minute
	DefaultTunnelTimeout   = time.Hour
	DefaultStreamTimeout   = 5 * time.Minute
	DefaultContinueTimeout = time.Second
	DefaultPingInterval    = 30 * time.Second
	DefaultPingTimeout     = 20 * time.Second
	// DefaultClientPingInterval is what gRPC servers put up with by default.
	DefaultClientPingInterval = 5 * time.Minute
)

// Bounds are what both sides of a connection allow the other. For numbers zero
// means the default; for durations besides a negative value means no limit.
type Bounds struct {
	// MaxHeaderBytes bounds a head in bytes as it is on the wire, and as RFC 9113
	// section 10.5.1 counts once it is decoded; its trailers once more. Zero
	// means 60 KiB.
	MaxHeaderBytes int
	// MaxHeaders bounds the number of fields in a head. Zero means 100.
	MaxHeaders int
	// StreamWindow is how many bytes of one body we take before they are read,
	// ConnWindow of all bodies of a connection: what a connection can make us
	// hold. Zero means 256 KiB and 1 MiB; less than 64 KiB - 1 counts as that.
	StreamWindow, ConnWindow int
	// MaxResets is how many streams of its own the other side may have cut off at
	// once, by a reset or by an error, in a burst; it gets 33 a second back.
	// Beyond: GOAWAY with ENHANCE_YOUR_CALM. Zero means 1000.
	MaxResets int
	// MaxControl is how many frames that move nothing (PING, SETTINGS, PRIORITY,
	// WINDOW_UPDATE, empty or unknown frames) may come in a burst; 100 a second
	// are given back, and ten for each frame that moves something. Beyond:
	// GOAWAY with ENHANCE_YOUR_CALM. Zero means 1000.
	MaxControl int
	// WriteTimeout is how long the other side may take to accept what is written
	// at once, and how long it may keep a stream's window shut. Default 1 minute.
	WriteTimeout time.Duration
	// TunnelTimeout is how long both directions of a stream may be silent after
	// CONNECT; see [wire.Exchange.IdleTimeout]. Default 1 hour.
	TunnelTimeout time.Duration
	// PingInterval is how long a connection may be silent before it is asked
	// with a PING, PingTimeout how long it may take to answer; then it is closed.
	PingInterval, PingTimeout time.Duration
	// Buffers to take from; nil means the server's or connection's own.
	Buffers *Buffers
}

// Config is how downstream connections are served. PingInterval is 30 seconds by
// default, PingTimeout 20.
type Config struct {
	Bounds
	// MaxStreams is how many exchanges may be under way on one connection, those
	// that were reset but have not ended counted. Zero means 100.
	MaxStreams int
	// IdleTimeout is how long a connection may be without a stream. Default 5
	// minutes.
	IdleTimeout time.Duration
	// HeaderTimeout is how long the preface, and a head from its first frame to
	// its last, may take. Default 10 seconds.
	HeaderTimeout time.Duration
	// BodyIdleTimeout is how long a request body may pause while nothing of the
	// response moves either; see [wire.Exchange.IdleTimeout]. Default 1 minute, and
	// 5 for gRPC, whose streams live long.
	BodyIdleTimeout time.Duration
	// RequestTimeout is how long a request may take from its head to the end of its
	// body, unless the response begins before; beyond it: 408. Default: no limit.
	RequestTimeout time.Duration
	// MaxAge is how long a connection may take requests; then it is drained.
	// Default: no limit.
	MaxAge time.Duration
	// Connect allows the method CONNECT without a protocol; otherwise: 405.
	Connect bool
}

// ClientConfig is how upstream connections are used. [wire.Exchange.Deadline]
// holds besides. PingInterval is 5 minutes by default, and counts only while
// there is a stream; PingTimeout is 20 seconds.
type ClientConfig struct {
	Bounds
	// MaxStreams is how many exchanges we have under way on one connection, if
	// the upstream does not allow fewer. Zero means 100.
	MaxStreams int
	// HeaderTimeout is how long the upstream may take for the head of its
	// response, once the request has left. Default: no limit.
	HeaderTimeout time.Duration
	// StreamTimeout is how long a response body may pause while nothing of the
	// request moves either; see [wire.Exchange.IdleTimeout]. Default 5 minutes.
	StreamTimeout time.Duration
	// ContinueTimeout is how long a request body waits for 100 after
	// "expect: 100-continue" was sent. Default 1 second.
	ContinueTimeout time.Duration
	// Released is called whenever an exchange gives the place back that it had
	// acquired; nil is allowed. It must neither wait nor call the connection.
	Released func()
	// Frames counts what is said, also that of others; nil for nobody. Left is called
	// when the upstream has said that it goes, as Released is.
	Frames *Frames
	Left   func()
}

// Stats counts what a [Server] did that no exchange tells of. Its fields may be
// read at any time.
type Stats struct {
	// Rejected counts requests that were answered with 4xx or reset because of
	// their form, Refused those beyond MaxStreams.
	Rejected, Refused atomic.Uint64
	// Aborted counts responses that were cut off: the client reset the stream or
	// left, or the upstream's body broke.
	Aborted atomic.Uint64
	// Broken counts connections that ended by an error of the client's, Floods
	// those of them that went beyond MaxResets, MaxControl or the bounds of a head.
	Broken, Floods atomic.Uint64
	// Panics counts panics of services.
	Panics atomic.Uint64
	// HeaderTimeouts counts connections that ended since a head took too long,
	// KeepaliveTimeouts those that did not answer a PING, IdleTimeouts those that were
	// without a stream for too long, Aged those beyond MaxAge.
	HeaderTimeouts, KeepaliveTimeouts, IdleTimeouts, Aged atomic.Uint64
	// BodyTimeouts counts requests whose body paused for too long, RequestTimeouts
	// those that took too long on the whole.
	BodyTimeouts, RequestTimeouts atomic.Uint64
	// TooLarge counts heads beyond the bounds, Malformed those that are none.
	TooLarge, Malformed atomic.Uint64
	// Ended counts connections that have ended, Lingered those of them that we closed
	// since the client did not, although it was told to; Drained those that a response
	// told so because of a drain.
	Ended             wire.Endings
	Lingered, Drained atomic.Uint64
	// Early counts responses that began before the request was whole, Unfinished those
	// that ended before.
	Early, Unfinished atomic.Uint64
	// Frames counts what the connections have said, as far as it is remarkable.
	Frames Frames
}

// Frames counts what is said on connections of either side. The zero value is ready
// for use, by any goroutine.
type Frames struct {
	// ResetsRead and ResetsSent count RST_STREAM, Partings the last GOAWAY of ours,
	// Trailers the trailer sections of requests.
	ResetsRead, ResetsSent, Partings, Trailers atomic.Uint64
	// Streams is how many are open.
	Streams atomic.Int64
	// Stalled counts streams that were given up since the other side kept their windows
	// shut.
	Stalled atomic.Uint64
	// Errors, TooLarge and Unanswered count what an upstream has said that is no
	// HTTP/2, its heads beyond the bounds, and connections that did not answer a PING.
	// What a client does is counted in [Stats].
	Errors, TooLarge, Unanswered atomic.Uint64
	// Floods by what there was too much of: empty DATA, PRIORITY, WINDOW_UPDATE, and
	// what we would have to answer.
	EmptyFlood, PriorityFlood, UpdateFlood, ReplyFlood atomic.Uint64
}

func orDefault(d *time.Duration, otherwise time.Duration) {
	switch {
	case *d == 0:
		*d = otherwise
	case *d < 0:
		*d = 0
	}
}

func (b *Bounds) defaults(pingInterval time.Duration) {
	b.MaxHeaderBytes = positive(b.MaxHeaderBytes, DefaultMaxHeaderBytes)
	b.MaxHeaders = positive(b.MaxHeaders, DefaultMaxHeaders)
	b.StreamWindow = min(max(positive(b.StreamWindow, DefaultStreamWindow), initialWindow), maxWindow)
	b.ConnWindow = min(max(positive(b.ConnWindow, DefaultConnWindow), initialWindow), maxWindow)
	b.MaxResets = positive(b.MaxResets, DefaultMaxResets)
	b.MaxControl = positive(b.MaxControl, DefaultMaxControl)
	orDefault(&b.WriteTimeout, DefaultWriteTimeout)
	orDefault(&b.TunnelTimeout, DefaultTunnelTimeout)
	orDefault(&b.PingInterval, pingInterval)
	orDefault(&b.PingTimeout, DefaultPingTimeout)
	b.Buffers = cmp.Or(b.Buffers, &Buffers{})
}

func positive(n, otherwise int) int {
	if n <= 0 {
		return otherwise
	}
	return n
}

func (c Config) withDefaults() Config {
	c.defaults(DefaultPingInterval)
	c.MaxStreams = positive(c.MaxStreams, DefaultMaxStreams)
	orDefault(&c.IdleTimeout, DefaultIdleTimeout)
	orDefault(&c.HeaderTimeout, DefaultHeaderTimeout)
	orDefault(&c.BodyIdleTimeout, DefaultBodyIdleTimeout)
	orDefault(&c.RequestTimeout, 0)
	return c
}

func (c ClientConfig) withDefaults() ClientConfig {
	c.defaults(DefaultClientPingInterval)
	c.MaxStreams = positive(c.MaxStreams, DefaultMaxStreams)
	orDefault(&c.HeaderTimeout, 0)
	orDefault(&c.StreamTimeout, DefaultStreamTimeout)
	orDefault(&c.ContinueTimeout, DefaultContinueTimeout)
	c.Frames = cmp.Or(c.Frames, &Frames{})
	return c
}
