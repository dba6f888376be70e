//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"

	"golang.org/x/net/http2/hpack"
)

// What a backend of HTTP/2 does.
const (
	backendH2     = "h2"     // answers each request by a body
	backendUnary  = "unary"  // answers each gRPC call by a message
	backendStream = "stream" // sends each message of a gRPC stream back
)

// streamBackend is a backend of h2c whose answers do not depend on the requests, so that it need not decode a field.
type streamBackend struct {
	kind    string
	header  []byte // block of the answer's head
	trailer []byte // block behind the body; nil: there is none
	body    []byte
}

// serveStreams runs a backend until the process is ended. size is that of a body, or of a gRPC message.
func serveStreams(addr, kind string, size int) error {
	b := newStreamBackend(kind, size)
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	for {
		conn, err := listener.Accept()
		if err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		go func() {
			defer conn.Close()
			c := &streamConn{backend: b, conn: conn, window: window{conn: defaultWindow, initial: defaultWindow}}
			c.streams = map[uint32]*backendStreamState{}
			_ = c.serve() // how a proxy ends a connection is its affair: what it loses by that, the load counts
		}()
	}
}

func newStreamBackend(kind string, size int) *streamBackend {
	b := &streamBackend{kind: kind}
	if kind == backendH2 {
		b.header = fields(":status", "200", "content-type", "text/plain", "content-length", strconv.Itoa(size))
		b.body = []byte(strings.Repeat("x", size))
		return b
	}
	b.header = fields(":status", "200", "content-type", "application/grpc")
	b.trailer = fields("grpc-status", "0")
	b.body = message(size)
	return b
}

// message is a gRPC message of that many bytes, with its prefix.
func message(size int) []byte {
	prefix := []byte{0, byte(size >> 24), byte(size >> 16), byte(size >> 8), byte(size)}
	return append(prefix, strings.Repeat("x", size)...)
}

// fields encodes a block that leaves the dynamic table alone, so that it can be sent at any time.
func fields(pairs ...string) []byte {
	var b strings.Builder
	encoder := hpack.NewEncoder(&b)
	encoder.SetMaxDynamicTableSize(0)
	for i := 0; i < len(pairs); i += 2 {
		_ = encoder.WriteField(hpack.HeaderField{Name: pairs[i], Value: pairs[i+1]}) // a Builder takes all
	}
	return []byte(strings.TrimPrefix(b.String(), "\x20")) // the table's new size would come with each block
}

// streamConn is a connection from a proxy.
type streamConn struct {
	backend *streamBackend
	conn    net.Conn
	window  window
	intake  intake
	streams map[uint32]*backendStreamState
	waiting []uint32 // streams with something that no window lets through
	out     []byte
}

// backendStreamState is a stream that is not over.
type backendStreamState struct {
	window int    // on top of window.initial
	took   int    // bytes since its window was last given back
	owed   []byte // of the body
	end    bool   // nothing comes behind owed
}

func (c *streamConn) serve() error {
	r := newFrameReader(c.conn)
	c.out = appendHello(c.out)
	start := make([]byte, len(preface))
	if _, err := io.ReadFull(c.conn, start); err != nil {
		return err
	}
	for {
		for {
			f, ok, err := r.next()
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
		if len(c.out) > 0 {
			if _, err := c.conn.Write(c.out); err != nil {
				return err
			}
			c.out = c.out[:0]
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
}

func (c *streamConn) frame(f *frame) error {
	switch f.kind {
	case frameHeaders:
		s := &backendStreamState{}
		c.streams[f.stream] = s
		if c.backend.kind == backendStream {
			c.out = appendFrame(c.out, frameHeaders, flagEndHeaders, f.stream, c.backend.header)
		}
		if f.flags&flagEndStream != 0 {
			c.ended(f.stream, s)
		}
	case frameData:
		return c.data(f)
	case frameReset:
		delete(c.streams, f.stream)
	case frameSettings:
		if f.flags&flagAck == 0 {
			f.settings(func(id uint16, value uint32) {
				if id == settingInitialWindow {
					c.window.initial = int(value)
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
		} else if s := c.streams[f.stream]; s != nil {
			s.window += f.increment()
		}
		c.retry()
	}
	return nil
}

func (c *streamConn) data(f *frame) error {
	body, err := f.body()
	if err != nil {
		return err
	}
	c.out = c.intake.took(c.out, len(f.payload))
	s := c.streams[f.stream]
	if s == nil {
		return nil
	}
	if c.backend.kind == backendStream {
		if s.took += len(f.payload); s.took >= largeWindow/4 {
			c.out = appendWindowUpdate(c.out, f.stream, s.took)
			s.took = 0
		}
		s.owed = append(s.owed, body...)
		c.send(f.stream, s)
	}
	if f.flags&flagEndStream != 0 {
		c.ended(f.stream, s)
	}
	return nil
}

// ended answers a request that has come in full.
func (c *streamConn) ended(id uint32, s *backendStreamState) {
	s.end = true
	if c.backend.kind != backendStream {
		c.out = appendFrame(c.out, frameHeaders, flagEndHeaders, id, c.backend.header)
		s.owed = c.backend.body
	}
	c.send(id, s)
}

// send sends what the windows let through.
func (c *streamConn) send(id uint32, s *backendStreamState) {
	for len(s.owed) > 0 {
		n := min(len(s.owed), c.window.conn, c.window.initial+s.window, 1<<14)
		if n <= 0 {
			c.waiting = append(c.waiting, id)
			return
		}
		var flags byte
		if n == len(s.owed) && s.end && c.backend.trailer == nil {
			flags = flagEndStream
		}
		c.out = appendFrame(c.out, frameData, flags, id, s.owed[:n])
		c.window.conn -= n
		s.window -= n
		s.owed = s.owed[n:]
	}
	if c.backend.kind == backendStream {
		s.owed = nil
	}
	if s.end {
		if c.backend.trailer != nil {
			c.out = appendFrame(c.out, frameHeaders, flagEndHeaders|flagEndStream, id, c.backend.trailer)
		}
		delete(c.streams, id)
	}
}

// retry sends what waited for a window.
func (c *streamConn) retry() {
	waiting := c.waiting
	c.waiting = nil
	for _, id := range waiting {
		if s := c.streams[id]; s != nil {
			c.send(id, s)
		}
	}
}
