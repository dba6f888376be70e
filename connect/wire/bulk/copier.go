package bulk

import (
	"crypto/tls"
	"errors"
	"net"
)

// copier moves bytes through a buffer.
type copier struct {
	src source
	dst *Writer
}

// source is where a copier has its bytes from.
type source interface {
	// fill waits for bytes and adds them to unread.
	fill() error
	unread() []byte
	// skip takes all that is unread, whose memory stays until the next fill.
	skip()
	release()
}

func newCopier(dst, src net.Conn, buffers *Buffers) *copier {
	c := &copier{dst: NewWriter(dst)}
	if t, ok := src.(*tls.Conn); ok && under(t) != nil {
		c.src = &secureReader{conn: t, ahead: under(t), buffers: buffers, size: small}
		return c
	}
	r := &reader{}
	r.init(src, buffers)
	c.src = r
	return c
}

func (c *copier) take() (int, error) {
	c.src.skip()
	if err := c.src.fill(); err != nil {
		return 0, err
	}
	return len(c.src.unread()), nil
}

func (c *copier) give() error {
	_, err := c.dst.Write(c.src.unread())
	return err
}

func (c *copier) close() { c.src.release() }

// secureReader reads TLS through a lent buffer, which it has only while there are
// bytes.
type secureReader struct {
	conn    *tls.Conn
	ahead   *Conn // below conn
	buffers *Buffers
	size    int // of the next buffer

	in  *buffer // nil if nothing is unread
	n   int     // of in is unread
	err error   // what came after that
	// empty says that TLS holds nothing that it has read.
	empty bool
}

func (s *secureReader) unread() []byte {
	if s.in == nil {
		return nil
	}
	return s.in.b[:s.n]
}

func (s *secureReader) skip() { s.n = 0 }

func (s *secureReader) release() {
	if s.in != nil {
		s.buffers.put(s.in)
	}
	s.in, s.n = nil, 0
}

// fill takes all that has arrived, and waits only if that is nothing.
func (s *secureReader) fill() error {
	for s.err == nil {
		if !s.empty || s.ahead.whole() {
			if s.read(); s.n > 0 {
				return nil
			}
			continue
		}
		s.release()
		if s.ahead.wait() != nil {
			s.last()
		} else {
			s.empty = false
		}
		if s.n > 0 {
			return nil
		}
	}
	err := s.err
	s.err = nil
	s.release()
	return err
}

// read takes what has arrived.
func (s *secureReader) read() {
	if s.in == nil {
		s.in = s.buffers.get(s.size)
	}
	s.ahead.eager = true
	for more := true; more && s.err == nil && s.n < len(s.in.b); more = s.ahead.whole() {
		n, err := s.conn.Read(s.in.b[s.n:])
		s.n += n
		if !errors.Is(err, errNotYet) {
			s.err = err
		}
	}
	s.ahead.eager = false
	s.empty = s.n < len(s.in.b)
	if s.n > 0 {
		s.size = next(len(s.in.b), s.n)
	}
}

// last reads once more where the socket has failed: TLS says what it means.
func (s *secureReader) last() {
	s.in = s.buffers.get(s.size)
	s.n, s.err = s.conn.Read(s.in.b)
	s.empty = s.n < len(s.in.b)
}
