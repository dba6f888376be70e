package stack_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/gorilla/websocket"
	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/mesh"
)

// chat is a server of websockets that sends back what it is told, and refuses those
// for /no.
func chat(t *testing.T) string {
	t.Helper()
	upgrader := websocket.Upgrader{Subprotocols: []string{"chat"}}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/no" {
			http.Error(w, "not today", http.StatusTeapot)
			return
		}
		conn, err := upgrader.Upgrade(w, r, http.Header{"X-Path": {r.URL.Path}})
		if err != nil {
			return
		}
		defer conn.Close()
		for {
			kind, message, err := conn.ReadMessage()
			if err != nil {
				return
			}
			if err := conn.WriteMessage(kind, message); err != nil {
				return
			}
		}
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// TestWebSocket talks over all four pairs of protocols: by a client of HTTP/1 and one
// of HTTP/2, to an upstream that is asked by HTTP/1 or by extended CONNECT.
func TestWebSocket(t *testing.T) {
	app := chat(t)
	h1 := front(t, app, mesh.HTTP1, nil)
	h2 := front(t, h1, mesh.HTTP2, nil)
	for name, address := range map[string]string{"h1": h1, "h2": h2} {
		t.Run("h1 to "+name, func(t *testing.T) { talkH1(t, address) })
		t.Run("h2 to "+name, func(t *testing.T) { talkH2(t, address) })
	}
}

func talkH1(t *testing.T, address string) {
	t.Helper()
	dialer := websocket.Dialer{Subprotocols: []string{"chat"}}
	conn, resp, err := dialer.DialContext(t.Context(), "ws://"+address+"/ws?a", nil)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	resp.Body.Close()
	if resp.Header.Get("X-Path") != "/ws" || conn.Subprotocol() != "chat" {
		t.Errorf("%v", resp.Header)
	}
	large := make([]byte, 1<<20)
	rand.Read(large)
	for _, message := range [][]byte{[]byte("hello"), {}, large} {
		must(t, conn.WriteMessage(websocket.BinaryMessage, message))
		if kind, got, err := conn.ReadMessage(); err != nil || kind != websocket.BinaryMessage || !bytes.Equal(got, message) {
			t.Errorf("%d bytes came back as %d, %v", len(message), len(got), err)
		}
	}
	must(t, conn.WriteMessage(websocket.CloseMessage, websocket.FormatCloseMessage(websocket.CloseNormalClosure, "bye")))
	if _, _, err := conn.ReadMessage(); !websocket.IsCloseError(err, websocket.CloseNormalClosure) {
		t.Errorf("the end is %v", err)
	}
	_, resp, err = websocket.DefaultDialer.DialContext(t.Context(), "ws://"+address+"/no", nil)
	if err == nil {
		t.Fatal("it did switch")
	}
	defer resp.Body.Close()
	if body, _ := io.ReadAll(resp.Body); !errors.Is(err, websocket.ErrBadHandshake) || resp.StatusCode != http.StatusTeapot || !strings.Contains(string(body), "not today") {
		t.Errorf("refused with %s %q, %v", resp.Status, body, err)
	}
}

// openH2 asks for a websocket by extended CONNECT.
func openH2(t *testing.T, address, path string) (*http.Response, io.WriteCloser) {
	t.Helper()
	transport := &http2.Transport{AllowHTTP: true} //nolint:staticcheck // a client with extended CONNECT on one connection
	conn := dialTo(t, address)
	client, err := transport.NewClientConn(conn) //nolint:staticcheck // as above
	must(t, err)
	r, w := io.Pipe()
	t.Cleanup(func() { w.Close(); conn.Close() })
	req := &http.Request{
		Method: http.MethodConnect, URL: &url.URL{Scheme: "http", Host: address, Path: path}, Host: "a",
		Header: http.Header{":protocol": {"websocket"}, "Sec-Websocket-Version": {"13"}}, Body: r, ContentLength: -1,
	}
	resp, err := client.RoundTrip(req.WithContext(t.Context()))
	must(t, err)
	t.Cleanup(func() { resp.Body.Close() })
	return resp, w
}

func talkH2(t *testing.T, address string) {
	t.Helper()
	resp, w := openH2(t, address, "/ws") //nolint:bodyclose // openH2 sees to it
	if resp.StatusCode != http.StatusOK || resp.Header.Get("X-Path") != "/ws" || resp.Header.Get("Sec-Websocket-Accept") != "" {
		t.Fatalf("%s %v", resp.Status, resp.Header)
	}
	in := bufio.NewReader(resp.Body)
	for _, message := range []string{"hello", "", strings.Repeat("x", 60_000)} {
		_, err := w.Write(frameOf(2, message))
		must(t, err)
		if kind, got := readFrame(t, in); kind != 2 || got != message {
			t.Errorf("%d bytes came back as %d of kind %d", len(message), len(got), kind)
		}
	}
	_, err := w.Write(frameOf(8, "\x03\xe8"))
	must(t, err)
	if kind, got := readFrame(t, in); kind != 8 || got != "\x03\xe8" {
		t.Errorf("the end is %d %q", kind, got)
	}
	if _, err := in.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("after the end: %v", err)
	}
	resp, _ = openH2(t, address, "/no") //nolint:bodyclose // openH2 sees to it
	if body, err := io.ReadAll(resp.Body); resp.StatusCode != http.StatusTeapot || !strings.Contains(string(body), "not today") {
		t.Errorf("refused with %s %q, %v", resp.Status, body, err)
	}
}

// frameOf is a masked frame (RFC 6455 section 5.2) whose mask is zero.
func frameOf(kind byte, message string) []byte {
	head := []byte{0x80 | kind, 0x80 | byte(len(message))}
	if len(message) > 125 {
		head = binary.BigEndian.AppendUint16([]byte{0x80 | kind, 0x80 | 126}, uint16(len(message)))
	}
	return append(append(head, 0, 0, 0, 0), message...)
}

func readFrame(t *testing.T, in io.Reader) (kind byte, message string) {
	t.Helper()
	head := make([]byte, 2, 4)
	_, err := io.ReadFull(in, head)
	must(t, err)
	size := int(head[1])
	if size == 126 {
		_, err = io.ReadFull(in, head[2:4])
		must(t, err)
		size = int(binary.BigEndian.Uint16(head[2:4]))
	}
	b := make([]byte, size)
	_, err = io.ReadFull(in, b)
	must(t, err)
	return head[0] & 0xf, string(b)
}

// TestWebSocketRefused looks at upstreams that cannot, or answer what nobody may.
func TestWebSocketRefused(t *testing.T) {
	app := bothProtocols(t)
	t.Run("a wrong answer to the key", func(t *testing.T) {
		resp, _ := openH2(t, front(t, app, mesh.HTTP1, nil), "/wrong") //nolint:bodyclose // openH2 sees to it
		if resp.StatusCode != http.StatusBadGateway {
			t.Error(resp.Status)
		}
	})
	t.Run("no extended CONNECT", func(t *testing.T) {
		_, resp, err := websocket.DefaultDialer.DialContext(t.Context(), "ws://"+front(t, app, mesh.HTTP2, nil), nil)
		if err == nil {
			t.Fatal("it did switch")
		}
		defer resp.Body.Close()
		if resp.StatusCode != http.StatusBadGateway {
			t.Error(resp.Status)
		}
	})
	t.Run("101 unasked", func(t *testing.T) {
		liar := tcp(t, func(conn net.Conn) {
			bufio.NewReader(conn).ReadString('\n')                                                              //nolint:errcheck // the answer tells
			io.WriteString(conn, "HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n") //nolint:errcheck // as above
		})
		for _, h2 := range []bool{false, true} {
			req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, "http://"+front(t, liar, mesh.HTTP1, nil), nil)
			must(t, err)
			resp, err := asker(t, h2).Do(req)
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode != http.StatusBadGateway {
				t.Error(fmt.Sprint(h2, resp.Status))
			}
		}
	})
}
