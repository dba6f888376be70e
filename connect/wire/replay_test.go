package wire_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
)

// source is a body that gives parts, one for each Read, then err.
type source struct {
	parts   []string
	err     error
	reads   int
	closed  int
	trailer *wire.Header
}

func (s *source) Read(p []byte) (int, error) {
	s.reads++
	if len(s.parts) == 0 {
		return 0, s.err
	}
	n := copy(p, s.parts[0])
	if s.parts[0] = s.parts[0][n:]; s.parts[0] == "" {
		s.parts = s.parts[1:]
	}
	return n, nil
}

func (s *source) Trailer() *wire.Header { return s.trailer }
func (s *source) Close() error          { s.closed++; return nil }

// pipe is a body whose Read waits for what is sent.
type pipe struct {
	in     chan string // closed: io.EOF
	closed chan struct{}
	once   sync.Once
}

func newPipe() *pipe { return &pipe{in: make(chan string), closed: make(chan struct{})} }

func (p *pipe) Read(b []byte) (int, error) {
	select {
	case s, ok := <-p.in:
		if !ok {
			return 0, io.EOF
		}
		return copy(b, s), nil
	case <-p.closed:
		return 0, errors.New("closed")
	}
}

func (p *pipe) Trailer() *wire.Header { return nil }

func (p *pipe) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

// readN reads n bytes.
func readN(t *testing.T, body wire.Body, n int) string {
	t.Helper()
	b := make([]byte, n)
	if _, err := io.ReadFull(body, b); err != nil {
		t.Fatalf("read of %d bytes: %v", n, err)
	}
	return string(b)
}

// readAll reads to the end.
func readAll(t *testing.T, body wire.Body) string {
	t.Helper()
	b, err := io.ReadAll(body)
	if err != nil {
		t.Fatalf("read to the end: %v", err)
	}
	return string(b)
}

func replay(t *testing.T, body wire.Body, limit int) *wire.Replay {
	t.Helper()
	r, owner := wire.NewReplay(body, limit)
	if !owner {
		t.Fatal("not the owner")
	}
	return r
}

func TestReplay(t *testing.T) {
	t.Parallel()
	r := replay(t, &source{parts: []string{"abc", "def", "ghi"}, err: io.EOF}, 0)
	first := r.Try()
	if got := readN(t, first, 4); got != "abcd" {
		t.Errorf("first: %q", got)
	}
	second := r.Try()
	if got := readN(t, second, 1); got != "a" {
		t.Errorf("second: %q", got)
	}
	if n, err := first.Read(make([]byte, 9)); n != 0 || err == nil {
		t.Errorf("a try that is over reads: %d, %v", n, err)
	}
	if got := readAll(t, second); got != "bcdefghi" {
		t.Errorf("second: %q", got)
	}
	if got := readAll(t, second); got != "" {
		t.Errorf("after the end: %q", got)
	}
	if got := readAll(t, r.Try()); got != "abcdefghi" {
		t.Errorf("third: %q", got)
	}
}

func TestReplayLimit(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		limit int
		read  int // of 10 bytes
		again bool
	}{
		{"nothing read", 4, 0, true},
		{"less than the limit", 4, 3, true},
		{"the limit", 4, 4, true},
		{"more than the limit", 4, 5, false},
		{"default", 0, 10, true},
		{"negative is the default", -1, 10, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			s := &source{parts: strings.Split("0123456789", ""), err: io.EOF}
			r := replay(t, s, tt.limit)
			body := r.Try()
			got := readN(t, body, tt.read)
			again := r.Try()
			if (again != nil) != tt.again {
				t.Fatalf("another try after %d bytes: %v", tt.read, again != nil)
			}
			if again != nil {
				if got := readAll(t, again); got != "0123456789" {
					t.Errorf("again: %q", got)
				}
				return
			}
			if got += readAll(t, body); got != "0123456789" {
				t.Errorf("the body that cannot be replayed: %q", got)
			}
			if s.closed != 0 {
				t.Error("the source was closed")
			}
		})
	}
}

func TestReplaySettle(t *testing.T) {
	t.Parallel()
	r := replay(t, &source{parts: strings.Split("0123456789", ""), err: io.EOF}, 0)
	readN(t, r.Try(), 6)
	body := r.Try()
	got := readN(t, body, 3)
	r.Settle()
	if got += readAll(t, body); got != "0123456789" {
		t.Errorf("got %q", got)
	}
	if r.Try() != nil {
		t.Error("another try, but nothing was kept after Settle")
	}
}

func TestReplayEmpty(t *testing.T) {
	t.Parallel()
	if r, owner := wire.NewReplay(nil, 0); r != nil || owner {
		t.Error("a replay of no body")
	}
	r := replay(t, &source{err: io.EOF}, 0)
	for range 3 {
		if got := readAll(t, r.Try()); got != "" {
			t.Errorf("got %q", got)
		}
	}
}

func TestReplayError(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken")
	s := &source{parts: []string{"abc"}, err: broken}
	r := replay(t, s, 0)
	for range 3 {
		body := r.Try()
		got := readN(t, body, 3)
		if _, err := body.Read(make([]byte, 1)); !errors.Is(err, broken) || got != "abc" {
			t.Errorf("%q, %v", got, err)
		}
	}
	if s.reads != 2 {
		t.Errorf("%d reads: a source that has ended was read again", s.reads)
	}
}

func TestReplayOfReplay(t *testing.T) {
	t.Parallel()
	r := replay(t, &source{parts: []string{"abc"}, err: io.EOF}, 0)
	body := r.Try()
	inner, owner := wire.NewReplay(body, 1)
	if inner != r || owner {
		t.Error("a second buffer around the first")
	}
	readN(t, body, 3)
	if got := readAll(t, inner.Try()); got != "abc" {
		t.Errorf("got %q", got)
	}
}

func TestReplayBuffered(t *testing.T) {
	t.Parallel()
	type atHand interface{ AtHand() bool }
	r := replay(t, &source{parts: []string{"abc"}, err: io.EOF}, 0)
	body := r.Try()
	check := func(when string, whole, some bool) {
		t.Helper()
		if got := wire.BodyBuffered(body); got != whole {
			t.Errorf("%s: buffered %v", when, got)
		}
		if a, ok := body.(atHand); !ok || a.AtHand() != some {
			t.Errorf("%s: at hand %v", when, !some)
		}
	}
	check("before", false, false)
	readN(t, body, 2)
	body = r.Try()
	check("again", false, true)
	readAll(t, body)
	check("after", true, true)
	body = r.Try()
	check("after, again", true, true)

	memory := replay(t, wire.NewBytes([]byte("abc")), 0)
	body = memory.Try()
	check("in memory", true, true)
}

func TestReplayTrailer(t *testing.T) {
	t.Parallel()
	trailer := header("x: 1")
	r := replay(t, &source{err: io.EOF, trailer: &trailer}, 0)
	for range 2 {
		body := r.Try()
		readAll(t, body)
		if got := body.Trailer(); got.Get("x") != "1" {
			t.Errorf("trailer %v", got)
		}
	}
}

func TestReplayClose(t *testing.T) {
	t.Parallel()
	s := &source{parts: []string{"abc", "def"}, err: io.EOF}
	r := replay(t, s, 0)
	first := r.Try()
	readN(t, first, 3)
	for range 2 {
		if err := first.Close(); err != nil || s.closed != 0 {
			t.Errorf("close of a try: %v, source closed %d times", err, s.closed)
		}
	}
	if _, err := first.Read(make([]byte, 1)); err == nil {
		t.Error("a closed try reads")
	}
	last := r.Try()
	readN(t, last, 1)
	first.Close()
	r.Settle()
	readN(t, last, 1)
	last.Close()
	last.Close()
	if s.closed != 1 {
		t.Errorf("the last try was closed, the source %d times", s.closed)
	}
}

// A try that is over may still be reading: what it gets is the next one's.
func TestReplayStaleReader(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		r := replay(t, p, 3)
		first := r.Try()
		stale := make(chan error, 1)
		go func() {
			_, err := io.ReadAll(first)
			stale <- err
		}()
		p.in <- "ab"
		synctest.Wait()
		second := r.Try()
		if second == nil {
			t.Fatal("no second try")
		}
		if wire.BodyBuffered(second) {
			t.Error("buffered, though somebody waits for more")
		}
		got := make(chan string, 1)
		go func() { got <- readAll(t, second) }()
		synctest.Wait()
		p.in <- "cd" // read by the first, and past the limit
		if err := <-stale; err == nil {
			t.Error("the first try ended well")
		}
		p.in <- "ef"
		close(p.in)
		if got := <-got; got != "abcdef" {
			t.Errorf("got %q", got)
		}
	})
}

// A try that waits for one that is over is woken when it is closed itself.
func TestReplayCloseWakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := newPipe()
		r := replay(t, p, 0)
		results := make(chan error, 2)
		read := func(body wire.Body) {
			_, err := body.Read(make([]byte, 1))
			results <- err
		}
		go read(r.Try())
		synctest.Wait()
		second := r.Try()
		go read(second)
		synctest.Wait()
		second.Close()
		if err := <-results; err == nil {
			t.Error("the closed one read something")
		}
		third := r.Try()
		r.Settle()
		go read(third)
		synctest.Wait()
		third.Close()
		for range 2 {
			if err := <-results; err == nil {
				t.Error("one that is over read something")
			}
		}
	})
}

// A source that panics must not leave a lock behind.
func TestReplayPanic(t *testing.T) {
	t.Parallel()
	r := replay(t, panicking{}, 0)
	for range 2 {
		body := r.Try()
		func() {
			defer func() {
				if recover() == nil {
					t.Error("no panic")
				}
			}()
			body.Read(nil) //nolint:errcheck // panics
		}()
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error) { panic("source") }
func (panicking) Trailer() *wire.Header    { return nil }
func (panicking) Close() error             { return nil }

// FuzzReplay reads a body through tries that stop anywhere.
func FuzzReplay(f *testing.F) {
	f.Add([]byte("hello, world"), []byte{3, 5, 0, 12}, 8)
	f.Add(bytes.Repeat([]byte("x"), 300), []byte{255, 1}, 0)
	f.Fuzz(func(t *testing.T, data, stops []byte, limit int) {
		var parts []string
		for i := 0; i < len(data); i += 7 {
			parts = append(parts, string(data[i:min(i+7, len(data))]))
		}
		r := replay(t, &source{parts: parts, err: io.EOF}, limit)
		body, most := r.Try(), 0
		for _, stop := range stops {
			n := min(int(stop), len(data))
			got := readN(t, body, n)
			if got != string(data[:n]) {
				t.Fatalf("got %q, want %q", got, data[:n])
			}
			most = max(most, n)
			again := r.Try()
			if again == nil {
				if limit <= 0 || most <= limit {
					t.Fatalf("no other try after %d bytes, limit %d", most, limit)
				}
				if diff := cmp.Diff(string(data[n:]), readAll(t, body)); diff != "" {
					t.Fatalf("the rest: -want +got:\n%s", diff)
				}
				return
			}
			body = again
		}
		if diff := cmp.Diff(string(data), readAll(t, body)); diff != "" {
			t.Fatalf("the end: -want +got:\n%s", diff)
		}
	})
}
