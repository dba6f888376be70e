package http1_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// byPath serves one function per path.
type byPath map[string]func(x *wire.Exchange, req *wire.Request) (*wire.Response, error)

func (b byPath) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	if f, ok := b[req.PathOnly()]; ok {
		return f(x, req)
	}
	return nil, &wire.Fault{Status: 404, Flag: wire.FlagNoRoute}
}

func get(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: a\r\n\r\n" }

func TestPipelining(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, byPath{
		"/read": func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			body, err := io.ReadAll(req.Body)
			return wire.Text(200, "read "+string(body)), err
		},
		"/unread": func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return wire.Text(200, "unread"), nil
		},
		"/closed": func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			_, err := io.ReadFull(req.Body, make([]byte, 1))
			req.Body.Close()
			return wire.Text(200, "closed"), err
		},
	})
	var requests strings.Builder
	var want []string
	for i := range 20 {
		path := []string{"read", "unread", "closed"}[i%3]
		fmt.Fprintf(&requests, "POST /%s HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc", path)
		fmt.Fprintf(&requests, "POST /%s HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n3\r\ndef\r\n0\r\n\r\n", path)
		if path == "read" {
			want = append(want, "read abc", "read def")
		} else {
			want = append(want, path, path)
		}
	}
	for _, size := range []int{7, 100, 1 << 20} {
		conn := dial(t, r.addr)
		go func() {
			rest := requests.String()
			for len(rest) > 0 {
				n, err := io.WriteString(conn, rest[:min(size, len(rest))])
				if err != nil {
					return
				}
				rest = rest[n:]
			}
		}()
		br := bufio.NewReader(conn)
		for i := range want {
			if _, body := answer(t, br, "POST"); body != want[i] {
				t.Fatalf("pieces of %d: answer %d is %q, want %q", size, i, body, want[i])
			}
		}
	}
}

func TestResponses(t *testing.T) {
	checkLeaks(t)
	one := func(resp wire.Response) func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			resp := resp
			if s, ok := resp.Body.(*stream); ok {
				body := newStream("abc", "defg").end()
				body.trailer = s.trailer
				resp.Body = body
			}
			resp.Header.Add("date", "now")
			return &resp, nil
		}
	}
	withTrailer := newStream()
	withTrailer.trailer.Add("x-sum", "1")
	var own wire.Header
	for _, name := range []string{"connection", "content-length", "transfer-encoding", "keep-alive", "upgrade", "host"} {
		own.Add(name, "1")
	}
	own.Add("x-a", "b")
	r := serve(t, http1.Config{}, byPath{
		"/length":  one(wire.Response{Status: 200, ContentLength: 7, Body: newStream()}),
		"/stream":  one(wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: newStream()}),
		"/trailer": one(wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: withTrailer}),
		"/nobody":  one(wire.Response{Status: 201}),
		"/204":     one(wire.Response{Status: 204}),
		"/304":     one(wire.Response{Status: 304, ContentLength: 9}),
		"/odd":     one(wire.Response{Status: 799}),
		"/own":     one(wire.Response{Status: 200, Header: own}),
		"/as-post": func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			req.Method = "POST" // as a filter may
			return one(wire.Response{Status: 200, ContentLength: 7, Body: newStream()})(x, req)
		},
		"/fault": func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return nil, &wire.Fault{Status: 401, Header: []wire.Field{{Name: "www-authenticate", Value: "x"}, {Name: "date", Value: "now"}}}
		},
	})
	for _, test := range []struct{ request, want string }{
		{"GET /length HTTP/1.1", "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 7\r\n\r\nabcdefg"},
		{"HEAD /length HTTP/1.1", "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 7\r\n\r\n"},
		{"HEAD /as-post HTTP/1.1", "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 7\r\n\r\n"},
		{"GET /length HTTP/1.0", "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 7\r\nconnection: close\r\n\r\nabcdefg"},
		{"GET /length HTTP/1.0\r\nConnection: keep-alive", "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 7\r\nconnection: keep-alive\r\n\r\nabcdefg"},
		{"GET /length HTTP/1.1\r\nConnection: x, close", "HTTP/1.1 200 OK\r\ndate: now\r\ncontent-length: 7\r\nconnection: close\r\n\r\nabcdefg"},
		{"GET /stream HTTP/1.1", "HTTP/1.1 200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\n\r\n"},
		{"HEAD /stream HTTP/1.1", "HTTP/1.1 200 OK\r\ndate: now\r\n\r\n"},
		{"GET /stream HTTP/1.0", "HTTP/1.1 200 OK\r\ndate: now\r\nconnection: close\r\n\r\nabcdefg"},
		{"GET /stream HTTP/1.0\r\nConnection: keep-alive", "HTTP/1.1 200 OK\r\ndate: now\r\nconnection: close\r\n\r\nabcdefg"},
		{"GET /trailer HTTP/1.1", "HTTP/1.1 200 OK\r\ndate: now\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n4\r\ndefg\r\n0\r\nx-sum: 1\r\n\r\n"},
		{"GET /nobody HTTP/1.1", "HTTP/1.1 201 Created\r\ndate: now\r\ncontent-length: 0\r\n\r\n"},
		{"GET /204 HTTP/1.1", "HTTP/1.1 204 No Content\r\ndate: now\r\n\r\n"},
		{"GET /304 HTTP/1.1", "HTTP/1.1 304 Not Modified\r\ndate: now\r\ncontent-length: 9\r\n\r\n"},
		{"GET /odd HTTP/1.1", "HTTP/1.1 799 \r\ndate: now\r\ncontent-length: 0\r\n\r\n"},
		{"GET /own HTTP/1.1", "HTTP/1.1 200 OK\r\nx-a: b\r\ndate: now\r\ncontent-length: 0\r\n\r\n"},
		{
			"GET /fault HTTP/1.1",
			"HTTP/1.1 401 Unauthorized\r\nwww-authenticate: x\r\ndate: now\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nUnauthorized\n",
		},
	} {
		t.Run(test.request, func(t *testing.T) {
			conn := dial(t, r.addr)
			send(t, conn, test.request+"\r\nHost: a\r\n\r\n"+get("/nobody"))
			conn.(*net.TCPConn).CloseWrite()
			got, err := io.ReadAll(conn)
			if err != nil {
				t.Fatal(err)
			}
			want := test.want
			if !strings.Contains(test.want, "connection: close") {
				want += "HTTP/1.1 201 Created\r\ndate: now\r\ncontent-length: 0\r\n\r\n"
			}
			if diff := cmp.Diff(want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestContinue(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, byPath{
		"/read": func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			if !req.ExpectContinue {
				return nil, errors.New("no expectation")
			}
			body, err := io.ReadAll(req.Body)
			return wire.Text(200, string(body)), err
		},
		"/refuse": func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return wire.Text(403, "no"), nil },
		"/upstream": func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			for range 2 {
				if err := x.Interim(100, nil); err != nil {
					return nil, err
				}
			}
			body, err := io.ReadAll(req.Body)
			return wire.Text(200, string(body)), err
		},
		"/hints": func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
			var h wire.Header
			h.Add("link", "</a.css>")
			if err := x.Interim(103, &h); err != nil {
				return nil, err
			}
			return wire.Text(200, "done"), x.Interim(100, nil)
		},
	})
	const expect = " HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 3\r\n\r\n"
	for _, path := range []string{"/read", "/upstream"} {
		conn := dial(t, r.addr)
		br := bufio.NewReader(conn)
		for range 2 {
			send(t, conn, "POST "+path+expect)
			if head, err := readHead(br); err != nil || head != "HTTP/1.1 100 Continue\r\n\r\n" {
				t.Fatalf("%s: got %q, %v", path, head, err)
			}
			send(t, conn, "abc")
			if _, body := answer(t, br, "POST"); body != "abc" {
				t.Errorf("%s: got %q", path, body)
			}
		}
		// A client that does not wait gets no 100.
		send(t, conn, "POST "+path+expect+"abc")
		if path == "/read" {
			if resp, body := answer(t, br, "POST"); body != "abc" || resp.StatusCode != 200 {
				t.Errorf("%s: got %s %q", path, resp.Status, body)
			}
		}
	}
	conn := dial(t, r.addr)
	send(t, conn, "POST /refuse"+expect)
	if resp, body := answer(t, bufio.NewReader(conn), "POST"); resp.StatusCode != 403 || !resp.Close || body != "no" {
		t.Errorf("got %s %q, close %v", resp.Status, body, resp.Close)
	}
	conn = dial(t, r.addr)
	br := bufio.NewReader(conn)
	send(t, conn, get("/hints"))
	if head, err := readHead(br); err != nil || head != "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n" {
		t.Errorf("got %q, %v", head, err)
	}
	if resp, body := answer(t, br, "GET"); body != "done" {
		t.Errorf("got %s %q", resp.Status, body)
	}
	send(t, conn, "GET /hints HTTP/1.0\r\n\r\n")
	if resp, body := answer(t, br, "GET"); resp.StatusCode != 200 || body != "done" {
		t.Errorf("HTTP/1.0: got %s %q", resp.Status, body)
	}
}

func TestUnreadBody(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return wire.Text(200, "ok"), nil
	}))
	for _, test := range []struct {
		size      int
		wantClose bool
	}{{1, false}, {200 << 10, false}, {300 << 10, true}} {
		conn := dial(t, r.addr)
		br := bufio.NewReader(conn)
		go io.WriteString(conn, fmt.Sprintf("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s%s", test.size, strings.Repeat("x", test.size), get("/")))
		if resp, _ := answer(t, br, "POST"); resp.Close != test.wantClose {
			t.Errorf("%d bytes: close %v", test.size, resp.Close)
		}
		_, err := http.ReadResponse(br, nil)
		if (err != nil) != test.wantClose {
			t.Errorf("%d bytes: next response: %v", test.size, err)
		}
	}
}

// TestNoVersion sends first lines that name no version of HTTP/1: where HTTP/2 is served, too, they may be bad prefaces.
func TestNoVersion(t *testing.T) {
	checkLeaks(t)
	for _, c := range []struct {
		line string
		h2   bool
		want string // the first line of the answer
	}{
		{"INVALID CONNECTION PREFACE", true, ""},
		{"INVALID CONNECTION PREFACE", false, "HTTP/1.1 400 Bad Request"},
		{"GET /a b HTTP/1.1", true, "HTTP/1.1 400 Bad Request"},
		{"GET /", true, "HTTP/1.1 400 Bad Request"},
	} {
		cfg := http1.Config{}
		if c.h2 {
			cfg.HTTP2 = func(conn net.Conn, _ []byte, _ *wire.Peer, _ *wire.Drain) { conn.Close() }
		}
		r := serve(t, cfg, wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return wire.Text(http.StatusOK, "served"), nil
		}))
		conn := dial(t, r.addr)
		send(t, conn, c.line+"\r\n\r\n")
		got, err := io.ReadAll(conn)
		if line, _, _ := strings.Cut(string(got), "\r\n"); err != nil || line != c.want {
			t.Errorf("%s, HTTP/2 %v: got %q, %v, want %q", c.line, c.h2, got, err, c.want)
		}
		if n := r.server.Stats.Rejected.Load(); n != 1 {
			t.Errorf("%s: %d were counted as rejected, want 1", c.line, n)
		}
	}
}
