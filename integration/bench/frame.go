//go:build linux

package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
)

// Frames of HTTP/2, RFC 9113 section 6, as far as both ends of the benchmark need them. A library's framer gives one
// frame a call; these ends handle all that a read has brought, and answer by one write.
const (
	frameData         = 0x0
	frameHeaders      = 0x1
	frameReset        = 0x3
	frameSettings     = 0x4
	framePing         = 0x6
	frameGoAway       = 0x7
	frameWindowUpdate = 0x8
	frameContinuation = 0x9

	flagEndStream  = 0x1 // of DATA and HEADERS
	flagAck        = 0x1 // of SETTINGS and PING
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20

	settingTableSize     = 0x1
	settingMaxStreams    = 0x3
	settingInitialWindow = 0x4

	frameHead     = 9
	preface       = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
	defaultWindow = 65535
	largeWindow   = 1 << 30 // what our ends let the proxy send
)

// frame is one that came. Its payload dies with the next read.
type frame struct {
	kind    byte
	flags   byte
	stream  uint32
	payload []byte
}

// frameReader gives the frames of a connection.
type frameReader struct {
	conn   net.Conn
	buffer []byte
	from   int // what is not yet handled
	to     int
}

func newFrameReader(conn net.Conn) *frameReader {
	return &frameReader{conn: conn, buffer: make([]byte, 128<<10)}
}

// fill reads more, behind what is left.
func (r *frameReader) fill() error {
	r.to = copy(r.buffer, r.buffer[r.from:r.to])
	r.from = 0
	n, err := r.conn.Read(r.buffer[r.to:])
	r.to += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// next gives a frame if one has come in full.
func (r *frameReader) next() (f frame, ok bool, err error) {
	in := r.buffer[r.from:r.to]
	if len(in) < frameHead {
		return f, false, nil
	}
	length := int(in[0])<<16 | int(in[1])<<8 | int(in[2])
	if length > 1<<14 {
		return f, false, fmt.Errorf("a frame of %d bytes", length)
	}
	if len(in) < frameHead+length {
		return f, false, nil
	}
	f = frame{kind: in[3], flags: in[4], stream: binary.BigEndian.Uint32(in[5:]) &^ (1 << 31)}
	f.payload = in[frameHead : frameHead+length]
	r.from += frameHead + length
	return f, true, nil
}

// body is the payload of a DATA or HEADERS frame without padding and priority.
func (f *frame) body() ([]byte, error) {
	p, pad := f.payload, 0
	if f.flags&flagPadded != 0 {
		if len(p) == 0 {
			return nil, errors.New("a padded frame without a length")
		}
		pad, p = int(p[0]), p[1:]
	}
	if f.kind == frameHeaders && f.flags&flagPriority != 0 {
		if len(p) < 5 {
			return nil, errors.New("a short priority")
		}
		p = p[5:]
	}
	if pad > len(p) {
		return nil, errors.New("more padding than frame")
	}
	return p[:len(p)-pad], nil
}

// settings calls f with each setting.
func (f *frame) settings(do func(id uint16, value uint32)) {
	for p := f.payload; len(p) >= 6; p = p[6:] {
		do(binary.BigEndian.Uint16(p), binary.BigEndian.Uint32(p[2:]))
	}
}

// increment is the number in a WINDOW_UPDATE.
func (f *frame) increment() int {
	if len(f.payload) != 4 {
		return 0
	}
	return int(binary.BigEndian.Uint32(f.payload) &^ (1 << 31))
}

func appendFrame(to []byte, kind, flags byte, stream uint32, payload []byte) []byte {
	to = append(to, byte(len(payload)>>16), byte(len(payload)>>8), byte(len(payload)), kind, flags)
	to = binary.BigEndian.AppendUint32(to, stream)
	return append(to, payload...)
}

func appendWindowUpdate(to []byte, stream uint32, n int) []byte {
	return appendFrame(to, frameWindowUpdate, 0, stream, binary.BigEndian.AppendUint32(nil, uint32(n)))
}

// appendHello appends SETTINGS and a window for the connection that let the other side send what it likes.
func appendHello(to []byte) []byte {
	settings := binary.BigEndian.AppendUint16(nil, settingInitialWindow)
	settings = binary.BigEndian.AppendUint32(settings, largeWindow)
	settings = binary.BigEndian.AppendUint16(settings, settingMaxStreams)
	settings = binary.BigEndian.AppendUint32(settings, 250)
	to = appendFrame(to, frameSettings, 0, 0, settings)
	return appendWindowUpdate(to, 0, largeWindow-defaultWindow)
}

// window is what one side may still send.
type window struct {
	conn    int
	initial int // of each stream
}

// intake counts what came, and gives windows back before they are used up. A stream's is given back only where streams
// are long.
type intake struct{ conn int }

func (i *intake) took(out []byte, n int) []byte {
	if i.conn += n; i.conn >= largeWindow/4 {
		out = appendWindowUpdate(out, 0, i.conn)
		i.conn = 0
	}
	return out
}
