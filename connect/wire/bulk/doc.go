// Package bulk moves raw bytes between connections with few system calls and
// little memory.
//
//	client ── socket ── Conn ── tls.Conn ── Pipe ── tls.Conn ── Conn ── socket ── server
//
// A [Conn] lies between TLS and its socket: it reads many records and writes many
// with one system call each, where crypto/tls needs one or more for every record.
// A [Pipe] is one direction between two connections: by splice where both are
// plain, so that the bytes are never ours, and through a lent buffer otherwise.
//
// Nothing is ever held back: what has arrived is passed on before the next wait.
// A connection that waits holds no buffer of ours.
//
// # Alternatives not taken
//
// TLS in the kernel needs the keys, which crypto/tls does not give away. io.Copy
// splices too, but says how much has moved only when all has.
package bulk
