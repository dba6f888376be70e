package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// asker is how a request of FuzzForward looks.
type asker struct {
	method   string
	old      bool // HTTP/1.0, with keep-alive
	trailers bool // TE: trailers
}

func (c asker) request() string {
	version, fields := "1.1", ""
	if c.old {
		version, fields = "1.0", "Connection: keep-alive\r\n"
	}
	if c.trailers {
		fields += "TE: trailers\r\nConnection: TE\r\n"
	}
	return c.method + " / HTTP/" + version + "\r\nHost: a\r\n" + fields + "\r\n"
}

// response is one as net/http reads it, with the interim ones before it.
type response struct {
	Interim []int
	Status  int
	Header  map[string][]string
	Body    string
	Trailer map[string][]string
}

// readResponse reads one final response with net/http. bodyErr is what was wrong with its body.
func readResponse(r *bufio.Reader, method string) (got *response, length int64, bodyErr, err error) {
	got = &response{}
	for {
		resp, err := http.ReadResponse(r, &http.Request{Method: method})
		if err != nil {
			return nil, 0, nil, err
		}
		if resp.StatusCode < 200 && resp.StatusCode != http.StatusSwitchingProtocols {
			if resp.StatusCode != http.StatusContinue {
				got.Interim = append(got.Interim, resp.StatusCode)
			}
			continue
		}
		body, bodyErr := io.ReadAll(resp.Body)
		got.Status, got.Header, got.Body = resp.StatusCode, plain(resp.Header), string(body)
		got.Trailer = trailerOf(plain(resp.Trailer))
		// What net/http takes away if it reads it, and what a server adds.
		delete(got.Header, "Trailer")
		delete(got.Header, "Date")
		got.Header = empty(got.Header)
		return got, resp.ContentLength, bodyErr, nil
	}
}

// named are the fields that Connection names; net/http takes it away where it says close.
func named(data []byte) (names []string) {
	for line := range strings.Lines(string(data)) {
		name, value, _ := strings.Cut(strings.TrimRight(line, "\r\n"), ":")
		if strings.EqualFold(name, "connection") {
			for one := range strings.SplitSeq(value, ",") {
				names = append(names, strings.Trim(one, " \t"))
			}
		}
	}
	return names
}

// FuzzForward answers two requests of one connection with what an upstream sends, and reads what the client gets: it is
// the message that net/http reads from the upstream, no more and no less, and each begins where the one before has ended.
func FuzzForward(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\n\r\nabc", "HTTP/1.0 204 No\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n3;x=\"y\"\r\nabc\r\n0\r\nX-A: b\r\n\r\n",
		"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 100 \r\n\r\nHTTP/1.1 404 x\r\nConnection: close, x\r\nx: y\r\n\r\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nabc", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"HTTP/1.1 205 Reset\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nSet-Cookie: b\r\nDate: x\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 204 No\r\nContent-Length: 0\r\nTransfer-Encoding: chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabcHTTP/1.1 200 OK\r\n\r\n",
	} {
		for kind := range uint8(12) {
			f.Add([]byte(seed), kind%3, kind)
		}
	}
	buffers := poisoned()
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, data []byte, piece, kind uint8) {
		from := asker{method: []string{"GET", "HEAD", "OPTIONS"}[kind%3], old: kind/3%2 == 1, trailers: kind/6%2 == 1}
		var failed []error
		service := wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			up := &memory{in: bytes.Clone(data), piece: int(piece)}
			c := http1.NewClientConn(up, http1.ClientConfig{Buffers: buffers}, func(*http1.ClientConn, bool) {})
			resp, err := c.RoundTrip(x, x.NewAttempt("", time.Now()), req)
			failed = append(failed, err)
			return resp, err
		})
		server := http1.NewServer(http1.Config{Buffers: buffers}, func() wire.Service { return service }, log)
		down := &memory{in: []byte(strings.Repeat(from.request(), 2))}
		server.Serve(down, &wire.Peer{}, nil)
		if n := server.Stats.Panics.Load(); n > 0 {
			t.Fatal("panic")
		}
		out := bufio.NewReader(bytes.NewReader(down.out.Bytes()))
		whole := true
		for _, err := range failed {
			if !whole {
				t.Fatalf("a response after one without an end:\n%q", down.out.Bytes())
			}
			whole = checkForwarded(t, out, from, data, err)
		}
		if rest, _ := io.ReadAll(out); len(rest) > 0 {
			t.Fatalf("%q after %d responses:\n%q", rest, len(failed), down.out.Bytes())
		}
	})
}

// checkForwarded reads one response that a client got, and tells whether another one may follow.
func checkForwarded(t *testing.T, out *bufio.Reader, from asker, data []byte, failed error) (whole bool) {
	t.Helper()
	got, length, broken, err := readResponse(out, from.method)
	if err != nil {
		t.Fatalf("net/http rejects what the client gets: %v", err)
	}
	if failed != nil {
		if got.Status < 500 || broken != nil {
			t.Fatalf("the upstream's response was refused (%v), and the client got %+v, %v", failed, got, broken)
		}
		return true
	}
	want, _, wantBroken, err := readResponse(bufio.NewReaderSize(bytes.NewReader(data), 128<<10), from.method)
	if err != nil {
		t.Fatalf("net/http rejects what was forwarded as %+v: %v", got, err)
	}
	if from.old {
		want.Interim = nil
	}
	for _, name := range named(data) {
		delete(want.Header, http.CanonicalHeaderKey(name))
	}
	want.Header = empty(want.Header)
	if !from.trailers || got.Trailer == nil {
		want.Trailer, got.Trailer = nil, nil // they may be dropped
	}
	if wantBroken != nil && broken == nil && got.Status == http.StatusBadGateway && got.Body == "upstream response broke off\n" {
		return true // it was seen before the head had left
	}
	if broken != nil || wantBroken != nil {
		// HTTP/1.0 has no way to tell that a body without a length is not whole.
		if undetectable := from.old && length < 0; broken == nil && !undetectable {
			t.Fatalf("the upstream broke off (%v), and the client got a whole %+v", wantBroken, got)
		}
		if !strings.HasPrefix(want.Body, got.Body) {
			t.Fatalf("of %q the client got %q", want.Body, got.Body)
		}
		return false
	}
	if !slices.Equal(want.Interim, got.Interim) {
		t.Fatalf("interim responses %v came as %v", want.Interim, got.Interim)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatal(fmt.Sprintf("%+v: ", from), diff)
	}
	return true
}
