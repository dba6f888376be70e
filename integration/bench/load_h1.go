//go:build linux

package main

import (
	"bytes"
	"fmt"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// plain is a load of HTTP/1.1 requests, on one thread.
type plain struct {
	config   *loadConfig
	meter    *meter
	loop     *loop
	pace     *pace // nil: as fast as it goes
	requests [][]byte
	turn     int
	conns    map[int]*client
	idle     []*client       // only with a pace
	late     []time.Duration // due, and no connection is idle
	ending   bool            // no request is sent any more
	flying   int             // requests under way
	buffer   []byte
}

// client is a connection to the proxy.
type client struct {
	fd   int
	due  time.Duration // of the request under way
	busy bool
	head []byte // of the answer, as far as it has come
	body int    // bytes still to come; below 0: the head is not whole
}

// discardFrom is the size of what is dropped by the kernel instead of copied here first.
const discardFrom = 16 << 10

func plainLoad(c *loadConfig, m *meter) error {
	p := &plain{config: c, meter: m, conns: map[int]*client{}, buffer: make([]byte, 64<<10)}
	for _, path := range c.Paths {
		p.requests = append(p.requests, fmt.Appendf(nil,
			"GET %s HTTP/1.1\r\nHost: bench.test\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n", path))
	}
	var err error
	if p.loop, err = newLoop(); err != nil {
		return err
	}
	for range c.Conns {
		if err := p.open(); err != nil {
			return err
		}
	}
	p.meter.tick(now())
	p.pace = newPace(c.Rate, now())
	for _, client := range p.conns {
		if p.pace != nil {
			p.idle = append(p.idle, client)
		} else {
			p.send(client, now())
		}
	}
	return p.run()
}

func (p *plain) run() error {
	for {
		at := now()
		p.ending = p.meter.tick(at)
		if p.ending && (p.flying == 0 || at > p.meter.next()+endTime) {
			return nil
		}
		wake := p.meter.next()
		if p.ending {
			wake = at + endTime/100
		} else if p.pace != nil {
			p.pace.due(at, p.start)
			wake = min(wake, p.pace.next)
		}
		if err := p.loop.wakeAt(wake); err != nil {
			return err
		}
		if err := p.events(); err != nil {
			return err
		}
	}
}

// events serves sockets until the timer goes off.
func (p *plain) events() error {
	for {
		events, err := p.loop.wait()
		if err != nil {
			return err
		}
		rang := false
		for i := range events {
			if fd := int(events[i].Fd); fd == p.loop.timer {
				rang = true
			} else if c := p.conns[fd]; c != nil {
				if err := p.read(c); err != nil {
					return err
				}
			}
		}
		if rang {
			return nil
		}
	}
}

// open opens a connection.
func (p *plain) open() error {
	fd, err := dial(p.config.Addr)
	if err != nil {
		return err
	}
	p.conns[fd] = &client{fd: fd, body: -1}
	return p.loop.add(fd)
}

// reopen replaces a connection that failed.
func (p *plain) reopen(c *client, format string, args ...any) error {
	p.meter.failed(format, args...)
	if p.meter.done.Errors > 1000 {
		return fmt.Errorf("more than 1000 errors, the first: %s", p.meter.done.First)
	}
	delete(p.conns, c.fd)
	if err := unix.Close(c.fd); err != nil {
		return fmt.Errorf("close connection: %w", err)
	}
	fd, err := dial(p.config.Addr)
	if err != nil {
		return err
	}
	c.fd, c.head, c.body = fd, c.head[:0], -1
	p.conns[fd] = c
	if err := p.loop.add(fd); err != nil {
		return err
	}
	if c.busy {
		p.finish(c)
	}
	return nil
}

// start sends a request that is due, or lets it wait.
func (p *plain) start(due time.Duration) {
	n := len(p.idle)
	if n == 0 {
		p.late = append(p.late, due)
		return
	}
	c := p.idle[n-1]
	p.idle = p.idle[:n-1]
	p.send(c, due)
}

func (p *plain) send(c *client, due time.Duration) {
	c.due, c.busy = due, true
	p.flying++
	request := p.requests[p.turn%len(p.requests)]
	p.turn++
	if n, err := unix.Write(c.fd, request); err != nil || n < len(request) {
		p.meter.failed("send: %d of %d bytes: %v", n, len(request), err) // and reading tells the end
	}
}

func (p *plain) read(c *client) error {
	if c.body >= discardFrom {
		n, err := discard(c.fd, c.body)
		return p.came(c, n, nil, err)
	}
	n, err := unix.Read(c.fd, p.buffer)
	return p.came(c, n, p.buffer[:max(0, n)], err)
}

// came takes n bytes of an answer; in is nil if they were dropped.
func (p *plain) came(c *client, n int, in []byte, err error) error {
	switch {
	case again(err):
		return nil
	case err != nil:
		return p.reopen(c, "read: %v", err)
	case n == 0:
		return p.reopen(c, "the proxy closed the connection")
	case !c.busy:
		return p.reopen(c, "%d bytes that nobody asked for", n)
	}
	if c.body < 0 {
		c.head = append(c.head, in...)
		end := bytes.Index(c.head, []byte(headEnd))
		if end < 0 {
			return nil
		}
		length, problem := bodyLength(c.head[:end+2])
		if problem != "" || length != p.config.Body {
			return p.reopen(c, "an answer with %d bytes %s: %.200q", length, problem, c.head)
		}
		c.body, n = length, len(c.head)-end-len(headEnd)
		c.head = c.head[:0]
	}
	if c.body -= n; c.body < 0 {
		return p.reopen(c, "an answer is longer than it said")
	}
	if c.body == 0 {
		c.body = -1
		p.meter.answered(c.due)
		p.finish(c)
	}
	return nil
}

// finish looks for the next request.
func (p *plain) finish(c *client) {
	c.busy = false
	p.flying--
	switch {
	case p.ending:
	case p.pace == nil:
		p.send(c, 0)
	case len(p.late) > 0:
		due := p.late[0]
		p.late = p.late[1:]
		p.send(c, due)
	default:
		p.idle = append(p.idle, c)
	}
}

// discard drops up to n bytes that have come.
func discard(fd, n int) (int, error) {
	got, _, errno := unix.Syscall6(unix.SYS_RECVFROM, uintptr(fd), 0, uintptr(n), unix.MSG_TRUNC, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(got), nil
}

// bodyLength reads the head of an answer, with the line end of its last field. What is not 200, or has no length, is a
// problem.
func bodyLength(head []byte) (length int, problem string) {
	if !bytes.HasPrefix(head, []byte("HTTP/1.1 200 ")) {
		return 0, "is not 200"
	}
	const name = "\r\ncontent-length:"
	for rest := head; len(rest) > len(name); {
		i := bytes.IndexByte(rest, '\r')
		if i < 0 {
			break
		}
		rest = rest[i:]
		if len(rest) > len(name) && bytes.EqualFold(rest[:len(name)], []byte(name)) {
			value := rest[len(name):]
			value = bytes.TrimSpace(value[:bytes.IndexByte(value, '\r')])
			n, err := strconv.Atoi(string(value))
			if err != nil || n < 0 {
				return 0, "has a bad length"
			}
			return n, ""
		}
		rest = rest[1:]
	}
	return 0, "has no length"
}
