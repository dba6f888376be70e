package http1_test

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

// TestBadServices answers in ways that no service should.
func TestBadServices(t *testing.T) {
	checkLeaks(t)
	broken := errors.New("broken")
	respond := func(resp *wire.Response) func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			if s, ok := respBody(resp).(*stream); ok { // a stream is read once
				fresh := newStream("abc").end()
				fresh.err = s.err
				resp.Body = fresh
			}
			return resp, nil
		}
	}
	header := func(name, value string) *wire.Response {
		resp := wire.Text(200, "x")
		resp.Header.Add(name, value)
		return resp
	}
	failing := newStream()
	failing.err = broken
	services := byPath{
		"/nil":       respond(nil),
		"/error":     func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return nil, broken },
		"/panic":     func(*wire.Exchange, *wire.Request) (*wire.Response, error) { panic("at the disco") },
		"/status":    respond(&wire.Response{Status: 42}),
		"/interim":   respond(&wire.Response{Status: 103}),
		"/switch":    respond(&wire.Response{Status: 101, Body: newStream()}),
		"/length":    respond(&wire.Response{Status: 200, ContentLength: 3}),
		"/newline":   respond(header("a", "b\r\nc: d")),
		"/nul":       respond(header("a", "b\x00")),
		"/name":      respond(header("a b", "c")),
		"/uppercase": respond(header("Content-Length", "3")),
		"/short":     respond(&wire.Response{Status: 200, ContentLength: 4, Body: newStream()}),
		"/long":      respond(&wire.Response{Status: 200, ContentLength: 2, Body: newStream()}),
		"/broken":    respond(&wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: failing}),
		"/ok":        respond(&wire.Response{Status: 200}),
	}
	var log bytes.Buffer
	server := http1.NewServer(http1.Config{Buffers: poisoned()}, func() wire.Service { return services }, slog.New(slog.NewTextHandler(&log, nil)))
	for path, want := range map[string]string{
		"/nil": "500", "/error": "500", "/panic": "500", "/status": "500", "/interim": "500", "/switch": "500",
		"/length": "500", "/newline": "500", "/nul": "500", "/name": "500", "/uppercase": "500",
		"/short": "cut", "/long": "cut", "/broken": "cut",
	} {
		t.Run(path, func(t *testing.T) {
			log.Reset()
			near, far := net.Pipe()
			var wg sync.WaitGroup
			wg.Go(func() { server.Serve(far, &wire.Peer{}, nil) })
			defer wg.Wait()
			defer near.Close()
			near.SetDeadline(time.Now().Add(time.Minute))
			send(t, near, get(path))
			br := bufio.NewReader(near)
			resp, err := http.ReadResponse(br, nil)
			if err != nil {
				if want == "cut" {
					return
				}
				t.Fatal(err)
			}
			body, err := io.ReadAll(resp.Body)
			if want == "cut" {
				if err == nil {
					t.Errorf("got a whole response: %s %q", resp.Status, body)
				}
				return
			}
			if err != nil || fmt.Sprint(resp.StatusCode) != want {
				t.Errorf("got %s, %v", resp.Status, err)
			}
			if (log.Len() == 0) != (path == "/error") {
				t.Errorf("logged: %q", log.String())
			}
			if path == "/panic" {
				return
			}
			send(t, near, get("/ok")) // the connection lives on
			if resp, _ := answer(t, br, "GET"); resp.StatusCode != 200 {
				t.Errorf("afterwards: %s", resp.Status)
			}
		})
	}
	if got := server.Stats.Panics.Load(); got != 1 {
		t.Errorf("%d panics were counted", got)
	}
}

func respBody(resp *wire.Response) wire.Body {
	if resp == nil {
		return nil
	}
	return resp.Body
}
