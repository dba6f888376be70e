package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
)

// memory is a connection that gives what it was made of, in pieces, and keeps
// what is written.
type memory struct {
	net.Conn
	in    []byte
	piece int // zero for all at once
	out   bytes.Buffer
}

func (m *memory) Read(p []byte) (int, error) {
	if len(m.in) == 0 {
		return 0, io.EOF
	}
	if m.piece > 0 {
		p = p[:min(m.piece, len(p))]
	}
	n := copy(p, m.in)
	m.in = m.in[n:]
	return n, nil
}

func (m *memory) Write(p []byte) (int, error)      { return m.out.Write(p) }
func (m *memory) Close() error                     { return nil }
func (m *memory) SetReadDeadline(time.Time) error  { return nil }
func (m *memory) SetWriteDeadline(time.Time) error { return nil }
func (m *memory) SetDeadline(time.Time) error      { return nil }

// received is a request as net/http reads it.
type received struct {
	Method, Target, Host string
	Header               map[string][]string
	Body                 string
	Trailer              map[string][]string
}

// read reads one request with net/http.
func read(r *bufio.Reader) (*received, error) {
	req, err := http.ReadRequest(r)
	if err != nil {
		return nil, err
	}
	if req.Proto != "HTTP/1.1" && req.Proto != "HTTP/1.0" {
		return nil, errors.New("version")
	}
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return nil, err
	}
	target := req.RequestURI
	if req.URL.Host != "" && req.Method != http.MethodConnect { // absolute form
		_, rest, _ := strings.Cut(target, "://")
		i := strings.IndexAny(rest, "/?")
		switch {
		case i >= 0 && rest[i] == '?':
			target = "/" + rest[i:]
		case i >= 0:
			target = rest[i:]
		case req.Method == http.MethodOptions:
			target = "*"
		default:
			target = "/"
		}
	}
	return &received{req.Method, target, req.Host, plain(req.Header), string(body), plain(req.Trailer)}, nil
}

// plain is h without what the connection keeps for itself and what Connection
// names; empty becomes nil.
func plain(h http.Header) map[string][]string {
	own := map[string]bool{
		"Connection": true, "Keep-Alive": true, "Proxy-Connection": true, "Te": true, "Transfer-Encoding": true,
		"Content-Length": true, "Upgrade": true, "Http2-Settings": true, "Expect": true, "Cache-Control": true,
	}
	named := strings.ToLower("," + strings.Join(h["Connection"], ",") + ",")
	named = strings.NewReplacer(" ", "", "\t", "").Replace(named)
	var m map[string][]string
	for name, values := range h {
		if own[name] || strings.Contains(named, ","+strings.ToLower(name)+",") {
			continue
		}
		if m == nil {
			m = map[string][]string{}
		}
		m[name] = values
	}
	return m
}

// trailerOf drops the trailers that are not forwarded.
func trailerOf(m map[string][]string) map[string][]string {
	for _, name := range []string{
		"Trailer", "Authorization", "Proxy-Authorization", "Cookie", "Set-Cookie", "Forwarded", "Via", "Max-Forwards",
		"Content-Type", "Content-Encoding", "Content-Range", "X-Real-Ip",
	} {
		delete(m, name)
	}
	for name, values := range m {
		if strings.HasPrefix(name, "X-Forwarded-") || values == nil {
			delete(m, name)
		}
	}
	if len(m) == 0 {
		return nil
	}
	return m
}

type whole struct {
	wire.Body
	trailer *wire.Header
}

func (w *whole) Trailer() *wire.Header { return w.trailer }
func (w *whole) Buffered() bool        { return true }

func compareRequests(t *testing.T, data []byte, forwarded [][]byte) {
	t.Helper()
	original := bufio.NewReaderSize(bytes.NewReader(data), 128<<10)
	for _, message := range forwarded {
		if blank, _ := original.Peek(2); string(blank) == "\r\n" {
			original.Discard(2)
		}
		want, err := read(original)
		if err != nil {
			t.Fatalf("net/http rejects (%v) what was forwarded as %q", err, message)
		}
		again := bufio.NewReader(bytes.NewReader(message))
		got, err := read(again)
		if err != nil {
			t.Fatalf("net/http rejects (%v) %q", err, message)
		}
		if rest, _ := io.ReadAll(again); len(rest) > 0 && !bytes.Contains(message, []byte("\r\nupgrade: ")) {
			t.Fatalf("forwarded as %q, of which %q is another message", message, rest)
		}
		for name := range want.Header {
			if strings.EqualFold(name, "trailer") { // net/http takes it away if it reads it
				delete(want.Header, name)
				delete(got.Header, name)
			}
		}
		got.Trailer, want.Trailer = trailerOf(got.Trailer), trailerOf(want.Trailer)
		if len(want.Header) == 0 {
			want.Header = nil
		}
		if len(got.Header) == 0 {
			got.Header = nil
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("forwarded as %q: %s", message, diff)
		}
	}
}

func empty(m map[string][]string) map[string][]string {
	if len(m) == 0 {
		return nil
	}
	return m
}

func asHeader(h *wire.Header) http.Header {
	header := http.Header{}
	for i := range h.Len() {
		header.Add(h.At(i).Name, strings.Clone(h.At(i).Value))
	}
	return header
}
