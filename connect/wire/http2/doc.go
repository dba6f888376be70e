// Package http2 is the HTTP/2 codec (RFC 9113, RFC 7541, RFC 8441) of both sides: a
// [Server] turns the streams of downstream connections into exchanges, a
// [ClientConn] carries exchanges over streams of an upstream connection.
//
//	           one reader per connection, one reused goroutine per stream
//	client ══▶ conn ── Request ──▶ wire.Service ... ──▶ ClientConn.RoundTrip ══▶ upstream
//	client ◀══ conn ◀─ Response ── wire.Service ... ◀── ClientConn.RoundTrip ◀══ upstream
//	             └──────── link: frames, windows, what waits to be written ────────┘
//
// # Reading and writing
//
// The reader of a connection takes all frames that have arrived under the lock of
// its link, and only then wakes the streams. It never waits for a write. Who has
// something to say appends it under that lock; one of them writes for all, after it
// has let others run. A second goroutine per stream, the pump, sends a request body
// only if it is not yet at hand when the head leaves. All waits of a link share one
// timer.
//
// The link is the innermost lock but one: a server's reader aborts exchanges under
// its own, which cancels a trip under the lock of the upstream's link. So nothing is
// called on an exchange, a body or a service under the lock of an upstream's link.
//
// # Strictness
//
// A malformed message (an upper-case name, a field of the connection, a pseudo-header
// that is unknown, repeated, missing or out of place, a body of another length than
// it says) ends its stream with PROTOCOL_ERROR; the connection lives. What breaks the
// state of the connection ends it with GOAWAY. Bounds hold for heads, fields,
// CONTINUATION, streams, resets of the other side's streams (whoever sends them), and
// frames that move nothing.
// Memory for bodies is bounded by the windows, which open only as bodies are read.
// Priorities are read and ignored.
//
// # Crossing to HTTP/1
//
// Host and :authority are one and the same, cookie crumbs are joined, "te: trailers"
// is kept, fields of the connection never reach a [wire.Header]. Extended CONNECT is
// an Upgrade, answered by 101; for websocket the key and its answer, which only
// HTTP/1 has, are made here.
//
// # Memory
//
// Strings of a head are made by the decoder and belong to the collector: repeated
// fields come from its table and cost nothing. Streams, and the memory of bodies, are
// lent by [Buffers].
//
// # Alternatives not taken
//
// The server and transport of golang.org/x/net: they allocate for each head and wake
// several goroutines for each exchange. Their Framer reads here only what is rare: it
// allocates for each HEADERS and WINDOW_UPDATE, and copies each DATA once more.
package http2
