package http1_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/socket"
)

// mirror is a backend that tells what it got and answers in many ways.
func mirror(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	var names []string
	for name := range r.Header {
		if name != "Content-Length" { // "no body" may be told in two ways
			names = append(names, name)
		}
	}
	sort.Strings(names)
	var text strings.Builder
	fmt.Fprintf(&text, "%s %s %s %s %d %v err=%v trailer=%v\n", r.Method, r.Host, r.RequestURI, r.Proto, r.ContentLength, r.TransferEncoding, err, r.Trailer)
	for _, name := range names {
		fmt.Fprintf(&text, "%s: %q\n", name, r.Header[name])
	}
	fmt.Fprintf(&text, "body %d %.20q\n", len(body), body)
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Add("X-Many", "1")
	w.Header().Add("X-Many", "2")
	switch r.URL.Path {
	case "/stream":
		for _, line := range strings.SplitAfter(text.String(), "\n") {
			io.WriteString(w, line)
			http.NewResponseController(w).Flush()
		}
	case "/trailer":
		w.Header().Set("Trailer", "X-Sum")
		io.WriteString(w, text.String())
		w.Header().Set("X-Sum", fmt.Sprint(text.Len()))
	case "/large":
		for range 1000 {
			io.WriteString(w, text.String())
		}
	case "/204":
		w.WriteHeader(http.StatusNoContent)
	case "/304":
		w.WriteHeader(http.StatusNotModified)
	case "/hints":
		w.Header().Set("Link", "</a.css>")
		w.WriteHeader(http.StatusEarlyHints)
		io.WriteString(w, text.String())
	default:
		w.Header().Set("Content-Length", fmt.Sprint(text.Len()))
		io.WriteString(w, text.String())
	}
}

// message is a response as a client sees it.
type message struct {
	Status  string
	Length  int64
	Coding  []string
	Header  http.Header
	Body    string
	Trailer http.Header
	Err     string
}

func receive(r *bufio.Reader, method string) (m message) {
	var resp *http.Response
	for {
		var err error
		if resp, err = http.ReadResponse(r, &http.Request{Method: method}); err != nil {
			return message{Err: err.Error()}
		}
		if resp.StatusCode >= 200 {
			break
		}
		m.Status += resp.Status + " "
	}
	body, err := io.ReadAll(resp.Body)
	resp.Header.Del("Date")
	m = message{m.Status + resp.Status, resp.ContentLength, resp.TransferEncoding, resp.Header, string(body), resp.Trailer, fmt.Sprint(err)}
	delete(m.Trailer, "X-None")
	return m
}

// TestTransparency compares what a client sees through a relay, and what the
// backend sees, with what they see without one.
func TestTransparency(t *testing.T) {
	checkLeaks(t)
	backend := httptest.NewServer(http.HandlerFunc(mirror))
	defer backend.Close()
	addr := backend.Listener.Addr().String()
	r := relayTo(t, addr, http1.Config{}, http1.ClientConfig{})
	direct, relayed := dial(t, addr), dial(t, r.addr)
	directReader, relayedReader := bufio.NewReader(direct), bufio.NewReader(relayed)
	long := strings.Repeat("0123456789", 30000)
	for _, path := range []string{"/", "/stream?a=b&c=%20d", "/trailer", "/large", "/204", "/304", "/hints"} {
		for _, method := range []string{"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "PURGE"} {
			for _, rest := range []string{
				"\r\n",
				"X-A: b\r\nx-a: c \r\nCookie: d=e; f=g\r\nUser-Agent: \r\nX-Empty:\r\n\r\n",
				"Content-Length: 0\r\n\r\n",
				"Content-Length: 5\r\n\r\nhello",
				"Content-Length: 300000\r\n\r\n" + long,
				"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6;x=y\r\n world\r\n0\r\n\r\n",
				"Transfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n493e0\r\n" + long + "\r\n0\r\nX-Sum: 1\r\n\r\n",
			} {
				request := fmt.Sprintf("%s %s HTTP/1.1\r\nHost: example.com:81\r\n%s", method, path, rest)
				var wg sync.WaitGroup
				wg.Go(func() { io.WriteString(direct, request) })
				wg.Go(func() { io.WriteString(relayed, request) })
				want, got := receive(directReader, method), receive(relayedReader, method)
				wg.Wait()
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("%s %s %.60q: %s", method, path, rest, diff)
				}
			}
		}
	}
	if r.pool.dials != 1 {
		t.Errorf("%d upstream connections were used", r.pool.dials)
	}
}

// TestRelayTLS relays from TLS to TLS.
func TestRelayTLS(t *testing.T) {
	checkLeaks(t)
	backend := httptest.NewTLSServer(http.HandlerFunc(mirror))
	defer backend.Close()
	buffers := poisoned()
	p := newPool("", http1.ClientConfig{Buffers: buffers})
	p.dial = func() (net.Conn, error) {
		raw, err := net.Dial("tcp", backend.Listener.Addr().String())
		if err != nil {
			return nil, err
		}
		conn := tls.Client(socket.New(raw), &tls.Config{InsecureSkipVerify: true})
		return conn, conn.HandshakeContext(context.Background())
	}
	defer p.close()
	server := http1.NewServer(http1.Config{Buffers: buffers}, func() wire.Service { return p }, quiet(t))
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan bool)
	var drain wire.Drain
	go func() {
		defer close(done)
		raw, err := l.Accept()
		if err != nil {
			return
		}
		conn := tls.Server(socket.New(raw), backend.TLS)
		if conn.HandshakeContext(context.Background()) == nil {
			server.Serve(conn, &wire.Peer{TLS: true}, &drain)
		}
	}()
	conn := tls.Client(dial(t, l.Addr().String()), &tls.Config{InsecureSkipVerify: true})
	br := bufio.NewReader(conn)
	for i := range 20 {
		body := strings.Repeat("x", i*5000)
		send(t, conn, fmt.Sprintf("POST /trailer HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n%s", len(body), body))
		resp, text := answer(t, br, "POST")
		if want := fmt.Sprintf("body %d ", len(body)); !strings.Contains(text, want) || resp.Trailer.Get("X-Sum") != fmt.Sprint(len(text)) {
			t.Errorf("got %s\n%s", resp.Status, text)
		}
	}
	if p.dials != 1 {
		t.Errorf("%d upstream connections were used", p.dials)
	}
	drain.CloseIdle()
	if _, err = br.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	conn.Close()
	<-done
}

// TestManyClients uses a relay from many sides at once, for the race detector.
func TestManyClients(t *testing.T) {
	checkLeaks(t)
	backend := httptest.NewServer(http.HandlerFunc(mirror))
	defer backend.Close()
	r := relayTo(t, backend.Listener.Addr().String(), http1.Config{}, http1.ClientConfig{})
	transport := &http.Transport{MaxIdleConnsPerHost: 4}
	defer transport.CloseIdleConnections()
	client := &http.Client{Transport: transport}
	var wg sync.WaitGroup
	for worker := range 16 {
		wg.Go(func() {
			for i := range 30 {
				path := []string{"/", "/stream", "/trailer", "/large"}[(worker+i)%4]
				var body io.Reader
				if i%3 > 0 {
					body = io.LimitReader(strings.NewReader(strings.Repeat("y", 100000)), int64(i*i*100))
				}
				ctx, cancel := context.WithCancel(t.Context())
				req, err := http.NewRequestWithContext(ctx, "POST", "http://"+r.addr+path, body)
				if err != nil {
					t.Error(err)
				}
				resp, err := client.Do(req)
				if err != nil {
					t.Error(err)
					cancel()
					return
				}
				if i%7 == 6 {
					cancel() // leave in the middle
				}
				text, err := io.ReadAll(resp.Body)
				resp.Body.Close()
				cancel()
				if i%7 != 6 && (err != nil || !bytes.HasPrefix(text, []byte("POST "+r.addr+" "+path+" "))) {
					t.Errorf("got %.100q, %v", text, err)
				}
			}
		})
	}
	wg.Wait()
	http.DefaultClient.CloseIdleConnections()
}

// TestStale closes idle upstream connections under the relay's hands.
func TestStale(t *testing.T) {
	checkLeaks(t)
	addr := upstream(t, func(conn net.Conn, r *bufio.Reader) {
		for range 2 {
			if _, err := readHead(r); err != nil {
				return
			}
			io.WriteString(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		}
	})
	r := relayTo(t, addr, http1.Config{}, http1.ClientConfig{})
	conn := dial(t, r.addr)
	br := bufio.NewReader(conn)
	for range 10 {
		send(t, conn, get("/"))
		if resp, body := answer(t, br, "GET"); resp.StatusCode != 200 || body != "ok" {
			t.Errorf("got %s %q", resp.Status, body)
		}
		time.Sleep(10 * time.Millisecond)
	}
}
