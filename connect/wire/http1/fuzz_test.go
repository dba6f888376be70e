package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/http/httputil"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// FuzzRequest relays what a client sends and compares with net/http: we accept
// no request that it rejects, and what we forward is the message that it reads.
func FuzzRequest(f *testing.F) {
	for _, seed := range []string{
		get("/a?b"), "GET http://a:80/x HTTP/1.1\r\nHost: b\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: b\r\n\r\n",
		"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HEAD / HTTP/1.1\r\nHost: [::1]:1\r\nConnection: a, close\r\nA: b\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\nX-Y:  z\t\r\n\r\nabc" + get("/next"),
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTE: trailers\r\n\r\n3;x=y\r\nabc\r\n0\r\nA: b\r\n\r\n" + get("/next"),
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\nContent-Length: 4\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: Trailer\r\n\r\n0\r\n\r\n",
		"POST / HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\na\r\n" + get("/next"),
		"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"GET / HTTP/1.1\nHost: a\n\n", "GET / HTTP/1.1\r\nHost: a\r\n b\r\n\r\n", "GET / HTTP/1.1\r\nHost : a\r\n\r\n",
	} {
		f.Add([]byte(seed), uint8(0))
		f.Add([]byte(seed), uint8(1))
	}
	buffers := poisoned()
	log := slog.New(slog.DiscardHandler)
	f.Fuzz(func(t *testing.T, data []byte, piece uint8) {
		var forwarded [][]byte
		service := wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			// What is wrong with the body shows before the request is forwarded.
			if req.Body != nil && req.Upgrade == "" {
				body, err := io.ReadAll(req.Body)
				if err != nil {
					return nil, err
				}
				req.Body = &whole{Body: wire.NewBytes(body), trailer: req.Body.Trailer()}
			}
			up := &memory{in: []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")}
			c := http1.NewClientConn(up, http1.ClientConfig{Buffers: buffers}, func(*http1.ClientConn, bool) {})
			req.ExpectContinue = false
			resp, err := c.RoundTrip(x, x.NewAttempt("", time.Now()), req)
			if err != nil {
				t.Fatalf("forward: %v", err)
			}
			forwarded = append(forwarded, bytes.Clone(up.out.Bytes()))
			return resp, nil
		})
		server := http1.NewServer(http1.Config{Buffers: buffers}, func() wire.Service { return service }, log)
		server.Serve(&memory{in: bytes.Clone(data), piece: int(piece)}, &wire.Peer{}, nil)
		if n := server.Stats.Panics.Load(); n > 0 {
			t.Fatal("panic")
		}
		compareRequests(t, data, forwarded)
	})
}

// FuzzResponse reads a response and compares with net/http: we accept none that
// it rejects, and read the same.
func FuzzResponse(f *testing.F) {
	for _, seed := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 200\r\n\r\nabc", "HTTP/1.0 204 No\r\nConnection: keep-alive\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-A\r\n\r\n3\r\nabc\r\n0\r\nX-A: b\r\n\r\n",
		"HTTP/1.1 103 Hints\r\nLink: a\r\n\r\nHTTP/1.1 304 Not\r\nContent-Length: 9\r\n\r\n",
		"HTTP/1.1 100 \r\n\r\nHTTP/1.1 404 x\r\nConnection: close, x\r\nx: y\r\n\r\nabc",
		"HTTP/1.1 101 x\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nabc", "HTTP/1.1 200 OK\nContent-Length: 3\n\nabc",
		"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
	} {
		f.Add([]byte(seed), uint8(0), false)
		f.Add([]byte(seed), uint8(1), true)
	}
	buffers := poisoned()
	f.Fuzz(func(t *testing.T, data []byte, piece uint8, head bool) {
		method := http.MethodGet
		if head {
			method = http.MethodHead
		}
		var x wire.Exchange
		x.Reset(nil, &wire.Peer{}, time.Now())
		releases, reusable := 0, false
		c := http1.NewClientConn(&memory{in: bytes.Clone(data), piece: int(piece)}, http1.ClientConfig{Buffers: buffers},
			func(_ *http1.ClientConn, again bool) { releases, reusable = releases+1, again })
		resp, err := c.RoundTrip(&x, x.NewAttempt("", time.Now()), simple(method))
		var body []byte
		var trailer map[string][]string
		if err == nil && resp.Body != nil {
			body, err = io.ReadAll(resp.Body)
			trailer = trailerOf(plain(asHeader(resp.Body.Trailer())))
		}
		if releases != 1 {
			t.Fatalf("released %d times", releases)
		}
		if err != nil {
			if wire.AsFault(err).Flag == wire.FlagInternal {
				t.Fatal(err)
			}
			x.Done(time.Now())
			return
		}
		br := bufio.NewReaderSize(bytes.NewReader(data), 128<<10)
		var want *http.Response
		for {
			if want, err = http.ReadResponse(br, &http.Request{Method: method}); err != nil {
				t.Fatalf("net/http rejects: %v", err)
			}
			if want.StatusCode >= 200 || want.StatusCode == 101 {
				break
			}
		}
		wantBody, err := io.ReadAll(want.Body)
		if err != nil {
			t.Fatalf("net/http rejects the body: %v", err)
		}
		wantHeader := plain(want.Header)
		delete(wantHeader, "Host")
		gotHeader := plain(asHeader(&resp.Header))
		if len(want.Trailer) > 0 || want.Header.Get("Trailer") == "" { // net/http takes it away if it reads it
			delete(gotHeader, "Trailer")
			delete(wantHeader, "Trailer")
		}
		for name := range wantHeader {
			if _, ok := gotHeader[name]; !ok && asHeader(&resp.Header).Get(name) == "" {
				delete(wantHeader, name)
			}
		}
		type message struct {
			Status  int
			Header  map[string][]string
			Body    string
			Trailer map[string][]string
		}
		diff := cmp.Diff(
			message{want.StatusCode, empty(wantHeader), string(wantBody), trailerOf(plain(want.Trailer))},
			message{resp.Status, empty(gotHeader), string(body), trailer},
		)
		if diff != "" {
			t.Fatal(diff)
		}
		if rest, _ := io.ReadAll(br); reusable && piece == 0 && len(rest) > 0 { // all has arrived
			t.Fatalf("the connection is reusable in spite of %q", rest)
		}
		x.Done(time.Now())
	})
}

// FuzzChunked reads a chunked body in pieces and compares with the chunked
// reader of net/http, and with itself.
func FuzzChunked(f *testing.F) {
	for _, seed := range []string{
		"0\r\n\r\n", "3\r\nabc\r\n0\r\n\r\n", "3;a=b\r\nabc\r\n00a\r\n0123456789\r\n0\r\nA: b\r\n\r\nrest",
		"3\nabc\n0\n\n", "fffffffffffffffff\r\n", "1 \r\na\r\n0\r\n\r\n", "0\r\nA: b\r\n c\r\n\r\n", "5\r\nab",
	} {
		f.Add([]byte(seed), uint8(3), uint8(2))
	}
	buffers := poisoned()
	f.Fuzz(func(t *testing.T, data []byte, piece, size uint8) {
		decode := func(piece int, read func(io.Reader) ([]byte, error)) (string, string, error) {
			in := append([]byte("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), data...)
			var x wire.Exchange
			x.Reset(nil, &wire.Peer{}, time.Now())
			c := http1.NewClientConn(&memory{in: in, piece: piece}, http1.ClientConfig{Buffers: buffers}, func(*http1.ClientConn, bool) {})
			resp, err := c.RoundTrip(&x, x.NewAttempt("", time.Now()), simple("GET"))
			if err != nil {
				t.Fatal(err)
			}
			body, err := read(resp.Body)
			trailer := fmt.Sprint(asHeader(resp.Body.Trailer()))
			x.Done(time.Now())
			return string(body), trailer, err
		}
		body, trailer, err := decode(0, io.ReadAll)
		piecewise := func(r io.Reader) (all []byte, err error) {
			buf := make([]byte, int(size)+1)
			for err == nil {
				var n int
				n, err = r.Read(buf)
				all = append(all, buf[:n]...)
			}
			if err == io.EOF {
				err = nil
			}
			return all, err
		}
		body2, trailer2, err2 := decode(int(piece), piecewise)
		if body != body2 || (err == nil) != (err2 == nil) || err == nil && trailer != trailer2 {
			t.Fatalf("at once %q, %s, %v; in pieces %q, %s, %v", body, trailer, err, body2, trailer2, err2)
		}
		want, wantErr := io.ReadAll(httputil.NewChunkedReader(bytes.NewReader(data)))
		if err == nil && (wantErr != nil || body != string(want)) || !strings.HasPrefix(string(want), body) {
			t.Fatalf("got %q, %v; net/http reads %q, %v", body, err, want, wantErr)
		}
	})
}
