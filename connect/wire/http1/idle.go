package http1

import (
	"errors"
	"os"
	"time"

	"github.com/serai-net/serai/connect/wire/socket"
)

// await waits for the first byte of the next request, without a buffer.
func (c *conn) await() bool {
	if len(c.src.unread()) > 0 {
		return true
	}
	c.mu.Lock()
	c.idle = !c.closing
	idle := c.idle
	c.mu.Unlock()
	if !idle {
		return c.fresh && c.firstChance()
	}
	c.fresh = false
	c.phase, c.until = phaseIdle, time.Time{}
	if d := c.srv.cfg.IdleTimeout; d > 0 {
		c.until = c.now.Add(d)
	}

	err := c.src.fill()

	c.mu.Lock()
	c.idle = false
	closing := c.closing
	c.mu.Unlock()
	if !closing {
		over := errors.Is(err, os.ErrDeadlineExceeded)
		if over {
			c.ending.Ours = true
			c.srv.count(func(s *Stats) { s.IdleTimeouts.Add(1) })
		}
		c.hard = err != nil && !over
		return err == nil
	}
	c.rd.resume()
	c.ending.Ours = errors.Is(err, os.ErrDeadlineExceeded)
	return err == nil || c.late(err)
}

// lastMoment is how long a connection that was accepted just before the idle ones
// were closed may take to send its first request.
const lastMoment = 200 * time.Millisecond

// firstChance waits for the first request of a connection that came when idle
// ones were already being closed: its client could not know.
func (c *conn) firstChance() bool {
	c.fresh = false
	c.phase, c.until = phaseIdle, time.Now().Add(lastMoment)
	return c.src.fill() == nil
}

// isHTTP2 tells whether the connection begins with the preface of HTTP/2 (RFC 9113
// section 3.4), and waits for all of it if it may.
func (c *conn) isHTTP2() bool {
	const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	c.phase, c.until = phaseHead, time.Time{}
	if d := c.srv.cfg.HeaderTimeout; d > 0 {
		c.until = time.Now().Add(d)
	}
	for {
		have := c.src.unread()
		n := min(len(have), len(preface))
		if string(have[:n]) != preface[:n] {
			return false
		}
		if n == len(preface) {
			return true
		}
		if c.src.fill() != nil {
			return false // whoever reads next is told the same
		}
	}
}

// late tells whether a request has arrived just when the idle connection was to
// be closed. It is still answered.
func (c *conn) late(err error) bool {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		return false
	}
	sock := socket.Of(c.nc)
	if sock == nil {
		return false
	}
	if more, _ := sock.Peek(); !more {
		return false
	}
	c.phase, c.until = phaseHead, time.Now().Add(time.Second)
	return c.src.fill() == nil
}

// end closes the connection. If the client may still be sending, it is given a
// moment to read our last words first: closing with bytes unread would reset the
// connection (RFC 9112 section 9.6).
func (c *conn) end() {
	defer c.src.forget()
	defer c.nc.Close()
	if c.hard || c.phase == phaseIdle {
		return
	}
	c.ending.Ours = true
	if !closeWrite(c.nc) {
		return
	}
	const patience, most = 500 * time.Millisecond, 16 << 20
	c.rd.resume()
	c.rd.early(time.Now(), time.Now().Add(patience))
	b := c.srv.cfg.Buffers.get(smallBuffer)
	defer c.srv.cfg.Buffers.put(b)
	for total := 0; total < most; {
		n, err := c.nc.Read(b.b)
		if total += n; err != nil {
			late := errors.Is(err, os.ErrDeadlineExceeded)
			if late {
				c.srv.count(func(s *Stats) { s.Lingered.Add(1) })
			}
			c.ending.Ours = late || c.parting
			return
		}
	}
}

// counted counts the connection, which has ended.
func (c *conn) counted() {
	c.mu.Lock()
	c.ending.Ours = c.ending.Ours || c.killed
	c.mu.Unlock()
	c.srv.count(func(s *Stats) { s.Ended.Count(c.ending) })
}
