package http2_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
	serai "github.com/serai-net/serai/connect/wire/http2"
)

// TestFloods sends what costs little and makes others work; the connection ends.
func TestFloods(t *testing.T) {
	checkLeaks(t)
	for name, flood := range map[string]func(r *raw, i int) error{
		"rapid reset": func(r *raw, i int) error {
			r.get(uint32(2*i + 1))
			return r.fr.WriteRSTStream(uint32(2*i+1), http2.ErrCodeCancel)
		},
		"resets that we make": func(r *raw, i int) error {
			r.post(uint32(2*i+1), "content-length", "1")
			return r.fr.WriteData(uint32(2*i+1), true, nil)
		},
		"malformed requests": func(r *raw, i int) error {
			r.get(uint32(2*i+1), "connection", "close")
			return nil
		},
		"window updates that are wrong": func(r *raw, i int) error {
			r.post(uint32(2*i + 1))
			return r.fr.WriteWindowUpdate(uint32(2*i+1), 0)
		},
		"ping":           func(r *raw, _ int) error { return r.fr.WritePing(false, [8]byte{}) },
		"settings":       func(r *raw, _ int) error { return r.fr.WriteSettings() },
		"priority":       func(r *raw, _ int) error { return r.fr.WritePriority(1, http2.PriorityParam{StreamDep: 3}) },
		"window updates": func(r *raw, _ int) error { return r.fr.WriteWindowUpdate(0, 1) },
		"unknown frames": func(r *raw, _ int) error { return r.fr.WriteRawFrame(0x77, 0, 0, nil) },
		"empty data": func(r *raw, i int) error {
			if i == 0 {
				r.post(1)
			}
			return r.fr.WriteData(1, false, nil)
		},
		"padding only": func(r *raw, i int) error {
			if i == 0 {
				r.post(1)
			}
			return r.fr.WriteDataPadded(1, false, nil, make([]byte, 10))
		},
		"continuation": func(r *raw, i int) error {
			if i == 0 {
				return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(request("GET")...)})
			}
			return r.fr.WriteContinuation(1, false, nil)
		},
		"continuation with fields": func(r *raw, i int) error {
			if i == 0 {
				return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(request("GET")...)})
			}
			return r.fr.WriteContinuation(1, false, r.block("x", strings.Repeat("y", 8000)))
		},
	} {
		t.Run(name, func(t *testing.T) {
			var running, most atomic.Int64
			s := serve(t, serai.Config{}, wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
				defer running.Add(-1)
				if n := running.Add(1); n > most.Load() {
					most.Store(n)
				}
				return echo(x, req)
			}))
			r := rawClient(t, s.addr)
			go func() {
				for i := range 100_000 {
					if flood(r, i) != nil {
						return
					}
				}
			}()
			r.until("GOAWAY ENHANCE_YOUR_CALM", "EOF", "error")
			if !eventually(func() bool { return s.server.Stats.Floods.Load() == 1 }) {
				t.Error("it does not count as a flood")
			}
			if n := most.Load(); n > 200 {
				t.Errorf("%d exchanges at a time", n)
			}
		})
	}
}

// TestKeepalivePings asks as often as clients do who mean well.
func TestModestPings(t *testing.T) {
	checkLeaks(t)
	s := serve(t, serai.Config{}, wire.ServiceFunc(echo))
	r := rawClient(t, s.addr)
	for i := range 2000 { // a PING with every request
		r.fr.WritePing(false, [8]byte{})
		r.get(uint32(2*i + 1))
		if got := r.until(fmt.Sprintf("DATA %d", 2*i+1), "GOAWAY"); strings.HasPrefix(got, "GOAWAY") {
			t.Fatal(got)
		}
	}
}

// TestTableBomb makes large heads of few bytes.
func TestTableBomb(t *testing.T) {
	checkLeaks(t)
	s := serve(t, serai.Config{}, wire.ServiceFunc(echo))
	r := rawClient(t, s.addr)
	r.get(1, "x-bomb", strings.Repeat("b", 3900)) // fills the table
	r.until("DATA 1")
	block := r.block(request("GET")...)
	bomb := r.block("x-bomb", strings.Repeat("b", 3900))
	if len(bomb) != 1 {
		t.Fatalf("the bomb has %d bytes", len(bomb))
	}
	for range 4000 {
		block = append(block, bomb...)
	}
	r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: block, EndStream: true, EndHeaders: true})
	if got := r.until("HEADERS 3", "GOAWAY"); got != "HEADERS 3 :status=431 end" {
		t.Error(got)
	}
}

// TestConcurrency opens more streams than are allowed.
func TestConcurrency(t *testing.T) {
	checkLeaks(t)
	release := make(chan bool)
	s := serve(t, serai.Config{MaxStreams: 3}, wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		<-release
		return echo(x, req)
	}))
	r := rawClient(t, s.addr)
	for id := uint32(1); id <= 9; id += 2 {
		r.get(id)
	}
	for _, want := range []string{"RST 7 REFUSED_STREAM", "RST 9 REFUSED_STREAM"} {
		if got := r.until("RST", "DATA"); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
	close(release)
	for range 3 {
		r.until("DATA")
	}
	r.get(11)
	r.until("DATA 11")
	if got := s.server.Stats.Refused.Load(); got != 2 {
		t.Errorf("%d streams count as refused", got)
	}
}

// TestLateFrames sends frames of a stream that was cut off so long ago that nobody
// remembers it. They cost the client nothing.
func TestLateFrames(t *testing.T) {
	checkLeaks(t)
	s := serve(t, serai.Config{}, wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return &wire.Response{Status: http.StatusNoContent}, nil
	}))
	r := rawClient(t, s.addr)
	r.post(1)
	r.until("RST 1 NO_ERROR")
	id := uint32(3)
	for ; id < 201; id += 2 {
		r.get(id)
		r.until(fmt.Sprintf("HEADERS %d", id))
	}
	for range 2 * serai.DefaultMaxResets {
		r.fr.WriteData(1, false, []byte("x"))
	}
	r.headers(1, true, "x-sum", "1")
	r.get(id)
	if got, want := r.until("HEADERS", "RST", "GOAWAY"), fmt.Sprintf("HEADERS %d :status=204 end", id); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// TestWindowShut never opens its window: the response is given up.
func TestWindowShut(t *testing.T) {
	checkLeaks(t)
	gone := make(chan error, 1)
	s := serve(t, serai.Config{Bounds: serai.Bounds{WriteTimeout: 100 * time.Millisecond}},
		wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
			x.OnEnd(ended(gone))
			return &wire.Response{Status: 200, ContentLength: -1, Body: wire.NewBytes(make([]byte, 1<<20))}, nil
		}))
	r := rawClient(t, s.addr)
	r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 10})
	r.get(1)
	if got := r.until("RST"); got != "RST 1 CANCEL" {
		t.Error(got)
	}
	if err := <-gone; err == nil {
		t.Error("the exchange ended well")
	}
	if n := s.server.Stats.Frames.Stalled.Load(); n != 1 {
		t.Errorf("%d streams count as stalled", n)
	}
}

// ended tells how an exchange has.
type ended chan error

func (e ended) End(x *wire.Exchange) { e <- x.Err }

// TestWindows sends through windows that open byte by byte.
func TestWindows(t *testing.T) {
	checkLeaks(t)
	s := serve(t, serai.Config{}, wire.ServiceFunc(echo))
	r := rawClient(t, s.addr)
	r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1})
	r.post(1)
	r.fr.WriteData(1, true, []byte("12345"))
	want := "POST a/12345"
	var got strings.Builder
	for {
		event := r.until("DATA 1")
		text, _, _ := strings.Cut(strings.TrimPrefix(event, `DATA 1 "`), `"`)
		got.WriteString(text)
		if strings.HasSuffix(event, "end") {
			break
		}
		if got.Len() == 3 { // a setting opens it, too
			r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 2})
			continue
		}
		r.fr.WriteWindowUpdate(1, 1)
	}
	if got.String() != want {
		t.Errorf("got %q, want %q", got.String(), want)
	}
}

// TestUnread leaves bodies unread: no more comes than the windows allow, and what
// the connection was lent comes back.
func TestUnread(t *testing.T) {
	checkLeaks(t)
	s := serve(t, serai.Config{Bounds: serai.Bounds{StreamWindow: 1 << 16, ConnWindow: 1 << 17}},
		wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return wire.Text(http.StatusTeapot, ""), nil
		}))
	c := client(t)
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			resp, err := c.Post("http://"+s.addr, "", strings.NewReader(strings.Repeat("x", 1<<20)))
			if err != nil {
				t.Error(err)
				return
			}
			io.Copy(io.Discard, resp.Body)
			resp.Body.Close()
			if resp.StatusCode != http.StatusTeapot {
				t.Error(resp.Status)
			}
		})
	}
	wg.Wait()
}

// TestGone resets a stream whose service waits: it is told at once.
func TestGone(t *testing.T) {
	checkLeaks(t)
	reason := make(chan error, 1)
	var started sync.WaitGroup
	started.Add(1)
	s := serve(t, serai.Config{}, wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
		ctx := x.Context()
		started.Done()
		<-ctx.Done()
		reason <- x.Aborted()
		return nil, wire.Aborted(x.Aborted())
	}))
	r := rawClient(t, s.addr)
	r.get(1)
	started.Wait()
	r.fr.WriteRSTStream(1, http2.ErrCodeCancel)
	if err := <-reason; !errors.Is(err, wire.ErrClientGone) {
		t.Errorf("the reason is %v", err)
	}
	if !eventually(func() bool { return s.server.Stats.Aborted.Load() == 1 }) {
		t.Error("it does not count")
	}
}
