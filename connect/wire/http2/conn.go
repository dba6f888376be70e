package http2

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
)

// conn is one downstream connection.
type conn struct {
	link
	// set by newConn
	srv   *Server
	peer  *wire.Peer
	drain *wire.Drain

	// owned by the reader
	ready []*exchange // whose heads have arrived, for dispatch

	// workers are the goroutines of exchanges.
	workers sync.WaitGroup

	// mu guards:
	// lastID is the last stream that the client has opened.
	lastID uint32
	// live counts exchanges that have not ended, also on streams that have.
	live int
	// idle are workers that wait for an exchange.
	idle []*worker
	// idleSince is when the last exchange ended; zero if there is one.
	idleSince time.Time
	farewell
}

var (
	_ role           = (*conn)(nil)
	_ wire.Drainable = (*conn)(nil)
)

// worker is a goroutine that serves one exchange after the other.
type worker struct {
	work chan *exchange
}

func newConn(s *Server, nc net.Conn, peer *wire.Peer, drain *wire.Drain) *conn {
	c := &conn{srv: s, peer: peer, drain: drain}
	frames := &s.Stats.Frames
	if s.Also != nil {
		frames = &s.Also.Frames
	}
	c.init(nc, &s.cfg.Bounds, c, frames)
	c.pingIdle, c.headTime, c.tick, c.pong, c.dispatch = true, s.cfg.HeaderTimeout, c.onTick, c.onPong, c.onDispatch
	c.onLate = c.countLate
	c.idleSince = c.lastRead
	return c
}

// countLate counts what has not come in time.
func (c *conn) countLate(what lateness) {
	c.srv.count(func(s *Stats) {
		if what == lateHead {
			s.HeaderTimeouts.Add(1)
		} else {
			s.KeepaliveTimeouts.Add(1)
		}
	})
}

// run serves the connection to its end.
func (c *conn) run(read []byte) {
	c.mu.Lock()
	c.greet(
		http2.Setting{ID: http2.SettingMaxConcurrentStreams, Val: uint32(c.srv.cfg.MaxStreams)},
		http2.Setting{ID: settingConnectProtocol, Val: 1},
	)
	c.unlock(true)
	err := c.preface(read)
	if err == nil {
		c.mu.Lock()
		c.onTick(c.lastRead)
		c.keepAlive(c.lastRead)
		c.unlock(true)
		err = c.read()
	}
	busy := c.over(err)
	c.workers.Wait()
	ending := wire.Ending{Ours: c.hangUp(err), Busy: busy}
	c.srv.count(func(s *Stats) { s.Ended.Count(ending) })
	c.bounds.Buffers.put(c.in)
	c.in = nil
}

// preface reads what a client says first (RFC 9113 section 3.4); read is what was
// read of it.
func (c *conn) preface(read []byte) error {
	if d := c.srv.cfg.HeaderTimeout; d > 0 {
		c.nc.SetReadDeadline(time.Now().Add(d)) //nolint:errcheck // the read tells
	}
	in := c.buffer()
	in.w = copy(in.b, read)
	if in.w < len(read) {
		return connError{http2.ErrCodeProtocol, "too much was read"}
	}
	for in.w < len(preface) {
		if !strings.HasPrefix(preface, string(in.b[:in.w])) {
			break
		}
		n, err := c.nc.Read(in.b[in.w:])
		in.w += n
		if n == 0 && err != nil {
			return err
		}
	}
	if !bytes.HasPrefix(in.b[:in.w], []byte(preface)) {
		return connError{http2.ErrCodeProtocol, "no preface"}
	}
	in.r = len(preface)
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.finished {
		c.nc.SetReadDeadline(time.Time{}) //nolint:errcheck // the read tells
	}
	return nil
}

// over ends all streams and tells idle workers to go. It tells whether there were
// exchanges under way.
func (c *conn) over(err error) (busy bool) {
	bad, broken := errors.AsType[connError](err)
	if broken {
		c.srv.count(func(s *Stats) {
			s.Broken.Add(1)
			if bad.code == http2.ErrCodeEnhanceYourCalm {
				s.Floods.Add(1)
			}
		})
	}
	c.mu.Lock()
	if broken {
		c.out = appendGoAway(c.out, c.lastID, bad.code, bad.reason)
	}
	c.lastWords()
	busy = c.live > 0
	c.fail(err)
	idle := c.idle
	c.idle = nil
	c.mu.Unlock()
	for _, w := range idle {
		close(w.work)
	}
	return busy
}

// hangUp closes the connection. If we end it, the client is given a moment to read
// our last words first: closing with bytes unread would reset the connection. It
// tells whether the connection was closed by us, and not by the client.
func (c *conn) hangUp(err error) (ours bool) {
	defer base(c.nc).Close()
	c.mu.Lock()
	finished := c.finished
	c.mu.Unlock()
	if _, broken := errors.AsType[connError](err); !broken && !finished {
		return c.killed.Load()
	}
	half, ok := c.nc.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return true
	}
	const patience, most = 300 * time.Millisecond, 256 << 10
	c.nc.SetReadDeadline(time.Now().Add(patience)) //nolint:errcheck // the read tells
	_, err = io.CopyN(io.Discard, c.nc, most)
	late := errors.Is(err, os.ErrDeadlineExceeded)
	if late {
		c.srv.count(func(s *Stats) { s.Lingered.Add(1) })
	}
	return late || err == nil || c.killed.Load()
}

// unopened implements role.
func (c *conn) unopened(id uint32) bool { return id%2 == 0 || id > c.lastID }

// setting implements role: what is left is of no interest to a server.
func (c *conn) setting(http2.Setting) error { return nil }

// goAway implements role: a client that goes opens no streams any more.
func (c *conn) goAway(uint32, http2.ErrCode) {}

// cut implements role.
func (c *conn) cut(s *stream) {
	ex := s.ex
	if ex == nil || ex.done {
		return
	}
	reason := wire.ErrClientGone
	if b, ok := errors.AsType[breach](s.over); ok && b != errLost {
		reason = clientFault(b)
	}
	ex.x.Abort(reason)
}

// head implements role.
func (c *conn) head(id uint32, p []byte, ended bool, bad breach) error {
	if s := c.streams[id]; s != nil {
		return c.trailer(s, p, ended, bad)
	}
	if id%2 == 0 {
		return connError{http2.ErrCodeProtocol, "HEADERS on a stream of the server's"}
	}
	if id <= c.lastID {
		found, ours := c.closed.find(id)
		if !found {
			return connError{http2.ErrCodeProtocol, "HEADERS on a stream that was passed over"}
		}
		if err := c.ignore(p); err != nil || ours {
			return err
		}
		return connError{http2.ErrCodeStreamClosed, "HEADERS on a closed stream"}
	}
	c.lastID = id
	if c.stage == goneForGood {
		c.closed.add(id, true)
		return c.ignore(p)
	}
	if most := c.srv.cfg.MaxStreams; len(c.streams) >= most || c.live >= 2*most {
		c.srv.count(func(s *Stats) { s.Refused.Add(1) })
		if err := c.ignore(p); err != nil {
			return err
		}
		return c.streamError(id, nil, http2.ErrCodeRefusedStream, nil)
	}
	return c.request(id, p, ended, bad)
}

// request takes the head of a request.
func (c *conn) request(id uint32, p []byte, ended bool, bad breach) error {
	ex := c.bounds.Buffers.takeExchange()
	c.block.begin(blockRequest, &ex.req.Header, c.bounds)
	defer c.block.forget()
	if err := c.decode(p); err != nil {
		return err
	}
	if bad == "" && c.block.tooLarge == "" {
		bad = c.block.request(&ex.req, ended)
	}
	req := &ex.req
	switch {
	case bad != "":
		c.srv.count(func(s *Stats) {
			s.Rejected.Add(1)
			s.Malformed.Add(1)
		})
		c.bounds.Buffers.exchanges.Put(ex)
		return c.streamError(id, nil, http2.ErrCodeProtocol, nil)
	case c.block.tooLarge != "":
		c.bounds.Buffers.exchanges.Put(ex)
		return c.reject(id, http.StatusRequestHeaderFieldsTooLarge, ended)
	case req.Method == http.MethodConnect && !c.srv.cfg.Connect:
		c.bounds.Buffers.exchanges.Put(ex)
		return c.reject(id, http.StatusMethodNotAllowed, ended)
	}
	left := req.ContentLength
	if ex.raw = req.Raw(); ex.raw {
		left = wire.UnknownLength
	}
	ex.open(&c.link, id, left)
	ex.remoteDone = ended
	ex.begin(c)
	c.live++
	c.idleSince = time.Time{}
	if last := len(c.idle) - 1; last >= 0 {
		ex.worker = c.idle[last]
		c.idle = c.idle[:last]
	}
	c.ready = append(c.ready, ex)
	return nil
}

// reject answers a request that no service is asked about.
func (c *conn) reject(id uint32, status int, ended bool) error {
	c.srv.count(func(s *Stats) {
		s.Rejected.Add(1)
		if status == http.StatusRequestHeaderFieldsTooLarge {
			s.TooLarge.Add(1)
		}
	})
	start := c.beginHead(id, true)
	c.out = appendStatus(c.enc, c.enc.begin(c.out), status)
	c.endHead(start)
	if !ended {
		c.sendReset(id, http2.ErrCodeNo)
	}
	c.closed.add(id, true)
	if err := c.misused(nil); err != nil {
		return err
	}
	return c.replies()
}

// trailer takes a second head on a stream.
func (c *conn) trailer(s *stream, p []byte, ended bool, bad breach) error {
	if s.remoteDone {
		if err := c.ignore(p); err != nil {
			return err
		}
		return c.streamError(s.id, s, http2.ErrCodeStreamClosed, errMalformed)
	}
	return c.takeTrailer(s, p, ended, bad)
}
