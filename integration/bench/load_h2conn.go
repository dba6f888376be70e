//go:build linux

package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/http2/hpack"
)

// streamClient is a connection to the proxy.
type streamClient struct {
	load    *streams
	conn    net.Conn
	frames  *frameReader
	encode  *hpack.Encoder
	block   bytes.Buffer
	nextID  uint32
	window  window
	intake  intake
	slots   map[uint32]*slot // by stream
	blocked []*slot          // with a message that no window lets through
	message []byte           // of a gRPC request
	out     []byte
}

// open connects, and starts nothing before the proxy has told its settings: the size of its table of fields is there.
func (s *streams) open() (*streamClient, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := (&net.Dialer{}).DialContext(ctx, "tcp", s.config.Addr)
	if err != nil {
		return nil, err
	}
	if s.config.TLS {
		secure := tls.Client(conn, &tls.Config{
			ServerName: serverName, InsecureSkipVerify: true, NextProtos: []string{"h2"},
			CurvePreferences: []tls.CurveID{tls.X25519},
		})
		if err := secure.HandshakeContext(ctx); err != nil {
			return nil, fmt.Errorf("handshake: %w", err)
		}
		if got := secure.ConnectionState().NegotiatedProtocol; got != "h2" {
			return nil, fmt.Errorf("the proxy chose protocol %q", got)
		}
		conn = secure
	}
	c := &streamClient{load: s, conn: conn, frames: newFrameReader(conn), nextID: 1, slots: map[uint32]*slot{}}
	c.window = window{conn: defaultWindow, initial: defaultWindow}
	c.encode = hpack.NewEncoder(&c.block)
	c.message = message(s.config.Body)
	c.out = appendHello([]byte(preface))
	if err := c.settle(); err != nil {
		return nil, err
	}
	return c, nil
}

// settle waits for the proxy's settings, then starts all slots.
func (c *streamClient) settle() error {
	if err := c.flush(); err != nil {
		return err
	}
	if err := c.conn.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	f, ok, err := c.frames.next()
	for ; err == nil && !ok; f, ok, err = c.frames.next() {
		if err = c.frames.fill(); err != nil {
			break
		}
	}
	if err != nil {
		return fmt.Errorf("wait for settings: %w", err)
	}
	if f.kind != frameSettings || f.flags&flagAck != 0 {
		return errors.New("the proxy does not begin with its settings")
	}
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	if err := errors.Join(c.frame(&f), c.conn.SetReadDeadline(time.Time{})); err != nil {
		return err
	}
	for range c.load.config.Streams {
		s := &slot{conn: c}
		if c.load.config.Protocol == loadStream {
			c.head(s, 0)
		}
		if c.load.paced {
			c.load.idle = append(c.load.idle, s)
		} else {
			c.send(s, 0)
		}
	}
	return c.flush()
}

// read serves what comes until the connection ends.
func (c *streamClient) read() error {
	for {
		if err := c.handle(); err != nil {
			return err
		}
		if err := c.frames.fill(); err != nil {
			return err
		}
	}
}

// handle handles all frames that have come, and writes what they led to at once.
func (c *streamClient) handle() error {
	c.load.mu.Lock()
	defer c.load.mu.Unlock()
	for {
		f, ok, err := c.frames.next()
		if err != nil {
			return err
		}
		if !ok {
			break
		}
		if err := c.frame(&f); err != nil {
			return err
		}
	}
	return c.flush()
}

func (c *streamClient) flush() error {
	if len(c.out) == 0 {
		return nil
	}
	_, err := c.conn.Write(c.out)
	c.out = c.out[:0]
	return err
}

// send makes a slot's next request.
func (c *streamClient) send(s *slot, due time.Duration) {
	s.due, s.busy, s.body = due, true, 0
	c.load.busy++
	switch c.load.config.Protocol {
	case loadStream:
		c.data(s)
	case loadUnary:
		c.head(s, 0)
		c.data(s)
	default:
		c.head(s, flagEndStream)
	}
}

// head opens a stream.
func (c *streamClient) head(s *slot, flags byte) {
	s.id, s.ok, s.window, s.took = c.nextID, false, 0, 0
	c.nextID += 2
	c.slots[s.id] = s
	c.block.Reset()
	put := func(name, value string) {
		_ = c.encode.WriteField(hpack.HeaderField{Name: name, Value: value}) // a buffer takes all
	}
	if flags&flagEndStream != 0 {
		put(":method", "GET")
	} else {
		put(":method", "POST")
	}
	put(":scheme", map[bool]string{false: "http", true: "https"}[c.load.config.TLS])
	put(":path", c.load.config.Paths[0])
	put(":authority", serverName)
	put("user-agent", "bench")
	if flags&flagEndStream == 0 {
		put("content-type", "application/grpc")
		put("te", "trailers")
	}
	c.out = appendFrame(c.out, frameHeaders, flags|flagEndHeaders, s.id, c.block.Bytes())
}

// data sends a slot's message, at once or when windows allow it.
func (c *streamClient) data(s *slot) {
	n := len(c.message)
	if c.window.conn < n || c.window.initial+s.window < n {
		c.blocked = append(c.blocked, s)
		return
	}
	c.window.conn -= n
	s.window -= n
	var flags byte
	if c.load.config.Protocol == loadUnary {
		flags = flagEndStream
	}
	c.out = appendFrame(c.out, frameData, flags, s.id, c.message)
}

func (c *streamClient) frame(f *frame) error {
	switch f.kind {
	case frameHeaders, frameData, frameReset:
		return c.streamFrame(f)
	case frameSettings:
		if f.flags&flagAck == 0 {
			f.settings(func(id uint16, value uint32) {
				switch id {
				case settingInitialWindow:
					c.window.initial = int(value)
				case settingTableSize:
					c.encode.SetMaxDynamicTableSizeLimit(min(value, 4096))
				}
			})
			c.out = appendFrame(c.out, frameSettings, flagAck, 0, nil)
			c.retry()
		}
	case framePing:
		if f.flags&flagAck == 0 {
			c.out = appendFrame(c.out, framePing, flagAck, 0, f.payload)
		}
	case frameWindowUpdate:
		if f.stream == 0 {
			c.window.conn += f.increment()
		} else if s := c.slots[f.stream]; s != nil {
			s.window += f.increment()
		}
		c.retry()
	case frameGoAway:
		if len(f.payload) < 8 {
			return errors.New("a short GOAWAY")
		}
		return fmt.Errorf("the proxy says GOAWAY, code %d", binary.BigEndian.Uint32(f.payload[4:]))
	}
	return nil
}

// retry sends messages that waited for a window.
func (c *streamClient) retry() {
	blocked := c.blocked
	c.blocked = nil
	for _, s := range blocked {
		c.data(s)
	}
}

// streamFrame takes a part of an answer.
func (c *streamClient) streamFrame(f *frame) error {
	s := c.slots[f.stream]
	if f.kind == frameData {
		c.out = c.intake.took(c.out, len(f.payload))
	}
	if s == nil {
		return nil
	}
	end := f.flags&flagEndStream != 0
	if f.kind != frameReset {
		body, err := f.body()
		if err != nil {
			return err
		}
		if f.kind == frameData {
			s.body += len(body)
			c.giveBack(s, len(f.payload))
		} else if !end || s.body == 0 {
			s.ok = statusOK(body)
		}
	}
	if c.load.config.Protocol == loadStream {
		return c.echoed(s, f, end)
	}
	if !end && f.kind != frameReset {
		return nil
	}
	problem := ""
	want := c.load.config.Body
	if c.load.config.Protocol == loadUnary {
		want = len(c.message)
	}
	if f.kind == frameReset || !s.ok || s.body != want {
		problem = fmt.Sprintf("stream %d ended by frame %d with %d bytes, status 200: %v", s.id, f.kind, s.body, s.ok)
	}
	delete(c.slots, s.id)
	c.load.finishLocked(s, problem)
	return nil
}

// echoed takes a part of a message that comes back on a long stream.
func (c *streamClient) echoed(s *slot, f *frame, end bool) error {
	switch {
	case end || f.kind == frameReset:
		return fmt.Errorf("a stream ended by frame %d", f.kind)
	case s.busy && s.body == len(c.message) && s.ok:
		c.load.finishLocked(s, "")
	case s.body > len(c.message):
		return errors.New("more comes back than was sent")
	}
	return nil
}

// giveBack opens a stream's window again, where streams are long.
func (c *streamClient) giveBack(s *slot, n int) {
	if c.load.config.Protocol != loadStream {
		return
	}
	if s.took += n; s.took >= largeWindow/4 {
		c.out = appendWindowUpdate(c.out, s.id, s.took)
		s.took = 0
	}
}

// statusOK says that a block begins with status 200 out of the static table, as all encoders put it; before it there
// may be new sizes of the dynamic table (RFC 7541 section 6.3).
func statusOK(block []byte) bool {
	for len(block) > 0 && block[0]>>5 == 1 {
		long := block[0]&0x1f == 0x1f
		block = block[1:]
		for long && len(block) > 0 {
			long = block[0]&0x80 != 0
			block = block[1:]
		}
	}
	return len(block) > 0 && block[0] == 0x88
}
