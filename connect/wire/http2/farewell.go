package http2

import (
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

// farewell is how far a connection has come on its way out. A client that is told
// GOAWAY may have opened streams meanwhile, so it is told twice: first that we
// will go, and when it has answered a PING behind that, which streams were taken.
type farewell struct {
	stage stage
	// closing says that the connection should end as soon as it is idle.
	closing bool
	// said is when the first GOAWAY was appended, heard that its PING was answered.
	said  time.Time
	heard bool
	// finished says that the reader was told to end, drained that a response was counted
	// as one of a drain.
	finished, drained bool
}

type stage uint8

const (
	staying stage = iota
	leaving
	goneForGood // streams that come now are not looked at
)

// lastCall is how long a client may take to hear that we go.
const lastCall = time.Second

// drainPing is what the PING behind the first GOAWAY says.
func drainPing() [8]byte { return [8]byte{'d', 'r', 'a', 'i', 'n'} }

// BeginDrain tells the client that it should open its next streams elsewhere. It
// implements [wire.Warned].
func (c *conn) BeginDrain() {
	c.mu.Lock()
	defer c.unlock(true)
	c.leave()
}

// Peer implements [wire.Known].
func (c *conn) Peer() *wire.Peer { return c.peer }

// CloseIdle implements [wire.Drainable].
func (c *conn) CloseIdle() {
	c.mu.Lock()
	defer c.unlock(true)
	c.close()
}

// Kill implements [wire.Drainable].
func (c *conn) Kill() { c.kill() }

// close makes the connection end when its exchanges have. The lock is held.
func (c *conn) close() {
	c.closing = true
	c.leave()
	if c.heard || time.Since(c.said) >= lastCall {
		c.part()
	}
}

// leave says the first GOAWAY. The lock is held.
func (c *conn) leave() {
	if c.stage != staying || c.dead != nil {
		return
	}
	c.stage = leaving
	c.said = time.Now()
	c.out = appendGoAway(c.out, maxStreamID, http2.ErrCodeNo, "")
	c.out = appendPing(c.out, 0, drainPing())
	c.remind(c.said.Add(lastCall))
}

// part says the last GOAWAY. The lock is held.
func (c *conn) part() {
	if c.stage == goneForGood || c.dead != nil {
		return
	}
	c.stage = goneForGood
	c.out = appendGoAway(c.out, c.lastID, http2.ErrCodeNo, "")
	c.frames.Partings.Add(1)
	c.partIfDone()
}

// partIfDone ends the connection if it has gone and nothing is under way. The lock
// is held.
func (c *conn) partIfDone() {
	if c.stage != goneForGood || c.live > 0 || c.finished {
		return
	}
	c.finished = true
	c.nc.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // a closed connection has ended, too
}

// onPong hears the answer to a PING.
func (c *conn) onPong(data [8]byte) {
	if data != drainPing() || c.stage != leaving {
		return
	}
	c.heard = true
	if c.closing {
		c.part()
	}
}

// onTick sees to what time does to a connection.
func (c *conn) onTick(now time.Time) {
	if c.stage == goneForGood {
		return
	}
	if c.stage == leaving && c.closing {
		if end := c.said.Add(lastCall); now.Before(end) {
			c.remind(end)
		} else {
			c.part()
		}
	}
	if d := c.srv.cfg.IdleTimeout; d > 0 && !c.idleSince.IsZero() && now.Sub(c.idleSince) >= d {
		if c.dead == nil {
			c.srv.count(func(s *Stats) { s.IdleTimeouts.Add(1) })
		}
		c.part()
	} else {
		c.remindIdle()
	}
	if idle := c.idleSince; !idle.IsZero() && now.Sub(idle) >= lastCall {
		for _, w := range c.idle { // goroutines that nobody needs at the moment
			close(w.work)
		}
		c.idle = c.idle[:0]
	}
}

// remindIdle sees to it that an idle connection is closed. The lock is held.
func (c *conn) remindIdle() {
	if d := c.srv.cfg.IdleTimeout; d > 0 && !c.idleSince.IsZero() {
		c.remind(c.idleSince.Add(d))
	}
}

// lastWords writes what there is to write, and waits for it for a moment. The lock
// is held, and given back meanwhile.
func (l *link) lastWords() {
	if l.dead != nil {
		return
	}
	l.parting = true
	l.nc.SetWriteDeadline(time.Now().Add(lastCall)) //nolint:errcheck // the write tells
	for l.dead == nil && (l.flushing || len(l.out) > 0) {
		if !l.flushing {
			l.unlock(false)
			l.mu.Lock()
			continue
		}
		l.flushed.Wait()
	}
}
