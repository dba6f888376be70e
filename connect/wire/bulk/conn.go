package bulk

import (
	"crypto/tls"
	"errors"
	"net"
	"sync"

	"github.com/serai-net/serai/connect/wire/socket"
)

// recordHead is the length of the head of a TLS record: type, version, length
// (RFC 8446 section 5.1).
const recordHead = 5

// Conn is a socket that lies below TLS. It is a net.Conn: to crypto/tls it is the
// socket. It reads ahead, and never gives more of it than one record at a time,
// for which crypto/tls would need more memory.
type Conn struct {
	net.Conn
	buffers *Buffers

	// owned by who reads
	src  reader
	left int // what is not read yet of the record under way
	// eager says that a read that had to wait fails with errNotYet.
	eager bool

	mu sync.Mutex // guards:
	// gathering says that what is written is kept in out[:kept] until flush.
	gathering bool
	out       *buffer
	kept      int
}

// Under makes a Conn of a socket that nothing was read from. Any other net.Conn may
// be used too. It owns conn from now on.
func Under(conn net.Conn, buffers *Buffers) *Conn {
	conn = socket.New(conn)
	c := &Conn{Conn: conn, buffers: buffers}
	c.src.init(conn, buffers)
	return c
}

// NetConn returns the socket, as [tls.Conn.NetConn] does. Its Close waits for
// nobody. What was read ahead is not in it any more.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// Read implements net.Conn. It returns bytes of one record.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if err := c.fetch(); err != nil {
		return 0, err
	}
	have := c.src.unread()
	if c.left == 0 {
		if len(have) < recordHead { // the end of the connection
			return c.src.take(p, len(have)), nil
		}
		c.left = recordHead + int(have[3])<<8 + int(have[4])
	}
	n := c.src.take(p, c.left)
	c.left -= n
	return n, nil
}

// fetch waits until there are bytes of the record under way, or the whole head of
// the next one.
func (c *Conn) fetch() error {
	for {
		n := len(c.src.unread())
		if n >= recordHead || n > 0 && c.left > 0 {
			return nil
		}
		if c.eager {
			return errNotYet
		}
		if err := c.src.fill(); err != nil {
			if timeout, ok := errors.AsType[net.Error](err); n > 0 && (!ok || !timeout.Timeout()) {
				return nil // told by the next read
			}
			return err
		}
	}
}

// whole tells whether the rest of a record is there.
func (c *Conn) whole() bool {
	have := c.src.unread()
	if c.left > 0 {
		return len(have) >= c.left
	}
	return len(have) >= recordHead && len(have) >= recordHead+int(have[3])<<8+int(have[4])
}

// wait waits for bytes to come.
func (c *Conn) wait() error { return c.src.fill() }

// Write implements net.Conn.
func (c *Conn) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.gathering {
		return c.Conn.Write(p)
	}
	if c.out == nil {
		c.out = c.buffers.get(large)
	}
	if c.kept+len(p) > len(c.out.b) {
		if err := c.emit(); err != nil {
			return 0, err
		}
		if len(p) > len(c.out.b) {
			return c.Conn.Write(p)
		}
	}
	c.kept += copy(c.out.b[c.kept:], p)
	return len(p), nil
}

func (c *Conn) emit() error {
	_, err := c.Conn.Write(c.out.b[:c.kept])
	c.kept = 0
	return err
}

// gather keeps what is written until flush.
func (c *Conn) gather() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = true
}

// flush writes what was kept, and keeps no more.
func (c *Conn) flush() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.gathering = false
	if c.out == nil {
		return nil
	}
	var err error
	if c.kept > 0 {
		err = c.emit()
	}
	c.buffers.put(c.out)
	c.out = nil
	return err
}

// waitError is why a read fails that must not wait. To crypto/tls it is a deadline:
// it goes on where it was.
type waitError struct{}

func (waitError) Error() string   { return "nothing has arrived yet" }
func (waitError) Timeout() bool   { return true }
func (waitError) Temporary() bool { return true }

var errNotYet net.Error = waitError{}

// under is the Conn below a TLS connection, nil if there is none.
func under(t *tls.Conn) *Conn {
	c, _ := t.NetConn().(*Conn)
	return c
}
