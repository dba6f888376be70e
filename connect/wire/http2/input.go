package http2

import "github.com/serai-net/serai/connect/wire/socket"

// input is what a link reads through. It belongs to the reader.
type input struct {
	// in is nil while nothing has arrived that was not taken: a connection that
	// waits holds no memory for what may come.
	in   *buffer
	sock *socket.Conn // what is read, if it is a plain socket; else nil
	one  [1]byte
}

// Lend implements [socket.Memory].
func (l *link) Lend() []byte {
	in := l.buffer()
	return in.b[in.w:]
}

// TakeBack implements [socket.Memory].
func (l *link) TakeBack() { l.release() }

// buffer is the one that is read into.
func (l *link) buffer() *buffer {
	if l.in == nil {
		l.in = l.bounds.Buffers.get(true)
	}
	return l.in
}

// release gives the buffer back if nothing is in it.
func (l *link) release() {
	if l.in != nil && l.in.r == l.in.w {
		l.bounds.Buffers.put(l.in)
		l.in = nil
	}
}

// fill waits for more bytes. busy says that there are streams: then TLS keeps its
// buffer, since without one it takes two reads.
func (l *link) fill(busy bool) error {
	if l.sock != nil || !busy {
		l.release()
	} else if in := l.in; in != nil && in.r == in.w {
		in.r, in.w = 0, 0
	}
	if in := l.in; in != nil && len(in.b)-in.r < frameHead+maxFrame {
		in.w = copy(in.b, in.b[in.r:in.w])
		in.r = 0
	}
	n, err := l.receive()
	if n > 0 {
		return nil
	}
	return err
}

// receive reads once.
func (l *link) receive() (int, error) {
	if l.sock != nil {
		n, err := l.sock.Receive(l)
		if n > 0 {
			l.in.w += n
		}
		return n, err
	}
	if l.in == nil {
		// The first byte is waited for without a buffer. What came with it is at hand
		// in the layer below; if nothing did, there is no whole frame yet either.
		n, err := l.nc.Read(l.one[:])
		if n == 0 {
			return 0, err
		}
		in := l.buffer()
		in.b[0], in.w = l.one[0], 1
	}
	n, err := l.nc.Read(l.in.b[l.in.w:])
	l.in.w += n
	return n, err
}
