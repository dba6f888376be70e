package http1

import (
	"net"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// sink writes to a connection. Each write has its own deadline.
type sink struct {
	conn     net.Conn
	deadline deadline
	timeout  time.Duration // of each; zero means none
	// limit is a deadline over all writes; zero means none.
	limit time.Time
	// after, if not nil, is called after each write.
	after func()
}

// write writes all of b; now is the time.
func (s *sink) write(now time.Time, b []byte) (int, error) {
	var until time.Time
	if s.timeout > 0 {
		until = now.Add(s.timeout)
	}
	if !s.limit.IsZero() && (until.IsZero() || s.limit.Before(until)) {
		s.deadline.late(s.limit, 0)
	} else {
		s.deadline.late(until, s.timeout/8)
	}
	n, err := s.conn.Write(b)
	if s.after != nil {
		s.after()
	}
	return n, err
}

// writeTimeout is how long the other side may take for one write of x: for a part of a
// body no less than both may pause.
func writeTimeout(otherwise time.Duration, x *wire.Exchange) time.Duration {
	pause := x.Pause(otherwise)
	if pause == 0 {
		return 0
	}
	return max(pause, otherwise)
}

// closeWriter is a connection that can end one direction.
type closeWriter interface {
	CloseWrite() error
}

// closeWrite tells the other side that no more comes, if the connection can.
func closeWrite(conn net.Conn) bool {
	c, ok := conn.(closeWriter)
	return ok && c.CloseWrite() == nil
}
