package bulk

import (
	"errors"
	"net"

	"github.com/serai-net/serai/connect/wire/socket"
)

// Pipe is one direction between two connections. It belongs to one goroutine, as
// do the reading side of its source and the writing side of its destination.
// Deadlines of both hold; after that of the source has passed, Take may be called
// again.
//
//	for err == nil {
//		if n, err = p.Take(); err == nil {
//			err = p.Give()
//		}
//	}
type Pipe struct {
	// now is one of the other two: copier always works, splicer is for many bytes
	// and nil where it cannot be.
	now, copier, splicer mover
	last                 int // how much was taken last
}

// mover is how bytes move.
type mover interface {
	// take waits for bytes and holds them; n is their number, which is above 0 if
	// err is nil. It is called when all that was held has been given.
	take() (n int, err error)
	// give writes what is held.
	give() error
	// close gives back what is held of memory and system resources.
	close()
}

// NewPipe returns a Pipe from src to dst. It owns neither. TLS connections should
// have a [Conn] below.
func NewPipe(dst, src net.Conn, buffers *Buffers) *Pipe {
	dst, src = socket.New(Bare(dst)), socket.New(Bare(src))
	c := newCopier(dst, src, buffers)
	return &Pipe{now: c, copier: c, splicer: newSplicer(dst, src, buffers)}
}

// Take waits for bytes of the source and returns their number; io.EOF is the end of
// this direction. It is called when all that was taken before has been given.
func (p *Pipe) Take() (int, error) {
	p.choose()
	n, err := p.now.take()
	if errors.Is(err, errNoSplice) {
		p.splicer, p.now = nil, p.copier
		n, err = p.now.take()
	}
	p.last = n
	return n, err
}

// choose splices while there is much to move. Of little a copy is cheaper.
func (p *Pipe) choose() {
	switch {
	case p.splicer == nil:
	case p.now == p.copier && p.last >= small:
		p.copier.close()
		p.now = p.splicer
	case p.now == p.splicer && p.last < small/2:
		p.splicer.close()
		p.now = p.copier
	}
}

// Give writes all that was taken to the destination.
func (p *Pipe) Give() error { return p.now.give() }

// Splices tells whether bytes go past us at this time.
func (p *Pipe) Splices() bool { return p.splicer != nil && p.now == p.splicer }

// Close gives back what the Pipe holds; it does not close the connections.
func (p *Pipe) Close() { p.now.close() }

// Plain is what a net.Conn implements that adds nothing to reads and writes of
// another one, so that these may be done there.
type Plain interface {
	// PlainConn returns the other one.
	PlainConn() net.Conn
}

// Bare is conn without what is [Plain] around it.
func Bare(conn net.Conn) net.Conn {
	for {
		p, ok := conn.(Plain)
		if !ok {
			return conn
		}
		conn = p.PlainConn()
	}
}

// errNoSplice is why a splicer cannot be, after all. It has taken nothing.
var errNoSplice = errors.New("splice is not possible")
