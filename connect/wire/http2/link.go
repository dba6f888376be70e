package http2

import (
	"bytes"
	"crypto/tls"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/connect/wire/socket"
)

// role is what a server and a client do in their own ways with what a link
// reads. All methods are called by the reader with the link's lock held; an error
// that is a connError ends the connection.
type role interface {
	// head is told of a whole header block; bad, if not "", is what is wrong with
	// its frame.
	head(id uint32, p []byte, ended bool, bad breach) error
	// cut is told that the other side has ended s early, or the connection did.
	cut(s *stream)
	// unopened tells whether nobody has opened the stream yet.
	unopened(id uint32) bool
	// setting is told of a setting that is not the link's own.
	setting(s http2.Setting) error
	// goAway is told that the other side processes no stream after last.
	goAway(last uint32, code http2.ErrCode)
}

// link is one connection, whichever side we are on: its frames, windows and
// streams, and what waits to be written.
type link struct {
	// set by init
	nc     net.Conn
	bounds *Bounds
	role   role
	// pingIdle says that PINGs are sent also while there is no stream; headTime is
	// how long a header block may take, 0 for ever; tick and pong, if not nil, are
	// called with the lock held: when the clock goes off, and with the answer to a PING.
	pingIdle bool
	headTime time.Duration
	tick     func(now time.Time)
	pong     func(data [8]byte)
	// onLate, if not nil, is told with the lock held what has not come in time.
	onLate func(what lateness)
	// frames counts what is said; never nil.
	frames *Frames
	// killed says that we have closed the connection.
	killed atomic.Bool

	// owned by the reader
	input
	settled bool // the other side's first frame, SETTINGS, was there
	whole   bytes.Reader
	framer  *http2.Framer // reads rare frames from whole
	// dispatch, if not nil, is called when all that had arrived was taken.
	dispatch   func()
	spareWoken []*stream // memory for woken
	dec        *hpack.Decoder
	block      block
	// pending is a header block that has not ended; id 0 if there is none.
	pending struct {
		id     uint32
		ended  bool
		bad    breach
		frames int
		since  time.Time
		p      []byte
	}

	mu sync.Mutex // guards what follows, and all streams:
	// taking says that the reader takes frames; woken are the streams to wake then.
	taking bool
	woken  []*stream
	// streams are those on which something may still come or go.
	streams map[uint32]*stream
	closed  closedRing
	// waiting are streams to be, which wait for the first settings.
	waiting []*stream
	// dead is why the connection is over; nil while it lives.
	dead error

	enc       *encoder
	sendLeft  int64 // the other side's window for the connection
	sendFirst int64 // and the one that streams begin with
	sendFrame int   // the largest payload it takes
	recvLeft  int64 // our window for the connection
	recvFreed int64 // what was read of it and not yet announced
	// lastRead is when something was last read, pinged when a PING left that was
	// not answered; zero if there is none.
	lastRead, pinged time.Time
	resets, control  budget

	outflow
	clock
}

func (l *link) init(nc net.Conn, bounds *Bounds, r role, frames *Frames) {
	l.nc, l.bounds, l.role, l.frames = socket.New(nc), bounds, r, frames
	l.sock, _ = l.nc.(*socket.Conn)
	l.streams, l.enc = map[uint32]*stream{}, newEncoder()
	l.sendLeft, l.sendFirst, l.sendFrame, l.recvLeft = initialWindow, initialWindow, maxFrame, initialWindow
	l.lastRead = time.Now()
	l.resets = budget{most: bounds.MaxResets, perSecond: 33}
	l.control = budget{most: bounds.MaxControl, perSecond: 100}
	l.framer = http2.NewFramer(nil, &l.whole)
	l.framer.AllowIllegalReads = true // the order is checked where frames are taken
	l.dec = hpack.NewDecoder(tableSize, l.field)
	l.flushed.L = &l.mu
	l.goesOff = l.check
}

// field is called with each field that is decoded.
func (l *link) field(f hpack.HeaderField) {
	l.block.take(f)
	if l.block.tooLarge != "" || l.block.problem != "" {
		l.dec.SetEmitEnabled(false) // the table is kept up with, but no more
	}
}

// decode decodes one header block into l.block. The reader calls it, with the lock
// held, for each one, even if nobody wants it: the table changes by it.
func (l *link) decode(p []byte) error {
	l.dec.SetEmitEnabled(l.block.kind != blockIgnored)
	_, err := l.dec.Write(p)
	if err == nil {
		err = l.dec.Close()
	}
	if err != nil {
		return connError{http2.ErrCodeCompression, err.Error()}
	}
	return nil
}

// ignore decodes a block that nobody wants.
func (l *link) ignore(p []byte) error {
	l.block.begin(blockIgnored, nil, l.bounds)
	return l.decode(p)
}

// greet writes our settings. The lock is held.
func (l *link) greet(settings ...http2.Setting) {
	settings = append(settings,
		http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(l.bounds.StreamWindow)},
		http2.Setting{ID: http2.SettingMaxHeaderListSize, Val: uint32(l.bounds.MaxHeaderBytes)})
	l.out = appendSettings(l.out, settings...)
	if more := int64(l.bounds.ConnWindow) - initialWindow; more > 0 {
		l.out = appendUpdate(l.out, 0, more)
		l.recvLeft += more
	}
}

// read reads frames until the connection ends, and returns why.
func (l *link) read() error {
	for {
		l.mu.Lock()
		l.taking = true
		err := l.take()
		l.taking = false
		woken, busy := l.woken, len(l.streams) > 0
		for _, s := range woken {
			s.marked = false
		}
		l.woken = l.spareWoken[:0]
		l.unlock(true)
		for i, s := range woken {
			s.cond.Broadcast()
			woken[i] = nil
		}
		l.spareWoken = woken
		if l.dispatch != nil {
			l.dispatch()
		}
		if err != nil {
			return err
		}
		if err := l.fill(busy); err != nil {
			return err
		}
	}
}

// take takes all frames that have arrived whole. The lock is held, and those who
// wait wake up only when it is given back.
func (l *link) take() error {
	if l.dead != nil {
		return l.dead // nothing that comes now could be answered
	}
	in := l.in
	if in == nil {
		return nil
	}
	if in.w > in.r {
		l.lastRead, l.pinged = time.Now(), time.Time{}
	}
	for in.w-in.r >= frameHead {
		h := parseHead(in.b[in.r:])
		if h.Length > maxFrame {
			return connError{http2.ErrCodeFrameSize, "frame too large"}
		}
		size := frameHead + int(h.Length)
		if in.w-in.r < size {
			return nil
		}
		frame := in.b[in.r : in.r+size]
		in.r += size
		if err := l.frame(h, frame); err != nil {
			return err
		}
	}
	return nil
}

// fail ends all streams when the connection is over. The lock is held.
func (l *link) fail(err error) {
	if l.dead != nil {
		return
	}
	l.dead = err
	for _, s := range l.streams {
		l.end(s, errLost, false)
		l.role.cut(s)
	}
	l.stopClock()
	for _, s := range l.waiting {
		s.wake()
	}
}

// end takes a stream out on which nothing more will come or go; err, if not nil,
// is why it ends early, ours that we have ended it. The lock is held.
func (l *link) end(s *stream, err error, ours bool) {
	if l.streams[s.id] != s {
		return
	}
	delete(l.streams, s.id)
	l.frames.Streams.Add(-1)
	l.closed.add(s.id, ours)
	if err != nil && s.over == nil {
		s.over = err
	}
	if !s.remoteDone {
		s.drop()
	}
	s.wake()
}

// reset ends a stream with RST_STREAM. The lock is held.
func (l *link) reset(s *stream, code http2.ErrCode, err error) {
	if l.streams[s.id] == s {
		l.sendReset(s.id, code)
		l.end(s, err, true)
	}
}

// sendReset says RST_STREAM. The lock is held.
func (l *link) sendReset(id uint32, code http2.ErrCode) {
	l.out = appendReset(l.out, id, code)
	l.frames.ResetsSent.Add(1)
}

// base is the connection below TLS, whose Close does not wait for anybody.
func base(nc net.Conn) net.Conn {
	if t, ok := nc.(*tls.Conn); ok {
		return t.NetConn()
	}
	return nc
}

// closedRing remembers the streams that were closed last.
type closedRing struct {
	ids  [64]uint32
	ours [64]bool
	next uint8
}

func (c *closedRing) add(id uint32, ours bool) {
	c.ids[c.next%64], c.ours[c.next%64] = id, ours
	c.next++
}

// find tells whether id was closed, and by our reset. What is not remembered any more
// may have been: what still comes for it was on its way.
func (c *closedRing) find(id uint32) (found, ours bool) {
	for i, known := range c.ids {
		if known == id {
			return true, c.ours[i]
		}
	}
	full := c.ids[c.next%64] != 0
	return full, full
}
