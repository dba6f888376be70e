package bulk

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/serai-net/serai/connect/wire/socket"
)

const (
	// pipeSize is asked for; the kernel may give less.
	pipeSize = 256 << 10
	// maxPipes bounds those that are kept for the next one.
	maxPipes = 64
	// spliceFlags: never wait in the kernel, move pages if that can be.
	spliceFlags = unix.SPLICE_F_NONBLOCK | unix.SPLICE_F_MOVE
)

// splicer moves bytes from socket to socket within the kernel, through a pipe that
// it has only while bytes move.
type splicer struct {
	buffers     *Buffers
	src, dst    syscall.RawConn
	fill, drain func(fd uintptr) bool // bound once

	pipe *kernelPipe
	n    int // bytes in pipe
	// results of fill and drain
	moved int
	err   error
}

// newSplicer returns nil if one of the two is no plain socket.
func newSplicer(dst, src net.Conn, buffers *Buffers) mover {
	s := &splicer{buffers: buffers, src: rawConn(src), dst: rawConn(dst)}
	if s.src == nil || s.dst == nil {
		return nil
	}
	s.fill, s.drain = s.fillFD, s.drainFD
	return s
}

// rawConn returns nil if conn is no plain socket.
func rawConn(conn net.Conn) syscall.RawConn {
	sock, ok := socket.New(conn).(*socket.Conn)
	if !ok {
		return nil
	}
	raw, err := sock.SyscallConn()
	if err != nil {
		return nil
	}
	return raw
}

func (s *splicer) take() (int, error) {
	s.moved, s.err = 0, nil
	if err := s.src.Read(s.fill); err != nil {
		return 0, err
	}
	s.n = s.moved
	return s.n, s.err
}

// fillFD reports whether it is done; otherwise it is called again when the socket
// is readable.
func (s *splicer) fillFD(fd uintptr) bool {
	if s.pipe == nil {
		if s.pipe = s.buffers.pipes.get(); s.pipe == nil {
			s.err = errNoSplice
			return true
		}
	}
	n, err := splice(int(fd), s.pipe.w)
	if n > 0 {
		s.moved = n
		return true
	}
	s.close()
	switch {
	case errors.Is(err, unix.EAGAIN):
		return false
	case errors.Is(err, unix.EINVAL), errors.Is(err, unix.ENOSYS), errors.Is(err, unix.EPERM):
		s.err = errNoSplice
	case err != nil:
		s.err = os.NewSyscallError("splice", err)
	default:
		s.err = io.EOF
	}
	return true
}

func (s *splicer) give() error {
	for s.n > 0 {
		s.moved, s.err = 0, nil
		err := s.dst.Write(s.drain)
		if err == nil {
			err = s.err
		}
		if err != nil {
			return err
		}
		s.n -= s.moved
	}
	return nil
}

func (s *splicer) drainFD(fd uintptr) bool {
	n, err := splice(s.pipe.r, int(fd))
	switch {
	case n > 0:
		s.moved = n
	case errors.Is(err, unix.EAGAIN):
		return false
	case err != nil:
		s.err = os.NewSyscallError("splice", err)
	default:
		s.err = io.ErrUnexpectedEOF // the pipe had bytes
	}
	return true
}

func (s *splicer) close() {
	if s.pipe == nil {
		return
	}
	if s.n > 0 { // what is in there must not come out elsewhere
		s.pipe.close()
	} else {
		s.buffers.pipes.put(s.pipe)
	}
	s.pipe, s.n = nil, 0
}

func splice(from, to int) (int, error) {
	for {
		n, err := unix.Splice(from, nil, to, nil, pipeSize, spliceFlags)
		if !errors.Is(err, unix.EINTR) {
			return int(n), err
		}
	}
}

// kernelPipe is a pipe of the kernel.
type kernelPipe struct{ r, w int }

func (p *kernelPipe) close() {
	unix.Close(p.r)
	unix.Close(p.w)
}

// pipes keeps some empty pipes.
type pipes struct {
	mu   sync.Mutex // guards:
	idle []*kernelPipe
}

// get returns nil if the system gives none.
func (p *pipes) get() *kernelPipe {
	p.mu.Lock()
	if last := len(p.idle) - 1; last >= 0 {
		k := p.idle[last]
		p.idle = p.idle[:last]
		p.mu.Unlock()
		return k
	}
	p.mu.Unlock()
	var fds [2]int
	if unix.Pipe2(fds[:], unix.O_CLOEXEC|unix.O_NONBLOCK) != nil {
		return nil
	}
	// Refused to a user with many pipes, who then has smaller ones.
	_, _ = unix.FcntlInt(uintptr(fds[1]), unix.F_SETPIPE_SZ, pipeSize)
	return &kernelPipe{fds[0], fds[1]}
}

func (p *pipes) put(k *kernelPipe) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.idle) >= maxPipes {
		k.close()
		return
	}
	p.idle = append(p.idle, k)
}
