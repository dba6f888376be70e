package bulk

import (
	"io"
	"net"

	"github.com/serai-net/serai/connect/wire/socket"
)

// reader reads a socket through a lent buffer, which it takes when bytes are there
// and not before. It belongs to one goroutine at a time.
type reader struct {
	conn    net.Conn
	buffers *Buffers
	sock    *socket.Conn // conn, if it is a socket; else nil
	size    int          // of the next buffer

	// in.b[r:w] is what has arrived and was not read; in is nil if that is nothing.
	in   *buffer
	r, w int
}

func (s *reader) init(conn net.Conn, buffers *Buffers) {
	s.conn, s.buffers, s.size = conn, buffers, small
	s.sock, _ = conn.(*socket.Conn)
}

func (s *reader) unread() []byte {
	if s.in == nil {
		return nil
	}
	return s.in.b[s.r:s.w]
}

// take moves at most limit bytes of what is unread into p.
func (s *reader) take(p []byte, limit int) int {
	n := copy(p, s.in.b[s.r:min(s.w, s.r+limit)])
	if s.r += n; s.r == s.w {
		s.release()
	}
	return n
}

// skip takes all that is unread. The bytes stay where they are until the next fill.
func (s *reader) skip() { s.r = s.w }

// release gives the buffer back, and with it what is unread.
func (s *reader) release() {
	if s.in != nil {
		s.buffers.put(s.in)
	}
	s.in, s.r, s.w = nil, 0, 0
}

// fill waits for more bytes and appends them to what is unread, for which there
// must be room. An end without bytes is io.EOF.
func (s *reader) fill() error {
	if s.in != nil && s.r > 0 {
		s.w = copy(s.in.b, s.in.b[s.r:s.w])
		s.r = 0
	}
	if s.sock != nil {
		n, err := s.sock.Receive(s)
		if n > 0 {
			s.took(n)
		}
		return err
	}
	if s.in == nil {
		s.in = s.buffers.get(s.size)
	}
	for range 100 {
		n, err := s.conn.Read(s.in.b[s.w:])
		s.took(n)
		switch {
		case n > 0:
			return nil
		case err != nil:
			s.drop()
			return err
		}
	}
	s.drop()
	return io.ErrNoProgress
}

// Lend implements [socket.Memory].
func (s *reader) Lend() []byte {
	if s.in == nil {
		s.in = s.buffers.get(s.size)
	}
	return s.in.b[s.w:]
}

// TakeBack implements [socket.Memory].
func (s *reader) TakeBack() { s.drop() }

// took notes that a read gave n bytes.
func (s *reader) took(n int) {
	s.size = next(len(s.in.b), s.w+n)
	s.w += n
}

// drop gives a buffer back that nothing is in.
func (s *reader) drop() {
	if s.r == s.w {
		s.release()
	}
}
