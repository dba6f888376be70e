package http1_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/wire/http1"
)

const getRequest = "GET /some/path?with=query HTTP/1.1\r\nHost: service.example:8080\r\n" +
	"User-Agent: bench/1.0\r\nAccept: */*\r\nAccept-Encoding: gzip\r\nX-Request-Id: 3f1c8b1e-5e5c-4f57-9d0c-8a7d0b1d2c3e\r\n\r\n"

// echoUpstream answers every request with a fixed response and allocates nothing.
func echoUpstream(t testing.TB, response string) string {
	return upstream(t, func(conn net.Conn, _ *bufio.Reader) {
		reply := []byte(response)
		buf := make([]byte, 64<<10)
		end := []byte("\r\n\r\n")
		have := 0
		for {
			n, err := conn.Read(buf[have:])
			if err != nil {
				return
			}
			have += n
			i := bytes.Index(buf[:have], end)
			if i < 0 {
				continue
			}
			if buf[0] == 'P' && have < i+4+512 {
				continue
			}
			have = 0
			if _, err = conn.Write(reply); err != nil {
				return
			}
		}
	})
}

func fixed(status, body string) string {
	return fmt.Sprintf("HTTP/1.1 %s\r\nContent-Type: text/plain\r\nDate: Mon, 02 Jan 2006 15:04:05 GMT\r\nContent-Length: %d\r\n\r\n%s", status, len(body), body)
}

// exchangeOnce sends a request and reads the answer, whose length is known.
func exchangeOnce(t testing.TB, conn net.Conn, request, buf []byte) {
	if _, err := conn.Write(request); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(conn, buf); err != nil {
		t.Fatal(err)
	}
}

// expected learns the length of an answer.
func expected(t testing.TB, conn net.Conn, request string) int {
	t.Helper()
	send(t, conn, request)
	r := bufio.NewReader(conn)
	head, err := readHead(r)
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	for line := range strings.SplitSeq(head, "\r\n") {
		fmt.Sscanf(strings.ToLower(line), "content-length: %d", &n)
	}
	if _, err = r.Discard(n); err != nil {
		t.Fatal(err)
	}
	return len(head) + n
}

func BenchmarkRelay(b *testing.B) {
	post := "POST /upload HTTP/1.1\r\nHost: service.example\r\nContent-Type: text/plain\r\nContent-Length: 512\r\n\r\n" + strings.Repeat("x", 512)
	for _, bench := range []struct {
		name, request string
		size          int
	}{
		{"get-512", getRequest, 512},
		{"get-64k", getRequest, 64 << 10},
		{"get-1m", getRequest, 1 << 20},
		{"post-512", post, 512},
	} {
		b.Run(bench.name, func(b *testing.B) {
			addr := echoUpstream(b, fixed("200 OK", strings.Repeat("y", bench.size)))
			r := relayTo(b, addr, http1.Config{Buffers: &http1.Buffers{}}, http1.ClientConfig{})
			conn := dial(b, r.addr)
			buf := make([]byte, expected(b, conn, bench.request))
			request := []byte(bench.request)
			b.SetBytes(int64(bench.size))
			b.ReportAllocs()
			for b.Loop() {
				exchangeOnce(b, conn, request, buf)
			}
		})
	}
}
