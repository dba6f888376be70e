package socket

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
)

// Conn is a stream socket. As with any net.Conn, its methods may be called by
// several goroutines; Receive, Hold and Drop belong to the one that reads.
type Conn struct {
	net.Conn
	raw    syscall.RawConn
	in     input
	out    output
	peeked peek
}

// New returns conn as a *Conn if it is exactly a TCP or unix socket, on systems
// where that is of use, and otherwise as it is: wrapped connections may hold
// bytes of their own.
func New(conn net.Conn) net.Conn {
	var sock syscall.Conn
	switch c := conn.(type) {
	case *net.TCPConn:
		sock = c
	case *net.UnixConn:
		sock = c
	}
	if sock == nil || !useful {
		return conn
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return conn
	}
	c := &Conn{Conn: conn, raw: raw}
	c.in.conn, c.in.call = c, c.in.ready
	c.out.call = c.out.ready
	c.peeked.call = c.peeked.ready
	return c
}

// Of returns conn, or the socket below its layers, of which each has a NetConn as
// [tls.Conn] has, if New made it; otherwise nil.
func Of(conn net.Conn) *Conn {
	for {
		if c, ok := conn.(*Conn); ok {
			return c
		}
		layer, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return nil
		}
		conn = layer.NetConn()
	}
}

// NetConn is what New was given.
func (c *Conn) NetConn() net.Conn { return c.Conn }

// SyscallConn implements [syscall.Conn].
func (c *Conn) SyscallConn() (syscall.RawConn, error) { return c.raw, nil }

// CloseWrite ends our direction and leaves the other one open.
func (c *Conn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return errors.ErrUnsupported
}

// SetLinger is that of [net.TCPConn]; for a unix socket it does nothing.
func (c *Conn) SetLinger(seconds int) error {
	if t, ok := c.Conn.(*net.TCPConn); ok {
		return t.SetLinger(seconds)
	}
	return nil
}

// Read implements [net.Conn]. What is held leaves before it waits.
func (c *Conn) Read(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	return c.in.read(p, nil)
}

// Memory is lent to a read.
type Memory interface {
	// Lend gives room for at least one byte. It is called when there may be
	// something to read.
	Lend() []byte
	// TakeBack is called when there was nothing after all, before waiting.
	TakeBack()
}

// Receive reads once into m's memory, which is taken only when there is something
// to read. What is held leaves before it waits.
func (c *Conn) Receive(m Memory) (int, error) { return c.in.read(nil, m) }

// Write implements [net.Conn].
func (c *Conn) Write(p []byte) (int, error) {
	if c.in.hold(p) {
		return len(p), nil
	}
	if err := c.in.flush(); err != nil {
		return 0, err
	}
	return c.out.write(c.raw, p)
}

// Hold makes the next writes wait in mem until the next read, which sends them
// when it begins to wait. A write that mem has no room for leaves at once, with
// what waits before it. When mem is needed no longer, done is called, once.
//
// The read waits for what comes after the writes have left. Bytes that came
// before are given with those, and the end of the stream is told then, or at the
// next read: hold where nothing can come before.
func (c *Conn) Hold(mem []byte, done func()) {
	c.in.held, c.in.left, c.in.done = mem[:0], 0, done
}

// Drop ends what Hold began: what is still held will never leave. It tells
// whether any bytes of what was held since have left.
func (c *Conn) Drop() (left bool) {
	c.in.release()
	return c.in.left > 0
}

// Starve makes reads find nothing, at once and without looking, until it is
// called with false: what a layer above still gives, it had before. Their error
// is a timeout.
func (c *Conn) Starve(on bool) { c.in.starved = on }

// nothing is what a starved read finds.
type nothing struct{}

func (nothing) Error() string   { return "nothing at hand" }
func (nothing) Timeout() bool   { return true }
func (nothing) Temporary() bool { return true } // or TLS would be over

// Peek tells, without waiting and without reading, whether bytes have arrived
// (more) and whether the other side may still send (open).
func (c *Conn) Peek() (more, open bool) {
	c.peeked.mu.Lock()
	defer c.peeked.mu.Unlock()
	if err := c.raw.Control(c.peeked.call); err != nil {
		return false, false
	}
	switch {
	case c.peeked.n > 0:
		return true, true
	case c.peeked.errno == syscall.EAGAIN:
		return false, true
	}
	return false, false
}

// peek is a look at a socket.
type peek struct {
	call func(fd uintptr) // ready, bound once

	mu    sync.Mutex // guards:
	one   [1]byte
	n     int
	errno syscall.Errno
}

func (p *peek) ready(fd uintptr) { p.n, p.errno = recv(fd, p.one[:], syscall.MSG_PEEK) }

// input is the reading side, and what is held until it waits.
type input struct {
	conn *Conn
	call func(fd uintptr) bool // ready, bound once

	// held[left:] is to leave; done, if not nil, says that more may be held and is
	// owed a call. Owned by who reads.
	held []byte
	left int
	done func()
	// starved says that reads find nothing, without a look.
	starved bool

	mu sync.Mutex // held while reading; guards:
	// p or memory is where to read to; n and err are what came of it. blocked
	// says that the socket takes no more of what is held.
	p       []byte
	memory  Memory
	n       int
	err     error
	blocked bool
}

func (in *input) hold(p []byte) bool {
	if in.done == nil || len(in.held)+len(p) > cap(in.held) {
		return false
	}
	in.held = append(in.held, p...)
	return true
}

// errBlocked says that the other side took nothing until the deadline of writes. It
// is no timeout of the read that it ends.
var errBlocked = errors.New("what was held did not leave in time")

// release gives the memory of what was held back.
func (in *input) release() {
	if done := in.done; done != nil {
		in.held, in.done = nil, nil
		done()
	}
}

// flush sends what is held, waiting for the other side to take it.
func (in *input) flush() error {
	if in.done == nil {
		return nil
	}
	n, err := in.conn.out.write(in.conn.raw, in.held[in.left:])
	if in.left += n; err == nil {
		in.left = max(in.left, 1) // what follows leaves directly
		in.release()
	}
	return err
}

func (in *input) read(p []byte, m Memory) (int, error) {
	if in.starved {
		return 0, nothing{}
	}
	in.mu.Lock()
	defer in.mu.Unlock()
	in.p, in.memory = p, m
	for {
		in.n, in.err, in.blocked = 0, nil, false
		err := in.conn.raw.Read(in.call)
		if in.blocked {
			if err = in.flush(); err == nil {
				continue
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				err = errBlocked
			}
		}
		in.p, in.memory = nil, nil
		if err != nil {
			return 0, err
		}
		return in.n, in.err
	}
}

// ready is called with the socket, and again whenever that is readable, until it
// returns true. What becomes readable after the first call began is noticed, so
// that a request may leave in it and its answer be waited for.
func (in *input) ready(fd uintptr) bool {
	if in.done != nil {
		return in.depart(fd)
	}
	p := in.p
	if p == nil {
		p = in.memory.Lend()
	}
	n, errno := recv(fd, p, 0)
	if n > 0 {
		in.n = n
		return true
	}
	if in.p == nil {
		in.memory.TakeBack()
	}
	switch errno {
	case syscall.EAGAIN:
		return false
	case 0:
		in.err = io.EOF
	default:
		in.err = os.NewSyscallError("read", errno)
	}
	return true
}

// depart sends what is held and tells whether something went wrong.
func (in *input) depart(fd uintptr) bool {
	n, errno := send(fd, in.held[in.left:])
	in.left += max(0, n)
	switch {
	case in.left == len(in.held):
		in.release()
		return false
	case errno == 0, errno == syscall.EAGAIN:
		in.blocked = true
	default:
		in.err = os.NewSyscallError("write", errno)
	}
	return true
}

// output is the writing side.
type output struct {
	call func(fd uintptr) bool // ready, bound once

	mu sync.Mutex // held while writing; guards:
	// p is to be written, n of it was.
	p     []byte
	n     int
	errno syscall.Errno
}

func (out *output) write(raw syscall.RawConn, p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	out.mu.Lock()
	defer out.mu.Unlock()
	out.p, out.n, out.errno = p, 0, 0
	err := raw.Write(out.call)
	out.p = nil
	if err == nil && out.errno != 0 {
		err = os.NewSyscallError("write", out.errno)
	}
	return out.n, err
}

func (out *output) ready(fd uintptr) bool {
	for out.n < len(out.p) {
		n, errno := send(fd, out.p[out.n:])
		switch {
		case n > 0:
			out.n += n
		case errno == syscall.EAGAIN:
			return false
		case errno != 0:
			out.errno = errno
			return true
		}
	}
	return true
}
