//go:build linux

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"

	"golang.org/x/sys/unix"
)

// sendfileFrom is the size of answers that are sent by reference to memory pages instead of copied.
const sendfileFrom = 32 << 10

// plainBackend answers each HTTP/1.1 request without a body by the same answer. It looks at nothing but the end of a
// request's head.
type plainBackend struct {
	loop     *loop
	listener int
	answer   []byte
	file     int // of the same bytes, for sendfile
	conns    map[int]*plainConn
	buffer   []byte
}

// plainConn is a connection from a proxy.
type plainConn struct {
	matched int // bytes of the end of a head that were the last ones read
	owed    int // answers not yet begun
	sent    int // bytes of the answer under way; 0: none is
}

const headEnd = "\r\n\r\n"

// errEnd ends a connection.
var errEnd = errors.New("connection ended")

// answerOf is a whole answer with a body of that size.
func answerOf(size int) []byte {
	head := fmt.Sprintf("HTTP/1.1 200 OK\r\nDate: Mon, 01 Jan 2024 00:00:00 GMT\r\nServer: bench\r\n"+
		"Content-Type: text/plain\r\nContent-Length: %d\r\n\r\n", size)
	return append([]byte(head), strings.Repeat("x", size)...)
}

// servePlain runs a backend until the process is ended.
func servePlain(addr string, size int) error {
	b := &plainBackend{answer: answerOf(size), conns: map[int]*plainConn{}, buffer: make([]byte, 64<<10)}
	var err error
	if b.loop, err = newLoop(); err != nil {
		return err
	}
	if b.file, err = unix.MemfdCreate("answer", unix.MFD_CLOEXEC); err != nil {
		return fmt.Errorf("make file of the answer: %w", err)
	}
	if _, err := unix.Pwrite(b.file, b.answer, 0); err != nil {
		return fmt.Errorf("write file of the answer: %w", err)
	}
	if b.listener, err = listen(addr); err != nil {
		return err
	}
	if err := b.loop.add(b.listener); err != nil {
		return err
	}
	for {
		events, err := b.loop.wait()
		if err != nil {
			return err
		}
		for i := range events {
			if err := b.event(&events[i]); err != nil {
				return err
			}
		}
	}
}

func (b *plainBackend) event(event *unix.EpollEvent) error {
	fd := int(event.Fd)
	if fd == b.listener {
		return b.accept()
	}
	c := b.conns[fd]
	if c == nil {
		return nil
	}
	err := b.serve(fd, c, event.Events)
	if err != nil {
		delete(b.conns, fd)
		return unix.Close(fd) // the proxy is gone; its end tells the load
	}
	return nil
}

func (b *plainBackend) accept() error {
	for {
		fd, _, err := unix.Accept4(b.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		switch {
		case again(err):
			return nil
		case errors.Is(err, unix.ECONNABORTED):
			continue
		case err != nil:
			return fmt.Errorf("accept: %w", err)
		}
		if err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1); err != nil {
			return fmt.Errorf("accept: %w", err)
		}
		b.conns[fd] = &plainConn{}
		if err := b.loop.add(fd); err != nil {
			return err
		}
	}
}

func (b *plainBackend) serve(fd int, c *plainConn, events uint32) error {
	if events&unix.EPOLLOUT != 0 {
		if err := b.send(fd, c); err != nil || c.owed > 0 {
			return err
		}
		return b.loop.output(fd, false)
	}
	n, err := unix.Read(fd, b.buffer)
	switch {
	case again(err):
		return nil
	case err != nil || n == 0:
		return errEnd
	}
	was := c.owed
	c.requests(b.buffer[:n])
	if err := b.send(fd, c); err != nil {
		return err
	}
	if c.owed > 0 && was == 0 {
		return b.loop.output(fd, true)
	}
	return nil
}

// requests counts the heads that end within the bytes.
func (c *plainConn) requests(in []byte) {
	for c.matched > 0 && len(in) > 0 { // a head whose end was cut in two
		if in[0] != headEnd[c.matched] {
			c.matched = 0
			if in[0] == headEnd[0] {
				c.matched = 1
			}
		} else if c.matched++; c.matched == len(headEnd) {
			c.matched = 0
			c.owed++
		}
		in = in[1:]
	}
	for {
		i := bytes.Index(in, []byte(headEnd))
		if i < 0 {
			break
		}
		c.owed++
		in = in[i+len(headEnd):]
	}
	for n := min(len(in), len(headEnd)-1); n > 0; n-- {
		if bytes.HasSuffix(in, []byte(headEnd[:n])) {
			c.matched = n
			return
		}
	}
}

// send sends what is owed as far as there is room.
func (b *plainBackend) send(fd int, c *plainConn) error {
	for c.owed > 0 {
		var n int
		var err error
		if len(b.answer) >= sendfileFrom {
			offset := int64(c.sent)
			n, err = unix.Sendfile(fd, b.file, &offset, len(b.answer)-c.sent)
		} else {
			n, err = unix.Write(fd, b.answer[c.sent:])
		}
		if again(err) {
			return nil
		}
		if err != nil {
			return errEnd
		}
		if c.sent += n; c.sent == len(b.answer) {
			c.sent, c.owed = 0, c.owed-1
		}
	}
	return nil
}
