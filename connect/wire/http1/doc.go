// Package http1 is the HTTP/1.1 codec (RFC 9112, RFC 9110) of both sides: a
// [Server] turns a downstream connection into exchanges, a [ClientConn] carries
// exchanges over an upstream connection.
//
//	             one goroutine per downstream connection
//	client ──▶ conn ── Request ──▶ wire.Service ... ──▶ ClientConn.RoundTrip ──▶ upstream
//	client ◀── conn ◀─ Response ── wire.Service ... ◀── ClientConn.RoundTrip ◀── upstream
//	             │                                        │
//	             └ watcher: reads ahead once the          └ pump: sends a request body
//	               upstream makes us wait                   that is not yet at hand
//
// # Strictness
//
// What two parsers could read in two ways is refused, never repaired: both
// Transfer-Encoding and Content-Length, a second or signed Content-Length, a
// bare LF, a folded line, a space before the colon, a missing or second Host, a
// control character anywhere. A request is answered with 400 and the connection
// closes; a response becomes a 502. One parser reads the fields of requests,
// responses and trailers, one decoder the bodies of both sides.
//
// # Fields of the connection
//
// Connection, Keep-Alive, Proxy-Connection, Transfer-Encoding, Content-Length,
// Upgrade, TE (but for "trailers") and the fields that Connection names never
// reach a [wire.Header] (RFC 9110 section 7.6.1), nor do Host and
// "Expect: 100-continue". Connection may not name what others rely on: if it
// names Authorization, Cookie, Forwarded, X-Forwarded-*, Content-*, tracing or
// such, the name is ignored and the field stays.
//
// # Memory
//
// The strings of a head are views of the connection's buffer. They live until
// the exchange's ends have run ([wire.Exchange.Lend]), then the buffer goes back
// to [Buffers]. A connection that waits holds no buffer, neither downstream
// between requests nor upstream while the response has not begun.
//
// # Alternatives not taken
//
// net/http: about ten allocations per request, two goroutines per upstream
// connection, and a parser that repairs what a proxy has to refuse. bufio: its
// reader keeps its buffer while it waits and moves bytes that strings point to.
package http1
