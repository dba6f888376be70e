package http1_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// TestEarlyAnswer answers a request whose body is still being sent.
func TestEarlyAnswer(t *testing.T) {
	checkLeaks(t)
	addr := upstream(t, func(conn net.Conn, r *bufio.Reader) {
		readHead(r)
		io.WriteString(conn, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
		io.Copy(io.Discard, r)
	})
	body := newStream("begin")
	c := dialClient(t, addr, http1.ClientConfig{})
	resp, text, err := c.do(&wire.Request{Method: "POST", Authority: "a", Path: "/", ContentLength: -1, Body: body})
	if err != nil || resp.Status != 413 || text != "no" {
		t.Fatalf("got %v, %q, %v", resp, text, err)
	}
	<-body.closed
	if diff := cmp.Diff([]bool{false}, c.released); diff != "" {
		t.Errorf("released: %s", diff)
	}
	c.done()

	// The same through a server: the client has sent all and reads the answer.
	r := relayTo(t, addr, http1.Config{}, http1.ClientConfig{})
	conn := dial(t, r.addr)
	send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\nabc")
	if resp, body := answer(t, bufio.NewReader(conn), "POST"); resp.StatusCode != 413 || body != "no" || !resp.Close {
		t.Errorf("got %s %q, close %v", resp.Status, body, resp.Close)
	}
	// With little left, the connection lives on.
	conn = dial(t, r.addr)
	br := bufio.NewReader(conn)
	send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\nabc")
	for range 2 {
		if resp, body := answer(t, br, "POST"); resp.StatusCode != 413 || body != "no" || resp.Close {
			t.Errorf("got %s %q, close %v", resp.Status, body, resp.Close)
		}
		send(t, conn, "def"+get("/"))
	}
}

// stubborn is a body whose Read no Close ends, as that of a wire.Replay.
type stubborn struct{ *stream }

func (stubborn) Close() error { return nil }

func TestStubbornBody(t *testing.T) {
	checkLeaks(t)
	addr := replying(t, "HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno", false)
	body := stubborn{newStream("begin")}
	c := dialClient(t, addr, http1.ClientConfig{})
	resp, text, err := c.do(&wire.Request{Method: "POST", Authority: "a", Path: "/", ContentLength: -1, Body: body})
	if err != nil || resp.Status != 413 || text != "no" {
		t.Fatalf("got %v, %q, %v", resp, text, err)
	}
	c.done()
	body.stream.Close()
}

// TestDuplex echoes a body while it is being sent.
func TestDuplex(t *testing.T) {
	checkLeaks(t)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		control := http.NewResponseController(w)
		control.EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		control.Flush()
		buf := make([]byte, 1000)
		total := 0
		for {
			n, err := r.Body.Read(buf)
			w.Write(buf[:n])
			control.Flush()
			if total += n; err != nil {
				break
			}
		}
		w.Header().Set("X-Sum", fmt.Sprint(total, " ", r.Trailer.Get("X-Count")))
	}))
	defer backend.Close()
	r := relayTo(t, backend.Listener.Addr().String(), http1.Config{}, http1.ClientConfig{})
	conn := dial(t, r.addr)
	br := bufio.NewReader(conn)
	for range 2 {
		send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: X-Count\r\n\r\n")
		resp, err := http.ReadResponse(br, nil)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 10 {
			text := fmt.Sprintf("piece %d", i)
			send(t, conn, fmt.Sprintf("%x\r\n%s\r\n", len(text), text))
			got := make([]byte, len(text))
			if _, err = io.ReadFull(resp.Body, got); err != nil || string(got) != text {
				t.Fatalf("got %q, %v", got, err)
			}
		}
		send(t, conn, "0\r\nX-Count: 10\r\n\r\n")
		if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
			t.Errorf("rest %q, %v", rest, err)
		}
		if got := resp.Trailer.Get("X-Sum"); got != "70 10" {
			t.Errorf("trailer %q", got)
		}
	}
	if r.pool.dials != 1 {
		t.Errorf("%d connections were used", r.pool.dials)
	}
}

// TestBrokenUpload ends a request body in the middle.
func TestBrokenUpload(t *testing.T) {
	checkLeaks(t)
	ended := make(chan string, 1)
	addr := upstream(t, func(_ net.Conn, r *bufio.Reader) {
		readHead(r)
		body, _ := io.ReadAll(r)
		ended <- string(body)
	})
	for _, test := range []struct{ sent, want, status string }{
		{"3\r\nabc\r\n", "3\r\nabc\r\n", "400 Bad Request"},
		{"3\r\nabc\r\nx", "3\r\nabc\r\n", "400 Bad Request"},
	} {
		r := relayTo(t, addr, http1.Config{}, http1.ClientConfig{})
		conn := dial(t, r.addr)
		send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n")
		time.Sleep(20 * time.Millisecond) // so that the body is not at hand
		send(t, conn, test.sent)
		conn.(*net.TCPConn).CloseWrite()
		if got := <-ended; got != test.want {
			t.Errorf("upstream got %q, want %q", got, test.want)
		}
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || resp.Status != test.status {
			t.Errorf("got %v, %v", resp, err)
		}
	}
}

func TestClientAbort(t *testing.T) {
	checkLeaks(t)
	arrived, left := make(chan bool), make(chan bool)
	streaming := make(chan bool, 1)
	backend := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if r.URL.Path == "/stream" {
			io.WriteString(w, "data: 1\n\n")
			http.NewResponseController(w).Flush()
			streaming <- true
		}
		arrived <- true
		<-r.Context().Done()
		left <- true
	}))
	defer backend.Close()
	r := relayTo(t, backend.Listener.Addr().String(), http1.Config{}, http1.ClientConfig{})
	for _, request := range []string{
		get("/wait"), get("/stream"), "POST /wait HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc",
	} {
		conn := dial(t, r.addr)
		send(t, conn, request)
		<-arrived
		if strings.Contains(request, "stream") {
			<-streaming
			br := bufio.NewReader(conn)
			if resp, err := http.ReadResponse(br, nil); err != nil || resp.StatusCode != 200 {
				t.Fatal(err)
			}
			if line, err := br.ReadString(':'); err != nil {
				t.Fatalf("%q, %v", line, err)
			}
		}
		conn.Close()
		select {
		case <-left:
		case <-time.After(time.Minute):
			t.Fatalf("%q: the upstream has not noticed", request)
		}
	}
}

// TestSlowReader lets a client read slowly; nothing is lost and nothing piles up.
func TestSlowReader(t *testing.T) {
	checkLeaks(t)
	const size = 20 << 20
	addr := upstream(t, func(conn net.Conn, r *bufio.Reader) {
		readHead(r)
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n", size)
		chunk := []byte(strings.Repeat("0123456789abcdef", 4096))
		for sent := 0; sent < size; sent += len(chunk) {
			if _, err := conn.Write(chunk); err != nil {
				return
			}
		}
	})
	r := relayTo(t, addr, http1.Config{}, http1.ClientConfig{})
	conn := dial(t, r.addr)
	send(t, conn, get("/"))
	br := bufio.NewReader(conn)
	resp, err := http.ReadResponse(br, nil)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond)
	n, err := io.Copy(io.Discard, resp.Body)
	if n != size || err != nil {
		t.Errorf("got %d bytes, %v", n, err)
	}
}

func TestExpectUpstream(t *testing.T) {
	checkLeaks(t)
	var early int
	addr := upstream(t, func(conn net.Conn, r *bufio.Reader) {
		for {
			head, err := readHead(r)
			switch {
			case err != nil:
				return
			case !strings.Contains(head, "expect: 100-continue\r\n"):
				io.WriteString(conn, "HTTP/1.1 500 No Expectation\r\nContent-Length: 0\r\n\r\n")
				return
			case strings.HasPrefix(head, "POST /refuse"):
				io.WriteString(conn, "HTTP/1.1 403 Forbidden\r\nContent-Length: 0\r\n\r\n")
				continue
			}
			time.Sleep(30 * time.Millisecond)
			early = r.Buffered()
			if strings.HasPrefix(head, "POST /continue") {
				io.WriteString(conn, "HTTP/1.1 100 Continue\r\n\r\n")
			}
			body := make([]byte, 3)
			io.ReadFull(r, body)
			fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 3\r\n\r\n%s", body)
		}
	})
	r := relayTo(t, addr, http1.Config{}, http1.ClientConfig{ContinueTimeout: 100 * time.Millisecond})
	for _, path := range []string{"/continue", "/silent"} {
		conn := dial(t, r.addr)
		br := bufio.NewReader(conn)
		send(t, conn, "POST "+path+" HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		if head, err := readHead(br); err != nil || !strings.HasPrefix(head, "HTTP/1.1 100 ") {
			t.Fatalf("%s: got %q, %v", path, head, err)
		}
		send(t, conn, "abc")
		if resp, body := answer(t, br, "POST"); resp.StatusCode != 200 || body != "abc" || early != 0 {
			t.Errorf("%s: got %s %q, %d bytes came early", path, resp.Status, body, early)
		}
	}
	conn := dial(t, r.addr)
	send(t, conn, "POST /refuse HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
	if resp, _ := answer(t, bufio.NewReader(conn), "POST"); resp.StatusCode != 403 || !resp.Close {
		t.Errorf("got %s, close %v", resp.Status, resp.Close)
	}
}

// TestPanicInBody panics where a pump reads.
func TestPanicInBody(t *testing.T) {
	checkLeaks(t)
	addr := upstream(t, func(_ net.Conn, r *bufio.Reader) { io.Copy(io.Discard, r) })
	c := dialClient(t, addr, http1.ClientConfig{})
	_, _, err := c.do(&wire.Request{Method: "POST", Authority: "a", Path: "/", ContentLength: -1, Body: panicking{newStream()}})
	if fault := wire.AsFault(err); fault.Flag != wire.FlagInternal || !strings.Contains(err.Error(), "panic") {
		t.Errorf("got %v", err)
	}
	if diff := cmp.Diff([]bool{false}, c.released); diff != "" {
		t.Errorf("released: %s", diff)
	}
	c.done()
}

type panicking struct{ *stream }

func (panicking) Read([]byte) (int, error) { panic("no") }

// TestContinueRace answers while somebody else begins to read the body.
func TestContinueRace(t *testing.T) {
	checkLeaks(t)
	r := serve(t, http1.Config{}, wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		go io.Copy(io.Discard, struct{ io.Reader }{req.Body})
		return wire.Text(200, "ok"), nil
	}))
	for range 50 {
		conn := dial(t, r.addr)
		send(t, conn, "POST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		all, err := io.ReadAll(conn)
		text := strings.TrimPrefix(string(all), "HTTP/1.1 100 Continue\r\n\r\n")
		if err != nil || !strings.HasPrefix(text, "HTTP/1.1 200 OK\r\n") || !strings.HasSuffix(text, "\r\n\r\nok") || strings.Contains(text, "100") {
			t.Fatalf("got %q, %v", all, err)
		}
	}
}
