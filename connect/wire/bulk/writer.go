package bulk

import (
	"crypto/tls"
	"errors"
	"net"
)

// maxRecord is the most that TLS writes at once.
const maxRecord = 16 << 10

// Writer writes to a connection. It belongs to one goroutine.
type Writer struct {
	conn  net.Conn
	below *Conn // conn, if that is TLS
}

// NewWriter returns a Writer to conn. It is worth it for TLS with a [Conn] below.
func NewWriter(conn net.Conn) *Writer {
	w := &Writer{conn: conn}
	if t, ok := conn.(*tls.Conn); ok {
		w.below = under(t)
	}
	return w
}

// Write writes all of p, several records with one system call. A failure may be
// told of with n = len(p): nobody knows then what has arrived.
func (w *Writer) Write(p []byte) (n int, err error) {
	if w.below == nil || len(p) <= maxRecord {
		return w.conn.Write(p)
	}
	w.below.gather()
	n, err = w.conn.Write(p)
	return n, errors.Join(err, w.below.flush())
}
