package http1_test

import (
	"bufio"
	"io"
	"net"
	"sync"
	"testing"

	"github.com/serai-net/serai/connect/wire"
)

// upstream is a raw server: each connection is handed to handle.
func upstream(t testing.TB, handle func(conn net.Conn, r *bufio.Reader)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	var mu sync.Mutex
	var conns []net.Conn
	wg.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			mu.Lock()
			conns = append(conns, conn)
			mu.Unlock()
			wg.Go(func() {
				defer conn.Close()
				handle(conn, bufio.NewReader(conn))
			})
		}
	})
	t.Cleanup(func() {
		l.Close()
		mu.Lock()
		for _, c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	})
	return l.Addr().String()
}

// stream is a body that is fed by a test.
type stream struct {
	wire.Body
	pieces  chan string
	err     error // after the last piece; nil means io.EOF
	trailer wire.Header
	closed  chan struct{}
	once    sync.Once
	rest    string
}

func newStream(pieces ...string) *stream {
	s := &stream{pieces: make(chan string, 100), closed: make(chan struct{})}
	for _, p := range pieces {
		s.pieces <- p
	}
	return s
}

func (s *stream) Read(p []byte) (int, error) {
	for s.rest == "" {
		select {
		case piece, ok := <-s.pieces:
			if !ok && s.err != nil {
				return 0, s.err
			}
			if !ok {
				return 0, io.EOF
			}
			s.rest = piece
		case <-s.closed:
			return 0, net.ErrClosed
		}
	}
	n := copy(p, s.rest)
	s.rest = s.rest[n:]
	return n, nil
}

func (s *stream) Trailer() *wire.Header { return &s.trailer }

func (s *stream) Close() error {
	s.once.Do(func() { close(s.closed) })
	return nil
}

// end ends the stream after what it was given.
func (s *stream) end() *stream {
	close(s.pieces)
	return s
}
