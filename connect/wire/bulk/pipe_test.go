package bulk_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire/bulk"
)

// end is how one side of a relay is reached.
type end struct {
	network string
	version uint16 // of TLS; 0 for none
	bare    bool   // TLS without a Conn below
	wrapped bool   // nobody can see that it is a socket
}

// wrapped is a connection that may do more than its socket.
type wrapped struct{ net.Conn }

func (e end) String() string {
	return fmt.Sprintf("%s %s bare=%t", e.network, tls.VersionName(e.version), e.bare)
}

// connect returns the relay's end of a connection and the far one.
func (e end) connect(tb testing.TB, buffers *bulk.Buffers) (ours, theirs net.Conn) {
	tb.Helper()
	ours, theirs = pair(tb, e.network)
	if e.version == 0 {
		if e.wrapped {
			ours = wrapped{ours}
		}
		return ours, theirs
	}
	server, client := configs(tb, e.version)
	if !e.bare {
		ours = bulk.Under(ours, buffers)
	}
	secured, far := tls.Server(ours, server), tls.Client(theirs, client)
	var both sync.WaitGroup
	both.Go(func() {
		if err := secured.Handshake(); err != nil {
			tb.Error(err)
		}
	})
	if err := far.Handshake(); err != nil {
		tb.Error(err)
	}
	both.Wait()
	return secured, far
}

// move moves bytes until the source ends, and passes the end on.
func move(dst net.Conn, p *bulk.Pipe) error {
	defer p.Close()
	for {
		n, err := p.Take()
		switch {
		case errors.Is(err, io.EOF):
			if half, ok := dst.(interface{ CloseWrite() error }); ok {
				return half.CloseWrite()
			}
			return dst.Close()
		case err != nil:
			return err
		case n <= 0:
			return fmt.Errorf("took %d without an error", n)
		}
		if err := p.Give(); err != nil {
			return err
		}
	}
}

// relay joins two connections and returns their far ends.
func relay(tb testing.TB, one, other end, buffers *bulk.Buffers) (a, b net.Conn) {
	tb.Helper()
	left, a := one.connect(tb, buffers)
	right, b := other.connect(tb, buffers)
	var moving sync.WaitGroup
	for _, conns := range [][2]net.Conn{{left, right}, {right, left}} {
		moving.Go(func() {
			if err := move(conns[0], bulk.NewPipe(conns[0], conns[1], buffers)); err != nil && !errors.Is(err, net.ErrClosed) {
				tb.Error(err)
			}
		})
	}
	tb.Cleanup(func() {
		left.Close()
		right.Close()
		moving.Wait()
	})
	return a, b
}

func random(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return b
}

// write writes b in pieces of random sizes.
func write(w io.Writer, b []byte) error {
	for len(b) > 0 {
		n := min(len(b), 1+rand.IntN(1<<rand.IntN(20)))
		if _, err := w.Write(b[:n]); err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// ends are all kinds of ends.
func ends() []end {
	return []end{
		{network: "tcp"},
		{network: "unix"},
		{network: "tcp", version: tls.VersionTLS13},
		{network: "tcp", version: tls.VersionTLS12},
		{network: "unix", version: tls.VersionTLS13, bare: true},
	}
}

// What goes in comes out, both ways at once, whatever lies on the two sides, and
// so does each end.
func TestPipe(t *testing.T) {
	t.Parallel()
	buffers := &bulk.Buffers{}
	for _, one := range ends() {
		for _, other := range ends() {
			t.Run(one.String()+" to "+other.String(), func(t *testing.T) {
				t.Parallel()
				a, b := relay(t, one, other, buffers)
				talk(t, a, b)
				var all sync.WaitGroup
				for _, conns := range [][2]net.Conn{{a, b}, {b, a}} {
					sent := random(1 << 20)
					all.Go(func() {
						if err := write(conns[0], sent); err != nil {
							t.Error(err)
						}
						half, ok := conns[0].(interface{ CloseWrite() error })
						if !ok || half.CloseWrite() != nil {
							t.Errorf("%T: the end is not passed on", conns[0])
						}
					})
					all.Go(func() {
						if got, err := io.ReadAll(conns[1]); err != nil || !bytes.Equal(got, sent) {
							t.Errorf("%d bytes, %v", len(got), err)
						}
					})
				}
				all.Wait()
			})
		}
	}
}

// talk asks and answers, so that nothing may be held back.
func talk(t *testing.T, a, b net.Conn) {
	t.Helper()
	for _, size := range []int{1, 2, 100, 16384, 16385, 40000, 3, 100000, 5} {
		message := random(size)
		for _, conns := range [][2]net.Conn{{a, b}, {b, a}} {
			var writing sync.WaitGroup
			writing.Go(func() {
				if _, err := conns[0].Write(message); err != nil {
					t.Error(err)
				}
			})
			got := make([]byte, size)
			if _, err := io.ReadFull(conns[1], got); err != nil || !bytes.Equal(got, message) {
				t.Fatalf("%d bytes: %v", size, err)
			}
			writing.Wait()
		}
	}
}

// A deadline of the source loses nothing, wherever it falls.
func TestDeadline(t *testing.T) {
	t.Parallel()
	for _, one := range ends() {
		t.Run(one.String(), func(t *testing.T) {
			t.Parallel()
			buffers := &bulk.Buffers{}
			src, far := one.connect(t, buffers)
			dst, out := pair(t, "tcp")
			sent := random(1 << 20)
			go func() {
				defer far.Close()
				if err := write(far, sent); err != nil {
					t.Error(err)
				}
			}()
			go func() {
				defer dst.Close()
				p := bulk.NewPipe(dst, src, buffers)
				defer p.Close()
				for {
					if err := src.SetReadDeadline(time.Now().Add(time.Duration(rand.IntN(200)) * time.Microsecond)); err != nil {
						t.Error(err)
					}
					_, err := p.Take()
					if errors.Is(err, os.ErrDeadlineExceeded) {
						continue
					}
					if err == nil {
						err = p.Give()
					}
					if err != nil {
						if !errors.Is(err, io.EOF) {
							t.Error(err)
						}
						return
					}
				}
			}()
			if got, err := io.ReadAll(out); err != nil || !bytes.Equal(got, sent) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
}

// Much is spliced, little is not.
func TestSplice(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("there is no splice")
	}
	buffers := &bulk.Buffers{}
	src, far := pair(t, "tcp")
	dst, out := pair(t, "tcp")
	p := bulk.NewPipe(dst, src, buffers)
	pass := func(size int) {
		t.Helper()
		sent := random(size)
		var writing sync.WaitGroup
		writing.Go(func() {
			if _, err := far.Write(sent); err != nil {
				t.Error(err)
			}
		})
		writing.Go(func() {
			for left := size; left > 0; {
				n, err := p.Take()
				if err == nil {
					err = p.Give()
				}
				if err != nil {
					t.Error(err)
					return
				}
				left -= n
			}
		})
		got := make([]byte, size)
		if _, err := io.ReadFull(out, got); err != nil || !bytes.Equal(got, sent) {
			t.Error(err)
		}
		writing.Wait()
	}
	pass(10)
	if p.Splices() {
		t.Error("10 bytes are spliced")
	}
	pass(64 << 10)
	pass(64 << 10)
	if !p.Splices() {
		t.Error("64 KiB are not spliced")
	}
	pass(10)
	pass(10)
	if p.Splices() {
		t.Error("10 bytes are spliced again")
	}
	// An end that wraps a socket is one.
	if bulk.NewPipe(wrapped{dst}, src, buffers).Splices() {
		t.Error("spliced past a wrapper that may do more")
	}
}
