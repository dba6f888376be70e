package socket_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire/socket"
)

// pair is a connection and its other end.
func pair(t *testing.T, network string) (*socket.Conn, net.Conn) {
	t.Helper()
	address := "127.0.0.1:0"
	if network == "unix" {
		address = t.TempDir() + "/s"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	far := make(chan net.Conn, 1)
	go func() {
		conn, err := l.Accept()
		if err != nil {
			close(far)
			return
		}
		far <- conn
	}()
	near, err := net.Dial(network, l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	other := <-far
	t.Cleanup(func() { near.Close(); other.Close() })
	for _, conn := range []net.Conn{near, other} {
		if err := conn.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
	}
	return socket.Of(socket.New(near)), other
}

// put writes all of text.
func put(t *testing.T, conn net.Conn, text string) {
	t.Helper()
	if n, err := conn.Write([]byte(text)); n != len(text) || err != nil {
		t.Errorf("write of %d bytes: %d, %v", len(text), n, err)
	}
}

// take reads as many bytes as want has.
func take(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	b := make([]byte, len(want))
	if _, err := io.ReadFull(conn, b); err != nil || string(b) != want {
		t.Errorf("read %q, %v, want %q", b, err, want)
	}
}

// memory counts how often it is lent.
type memory struct {
	b          []byte
	lent, back int
}

func (m *memory) Lend() []byte { m.lent++; return m.b }
func (m *memory) TakeBack()    { m.back++ }

func TestNew(t *testing.T) {
	near, _ := pair(t, "tcp")
	if socket.Of(tls.Client(near, nil)) != near || socket.Of(near) != near {
		t.Error("the socket below is not found")
	}
	pipe, _ := net.Pipe()
	if socket.New(pipe) != pipe || socket.Of(pipe) != nil || socket.New(near) != net.Conn(near) {
		t.Error("made a socket of what is none, or twice")
	}
}

func TestReceive(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		near, far := pair(t, network)
		m := &memory{b: make([]byte, 4)}
		put(t, far, "hello")
		n, err := near.Receive(m)
		if n != 4 || err != nil || string(m.b) != "hell" || m.lent != m.back+1 {
			t.Errorf("%s: %d %v %q, lent %d, back %d", network, n, err, m.b, m.lent, m.back)
		}
		far.Close()
		b, err := io.ReadAll(near)
		if string(b) != "o" || err != nil {
			t.Errorf("%s: %q %v", network, b, err)
		}
		if n, err := near.Receive(m); n != 0 || !errors.Is(err, io.EOF) || m.lent != m.back+1 {
			t.Errorf("%s: at the end %d %v, lent %d, back %d", network, n, err, m.lent, m.back)
		}
	}
}

// A connection that waits holds no memory.
func TestReceiveWaitsWithout(t *testing.T) {
	near, _ := pair(t, "tcp")
	if err := near.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	m := &memory{b: make([]byte, 4)}
	if n, err := near.Receive(m); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) || m.lent != m.back {
		t.Errorf("%d %v, lent %d, back %d", n, err, m.lent, m.back)
	}
}

func TestWrite(t *testing.T) {
	near, far := pair(t, "tcp")
	sent := bytes.Repeat([]byte("0123456789abcdef"), 1<<18) // more than the socket takes at once
	go func() {
		put(t, near, string(sent))
		if err := near.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(far)
	if err != nil || !bytes.Equal(got, sent) {
		t.Errorf("%d bytes of %d: %v", len(got), len(sent), err)
	}
	near.Close()
	if _, err := near.Write(sent); !errors.Is(err, net.ErrClosed) {
		t.Error(err)
	}
}

func TestWriteDeadline(t *testing.T) {
	near, _ := pair(t, "tcp")
	if err := near.SetWriteDeadline(time.Now().Add(200 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	n, err := near.Write(make([]byte, 64<<20))
	if n == 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d %v", n, err)
	}
}

// What is held leaves with the next read, and not before.
func TestHold(t *testing.T) {
	near, far := pair(t, "tcp")
	done := 0
	near.Hold(make([]byte, 8), func() { done++ })
	put(t, near, "as")
	put(t, near, "king")
	if more, open := socket.Of(socket.New(far)).Peek(); more || !open || done != 0 {
		t.Fatal("left too early")
	}
	go func() {
		take(t, far, "asking")
		put(t, far, "answered")
	}()
	b := make([]byte, 16)
	n, err := near.Read(b)
	if string(b[:n]) != "answered" || err != nil || done != 1 || !near.Drop() {
		t.Errorf("%q %v, done %d", b[:n], err, done)
	}
	put(t, near, "again")
	take(t, far, "again")
}

// What does not fit leaves at once, in order.
func TestHoldOverflow(t *testing.T) {
	near, far := pair(t, "tcp")
	done := 0
	near.Hold(make([]byte, 4), func() { done++ })
	put(t, near, "abc")
	put(t, near, "defg")
	if take(t, far, "abcdefg"); done != 1 {
		t.Errorf("done %d times", done)
	}
}

// What has left past the memory has left, too: nobody may send it again.
func TestHoldTooLarge(t *testing.T) {
	near, far := pair(t, "tcp")
	done := 0
	near.Hold(make([]byte, 4), func() { done++ })
	put(t, near, "abcdefgh")
	take(t, far, "abcdefgh")
	if !near.Drop() || done != 1 {
		t.Errorf("it has left and is not told so; done %d times", done)
	}
}

// A request that cannot leave in time ends the read, and not as a timeout of its own.
func TestHoldStuck(t *testing.T) {
	near, _ := pair(t, "tcp")
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	fill(t, raw)
	if err := near.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	near.Hold(make([]byte, 8), func() {})
	put(t, near, "question")
	if n, err := near.Read(make([]byte, 8)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("%d %v", n, err)
	}
	if near.Drop() {
		t.Error("it has left")
	}
}

// What the socket has no room for leaves when it has.
func TestHoldBlocked(t *testing.T) {
	near, far := pair(t, "tcp")
	raw, err := near.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	filled := fill(t, raw)
	near.Hold(make([]byte, 8), func() {})
	put(t, near, "question")
	go func() {
		if _, err := io.CopyN(io.Discard, far, int64(filled)); err != nil {
			t.Error(err)
		}
		take(t, far, "question")
		put(t, far, "the end")
	}()
	b := make([]byte, 8)
	if n, err := near.Read(b); err != nil || string(b[:n]) != "the end" {
		t.Errorf("%q %v", b[:n], err)
	}
}

func TestDrop(t *testing.T) {
	near, far := pair(t, "tcp")
	done := 0
	near.Hold(make([]byte, 8), func() { done++ })
	put(t, near, "lost")
	if near.Drop() || done != 1 {
		t.Error("left, or the memory was not given back")
	}
	if err := near.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(far); len(b) > 0 || err != nil {
		t.Errorf("%q %v", b, err)
	}
}

func TestPeek(t *testing.T) {
	near, far := pair(t, "tcp")
	if more, open := near.Peek(); more || !open {
		t.Error("empty", more, open)
	}
	put(t, far, "x")
	until(t, func() bool { more, open := near.Peek(); return more && open })
	take(t, near, "x")
	far.Close()
	until(t, func() bool { more, open := near.Peek(); return !more && !open })
	near.Close()
	if _, open := near.Peek(); open {
		t.Error("closed, but open")
	}
}

// A layer above is starved: it gives what it has and then times out, and lives on.
// Left tells when the other side has gone, whatever it has sent before, and takes nothing
// of that.
func TestLeft(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		for _, halves := range []bool{false, true} {
			near, far := pair(t, network)
			left := make(chan bool, 1)
			look := func() { go func() { left <- socket.Left(near, halves) }() }
			look()
			put(t, far, "word")
			if halves {
				if half, ok := far.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
					t.Fatal("it has no halves")
				}
				if err := near.SetReadDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
					t.Fatal(err)
				}
				if <-left {
					t.Errorf("%s: who has ended one direction has left", network)
				}
				if err := near.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
					t.Fatal(err)
				}
				take(t, near, "word")
				look()
			} else {
				far.Close()
			}
			if !<-left {
				t.Errorf("%s, halves %t: it has not left", network, halves)
			}
			if !halves {
				take(t, near, "word")
			}
		}
	}
}

func TestStarve(t *testing.T) {
	near, far := pair(t, "tcp")
	put(t, far, "x")
	near.Starve(true)
	var timeout net.Error
	if n, err := near.Read(make([]byte, 1)); n != 0 || !errors.As(err, &timeout) || !timeout.Timeout() {
		t.Error(n, err)
	}
	near.Starve(false)
	take(t, near, "x")
}

func until(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); runtime.Gosched() {
		if time.Now().After(end) {
			t.Fatal("never so")
		}
	}
}
