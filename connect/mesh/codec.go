package mesh

import "time"

// Codec is how HTTP is spoken on the connections of a chain. For numbers zero means
// the codecs' default; for durations besides a negative value means no limit. It is
// comparable: connections do not outlive a change of it.
type Codec struct {
	// MaxHeaderBytes of a request, MaxHeaders fields in it; 0 means 60 KiB and 100.
	MaxHeaderBytes, MaxHeaders int
	// IdleTimeout closes connections without a request; 0 means 5 minutes.
	IdleTimeout time.Duration
	// HeaderTimeout for the head of a request (10 seconds), RequestTimeout for all
	// of it (no limit).
	HeaderTimeout, RequestTimeout time.Duration
	// MaxAge is how long a connection takes requests; 0 means for ever.
	MaxAge time.Duration
	// Connect lets the method CONNECT through to the chain.
	Connect bool
	// HTTP1Only says that HTTP/2 is not served.
	HTTP1Only bool
	HTTP2     HTTP2Options
}

// HTTP2Options are what only HTTP/2 has, on either side. Zero values are the codec's
// defaults; a negative duration means no limit.
type HTTP2Options struct {
	// MaxStreams at one time on one connection; 0 means 100.
	MaxStreams int
	// StreamWindow and ConnWindow are how much we take before it is read; 0 means
	// 256 KiB and 1 MiB.
	StreamWindow, ConnWindow int
	// PingInterval is how long a connection may be silent before it is asked,
	// PingTimeout how long it may take to answer.
	PingInterval, PingTimeout time.Duration
}
