package integration_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"testing"
	"time"
)

// TestIntentionEndsStreams: a WebSocket that is open when its caller loses the right to call ends, while that of
// another caller, and of one that is still allowed something, lives.
func TestIntentionEndsStreams(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http", "guest": "http"})
	w.allow(t, "web", "api")
	w.allow(t, "guest", "api")
	w.run(t, "api-1", "api")
	web, guest := w.run(t, "web-1", "web", "api"), w.run(t, "guest-1", "guest", "api")
	w.waitOK(t, web.url("api", "/"), guest.url("api", "/"))
	theirs, others := webSocket(t, web.upstreams["api"]), webSocket(t, guest.upstreams["api"])
	theirs.says(t)
	others.says(t)
	must(t, w.consul.Intention(t.Context(), "web", "api", false))
	written := time.Now()
	if err := theirs.ends(t); err != nil {
		t.Errorf("it lives on though nothing is allowed: %v", err)
	}
	took := time.Since(written)
	t.Logf("it ended %v after the intention was written", took.Round(time.Millisecond))
	if took > effective {
		t.Errorf("that is more than %v", effective)
	}
	others.says(t)
	waitStatus(t, web.url("api", "/"), http.StatusForbidden)
}

// socketed is a connection after 101.
type socketed struct {
	net.Conn
	in *bufio.Reader
}

func webSocket(t *testing.T, port int) *socketed {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(t.Context(), "tcp", local(port))
	must(t, err)
	t.Cleanup(func() { drop(conn) })
	must(t, conn.SetDeadline(time.Now().Add(2*patience)))
	_, err = io.WriteString(conn, "GET /upgrade HTTP/1.1\r\nHost: api\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
	must(t, err)
	s := &socketed{conn, bufio.NewReader(conn)}
	resp, err := http.ReadResponse(s.in, nil)
	must(t, err)
	defer drop(resp.Body)
	if resp.StatusCode != http.StatusSwitchingProtocols {
		t.Fatalf("status %d", resp.StatusCode)
	}
	return s
}

// says sends a word and expects it back.
func (s *socketed) says(t *testing.T) {
	t.Helper()
	_, err := io.WriteString(s, "word")
	must(t, err)
	back := make([]byte, 4)
	if _, err := io.ReadFull(s.in, back); err != nil || string(back) != "word" {
		t.Fatalf("%q, %v", back, err)
	}
}

// ends waits until the other side ends it.
func (s *socketed) ends(t *testing.T) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = s.SetReadDeadline(time.Now()) })
	defer stop()
	if _, err := io.Copy(io.Discard, s.in); os.IsTimeout(err) {
		return fmt.Errorf("not within %v", patience)
	}
	return nil
}
