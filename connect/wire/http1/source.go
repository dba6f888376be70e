package http1

import (
	"errors"
	"io"
	"net"
	"os"

	"github.com/serai-net/serai/connect/wire/socket"
)

// guard says how long a read may wait.
type guard interface {
	// arm is called before each read that may wait, to set the deadline; again
	// says that expired has just asked to wait on.
	arm(again bool)
	// expired is called when the deadline was over; nil means to wait on.
	expired() error
}

// source reads a connection through a lent buffer, which it takes when bytes
// are there and not before. It belongs to one goroutine at a time.
type source struct {
	conn  net.Conn
	sock  *socket.Conn // conn, if it is a plain socket; else nil
	pool  *Buffers
	guard guard
	// first is the size of the buffer that takes the first bytes.
	first int

	// cur.b[r:w] is what has arrived and was not read. Strings point into
	// cur.b[:floor] and into held.
	cur         *buffer
	r, w, floor int
	held        *buffer
	one         [1]byte
	lent        bool // cur was taken for the read under way
}

// unread is what has arrived and was not read.
func (s *source) unread() []byte {
	if s.cur == nil {
		return nil
	}
	return s.cur.b[s.r:s.w]
}

// fill waits for more bytes and appends them to unread.
func (s *source) fill() error {
	if s.cur != nil {
		s.room()
	}
	for empty, again := 0, false; ; again = true {
		s.guard.arm(again)
		n, err := s.receive()
		if n > 0 {
			return nil
		}
		if err = s.waitOn(err, &empty); err != nil {
			return err
		}
	}
}

// read reads into p past the buffer, which must be empty.
func (s *source) read(p []byte) (int, error) {
	for empty, again := 0, false; ; again = true {
		s.guard.arm(again)
		n, err := s.conn.Read(p)
		if n > 0 {
			return n, nil
		}
		if err = s.waitOn(err, &empty); err != nil {
			return 0, err
		}
	}
}

// waitOn returns nil if a read that gave nothing is to be repeated: its deadline
// was too early, or it is one of few that gave no error either.
func (s *source) waitOn(err error, empty *int) error {
	switch {
	case err == nil:
		if *empty++; *empty > 100 {
			return io.ErrNoProgress
		}
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return s.guard.expired()
	}
	return err
}

// receive reads once. A connection without a buffer waits for its first byte
// without one.
func (s *source) receive() (int, error) {
	if s.sock != nil {
		n, err := s.sock.Receive(s)
		s.w += n
		return n, err
	}
	if s.cur == nil {
		n, err := s.conn.Read(s.one[:])
		if n > 0 {
			s.take()
			s.cur.b[0] = s.one[0]
			s.w = n
		}
		return n, err
	}
	n, err := s.conn.Read(s.cur.b[s.w:])
	s.w += n
	return n, err
}

// Lend implements [socket.Memory].
func (s *source) Lend() []byte {
	if s.lent = s.cur == nil; s.lent {
		s.take()
	}
	return s.cur.b[s.w:]
}

// TakeBack implements [socket.Memory].
func (s *source) TakeBack() {
	if s.lent {
		s.pool.put(s.cur)
		s.cur = nil
	}
}

func (s *source) take() {
	s.cur = s.pool.get(s.first)
	s.r, s.w, s.floor = 0, 0, 0
}

// room makes room for more bytes without touching what strings point to.
func (s *source) room() {
	const enough = 512
	if s.r == s.w {
		s.r, s.w = s.floor, s.floor
	}
	if len(s.cur.b)-s.w >= enough {
		return
	}
	if s.r-s.floor >= enough {
		s.w = s.floor + copy(s.cur.b[s.floor:], s.cur.b[s.r:s.w])
		s.r = s.floor
		return
	}
	size := s.w - s.r + enough
	if s.floor == 0 || size > smallBuffer {
		size = max(size, 2*len(s.cur.b))
	}
	old := s.cur
	s.cur = s.pool.get(size)
	s.w = copy(s.cur.b, old.b[s.r:s.w])
	s.r = 0
	if s.floor > 0 {
		old.next = s.held
		s.held = old
		s.floor = 0
	} else {
		s.pool.put(old)
	}
}

// hold keeps all that was read so far in place, because strings point to it.
func (s *source) hold() { s.floor = s.r }

// detach hands over the memory that strings point to, and all of it if nothing
// is unread.
func (s *source) detach() *buffer {
	held := s.held
	s.held = nil
	if s.cur == nil {
		return held
	}
	if s.r == s.w || s.floor > 0 {
		old := s.cur
		if s.r == s.w {
			s.cur = nil
		} else {
			s.cur = s.pool.get(max(s.w-s.r, s.first))
			s.w = copy(s.cur.b, old.b[s.r:s.w])
			s.r = 0
		}
		old.next = held
		held = old
	}
	s.floor = 0
	return held
}

// forget gives the memory back that strings pointed to, and the buffer if
// nothing is unread.
func (s *source) forget() {
	s.pool.put(s.held)
	s.held, s.floor = nil, 0
	if s.cur != nil && s.r == s.w {
		s.pool.put(s.cur)
		s.cur = nil
	}
}
