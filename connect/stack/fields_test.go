package stack_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/serai-net/serai/connect/mesh"
)

// heads is an application of HTTP/1 that answers with the head that it got.
func heads(t *testing.T, answer string) string {
	t.Helper()
	return tcp(t, func(conn net.Conn) {
		r := bufio.NewReader(conn)
		var head strings.Builder
		for !strings.HasSuffix(head.String(), "\r\n\r\n") {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			head.WriteString(line)
		}
		if answer != "" {
			io.WriteString(conn, answer) //nolint:errcheck // the client notices
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\nContent-Length: %d\r\nConnection: close, x-secret\r\nX-Secret: 1\r\nKeep-Alive: 5\r\n\r\n%s", head.Len(), head.String())
	})
}

// TestFieldsToH1 looks at what HTTP/1 gets of a request of HTTP/2, and the other way of
// its response.
func TestFieldsToH1(t *testing.T) {
	address := front(t, heads(t, ""), mesh.HTTP1, nil)
	m := &message{method: "GET", target: "/", fields: [][2]string{{"cookie", "a=b"}, {"te", "trailers"}, {"cookie", "c=d"}, {"x-a", "1"}}, chunked: true}
	s := m.askH2(t, address, "w")
	if s == nil {
		t.Fatal("refused")
	}
	for _, want := range []string{"GET / HTTP/1.1\r\n", "\r\nhost: a.example\r\n", "\r\ncookie: a=b; c=d\r\n", "\r\nte: trailers\r\n", "\r\nconnection: te\r\n", "\r\nx-a: 1\r\n"} {
		if strings.Count(s.Body, want) != 1 {
			t.Errorf("%q is not in %q", want, s.Body)
		}
	}
	for _, name := range []string{"x-secret", "keep-alive", "connection"} {
		if _, ok := s.Fields[name]; ok {
			t.Errorf("%s has come through", name)
		}
	}
}

// TestFieldsRefused refuses what HTTP/2 must not say.
func TestFieldsRefused(t *testing.T) {
	address := front(t, heads(t, ""), mesh.HTTP1, nil)
	for _, field := range [][2]string{
		{"te", "gzip"},
		{"te", "trailers, deflate"},
		{"connection", "close"},
		{"connection", "x-a"},
		{"keep-alive", "5"},
		{"transfer-encoding", "chunked"},
		{"upgrade", "websocket"},
		{"host", "other.example"},
		{"trailer", "content-length"},
	} {
		m := &message{method: "GET", target: "/", fields: [][2]string{field}, chunked: true}
		if s := m.askH2(t, address, "w"); s != nil {
			t.Errorf("%s: %s was taken", field[0], field[1])
		}
	}
	m := &message{method: "GET", target: "/", fields: [][2]string{{"host", "A.example"}}, chunked: true}
	if s := m.askH2(t, address, "w"); s == nil || strings.Count(s.Body, "host:") != 1 {
		t.Errorf("a host that is the authority: %+v", s)
	}
}

// TestBodiless answers with a length where there is no body, by both protocols.
func TestBodiless(t *testing.T) {
	for _, test := range []struct{ method, answer, length string }{
		{"HEAD", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", "5"},
		{"GET", "HTTP/1.1 204 No Content\r\n\r\n", ""},
		{"GET", "HTTP/1.1 304 Not Modified\r\nETag: x\r\nContent-Length: 5\r\n\r\n", "5"},
	} {
		address := front(t, heads(t, test.answer), mesh.HTTP1, nil)
		for _, h2 := range []bool{false, true} {
			req, err := http.NewRequestWithContext(t.Context(), test.method, "http://"+address, nil)
			must(t, err)
			resp, err := asker(t, h2).Do(req)
			must(t, err)
			body, err := io.ReadAll(resp.Body)
			resp.Body.Close()
			length := test.length
			if h2 && resp.StatusCode == http.StatusNotModified {
				length = ""
			}
			if err != nil || len(body) > 0 || resp.Header.Get("Content-Length") != length || resp.Status[:3] != test.answer[9:12] {
				t.Errorf("h2=%t %q: %s %v %q, %v", h2, test.answer, resp.Status, resp.Header, body, err)
			}
		}
	}
}
