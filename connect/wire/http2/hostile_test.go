package http2_test

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
	serai "github.com/serai-net/serai/connect/wire/http2"
)

// frame sends a frame that a framer would not.
func (r *raw) frame(t http2.FrameType, flags http2.Flags, id uint32, payload string) error {
	head := []byte{byte(len(payload) >> 16), byte(len(payload) >> 8), byte(len(payload)), byte(t), byte(flags)}
	_, err := io.WriteString(r.conn, string(binary.BigEndian.AppendUint32(head, id))+payload)
	return err
}

// TestHostileUpstream asks twice on one connection, and the upstream does something bad to
// the first stream. What breaks a stream leaves the other one alone; what breaks the
// connection ends both, and nothing hangs or leaks.
func TestHostileUpstream(t *testing.T) {
	checkLeaks(t)
	const lost, malformed = "503 UC repeat 1", "502 UPE repeat 0"
	head := func(r *raw) { r.headers(1, false, ":status", "200") }
	for _, test := range []struct {
		name   string
		script func(r *raw)
		first  string
		other  string // "204" if it lives
	}{
		{"window update of 0", func(r *raw) { r.frame(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x00\x00") }, malformed, "204"},
		{"stream window too large", func(r *raw) { r.frame(http2.FrameWindowUpdate, 0, 1, "\x7f\xff\xff\xff") }, malformed, "204"},
		{"pseudo-header in trailers", func(r *raw) { head(r); r.headers(1, true, ":status", "200") }, "then UPE", "204"},
		{"trailers that do not end", func(r *raw) { head(r); r.headers(1, false, "a", "b") }, "then UPE", "204"},
		{"content-length in trailers", func(r *raw) { head(r); r.headers(1, true, "content-length", "1") }, "then UPE", "204"},
		{"two lengths", func(r *raw) { r.headers(1, true, ":status", "200", "content-length", "1", "content-length", "1") }, malformed, "204"},
		{"body for HEAD's kin 304", func(r *raw) {
			r.headers(1, false, ":status", "304")
			r.fr.WriteData(1, true, []byte("hi"))
		}, "304", "204"},
		{"body for 204", func(r *raw) {
			r.headers(1, false, ":status", "204")
			r.fr.WriteData(1, true, []byte("hi"))
		}, "204", "204"},
		{"goaway below one of two", func(r *raw) {
			r.fr.WriteGoAway(3, http2.ErrCodeNo, nil)
			r.fr.WriteGoAway(1, http2.ErrCodeNo, nil)
			r.headers(1, true, ":status", "200")
		}, "200", "503 UC repeat 2"},
		{"data behind the end", func(r *raw) {
			r.headers(1, true, ":status", "200")
			r.fr.WriteData(1, true, []byte("hi"))
		}, "200", "204"},
		{"depends on itself", func(r *raw) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, EndHeaders: true, EndStream: true, BlockFragment: r.block(":status", "200"),
				Priority: http2.PriorityParam{StreamDep: 1, Weight: 1},
			})
		}, malformed, "204"},

		{"connection window update of 0", func(r *raw) { r.frame(http2.FrameWindowUpdate, 0, 0, "\x00\x00\x00\x00") }, lost, lost},
		{"connection window too large", func(r *raw) { r.frame(http2.FrameWindowUpdate, 0, 0, "\x7f\xff\xff\xff") }, lost, lost},
		{"window update of 3 bytes", func(r *raw) { r.frame(http2.FrameWindowUpdate, 0, 1, "\x00\x00\x01") }, lost, lost},
		{"frame too large", func(r *raw) { r.frame(http2.FrameData, 0, 1, strings.Repeat("x", 16385)) }, lost, lost},
		{"invalid setting", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 1}) }, lost, lost},
		{"window setting too large", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31}) }, lost, lost},
		{"enables push", func(r *raw) { r.fr.WriteSettings(http2.Setting{ID: http2.SettingEnablePush, Val: 1}) }, lost, lost},
		{"settings of 5 bytes", func(r *raw) { r.frame(http2.FrameSettings, 0, 0, "12345") }, lost, lost},
		{"settings of a stream", func(r *raw) { r.frame(http2.FrameSettings, 0, 1, "") }, lost, lost},
		{"head on an idle stream", func(r *raw) { r.headers(5, true, ":status", "200") }, lost, lost},
		{"head on a stream of its own", func(r *raw) { r.headers(2, true, ":status", "200") }, lost, lost},
		{"data on an idle stream", func(r *raw) { r.fr.WriteData(5, true, nil) }, lost, lost},
		{"reset of an idle stream", func(r *raw) { r.fr.WriteRSTStream(5, 0) }, lost, lost},
		{"padding longer than the frame", func(r *raw) { head(r); r.frame(http2.FrameData, http2.FlagDataPadded, 1, "\x09x") }, "then UC", lost},
		{"a block interrupted", func(r *raw) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":status", "200")})
			r.fr.WritePing(false, [8]byte{})
		}, lost, lost},
		{"continuation of nothing", func(r *raw) { r.fr.WriteContinuation(1, true, nil) }, lost, lost},
		{"no HPACK", func(r *raw) { r.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\xff\xff\xff\xff\xff\xff") }, lost, lost},
		{"table larger than we allow", func(r *raw) { r.frame(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 1, "\x3f\xff\xff\x7f\x88") }, lost, lost},
	} {
		t.Run(test.name, func(t *testing.T) {
			asked := make(chan bool)
			c := upstream(t, func(r *raw) {
				r.until("HEADERS 1")
				close(asked)
				r.until("HEADERS 3")
				test.script(r)
				r.headers(3, true, ":status", "204")
			})
			var first, other string
			var both sync.WaitGroup
			both.Go(func() { first = get(c, "GET", nil) })
			both.Go(func() { <-asked; other = get(c, "GET", nil) })
			both.Wait()
			if first != test.first && (!strings.HasPrefix(test.first, "then") || !strings.HasSuffix(first, test.first)) {
				t.Errorf("first %s, want %s", first, test.first)
			}
			if other != test.other {
				t.Errorf("other %s, want %s", other, test.other)
			}
			if c.Gone() != (test.other != "204") {
				t.Errorf("gone: %t", c.Gone())
			}
		})
	}
}

// TestBeyondWindow sends more than a response that nobody reads has room for: more than
// its own window ends the stream, more than the connection's ends that.
func TestBeyondWindow(t *testing.T) {
	checkLeaks(t)
	for _, test := range []struct {
		streams, size int
		told          string
	}{
		{1, 256<<10 + 1, "RST 1 FLOW_CONTROL_ERROR"},
		{5, 250 << 10, "GOAWAY FLOW_CONTROL_ERROR"},
	} {
		told := make(chan string, 1)
		c := upstream(t, func(r *raw) {
			for i := range test.streams {
				id := uint32(2*i + 1)
				r.until(fmt.Sprintf("HEADERS %d ", id))
				r.headers(id, false, ":status", "200")
			}
			for i := range test.streams {
				for left := test.size; left > 0; left -= 16000 {
					r.fr.WriteData(uint32(2*i+1), false, make([]byte, min(left, 16000)))
				}
			}
			told <- r.until("RST", "GOAWAY")
		})
		for range test.streams {
			x := &wire.Exchange{}
			x.Reset(nil, &wire.Peer{}, time.Now())
			if !c.Acquire() {
				t.Fatal("full")
			}
			resp, err := c.RoundTrip(x, x.NewAttempt("c", time.Now()), &wire.Request{Method: "GET", Authority: "a", Path: "/"})
			if err != nil {
				t.Fatal(err)
			}
			defer func() { resp.Body.Close(); x.Done(time.Now()) }()
		}
		if got := <-told; got != test.told {
			t.Errorf("%d streams: %s, want %s", test.streams, got, test.told)
		}
	}
}

// TestHostileFloods sends without end what costs little: the connection ends.
func TestHostileFloods(t *testing.T) {
	checkLeaks(t)
	for name, flood := range map[string]func(r *raw, n int) error{
		"continuation": func(r *raw, n int) error {
			if n == 0 {
				return r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":status", "200")})
			}
			return r.fr.WriteContinuation(1, false, nil)
		},
		"reset of streams that are gone": func(r *raw, _ int) error { return r.fr.WriteRSTStream(1, http2.ErrCodeCancel) },
		"priority":                       func(r *raw, _ int) error { return r.fr.WritePriority(1, http2.PriorityParam{}) },
		"unknown frames":                 func(r *raw, _ int) error { return r.frame(0x77, 0, 0, "x") },
		"table size": func(r *raw, _ int) error {
			return r.fr.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: 1 << 30})
		},
	} {
		t.Run(name, func(t *testing.T) {
			c := upstream(t, func(r *raw) {
				r.until("HEADERS 1")
				for n := 0; flood(r, n) == nil; n++ {
				}
			})
			got := get(c, "GET", nil)
			if !strings.HasPrefix(got, "503 UC") {
				t.Error(got)
			}
			if !eventually(c.Gone) {
				t.Error("the connection lives")
			}
		})
	}
}

// TestEndlessBlock begins a head and never ends it: that holds up all streams, so it may
// not take long.
func TestEndlessBlock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		c := serai.NewClientConn(ours, serai.ClientConfig{})
		go c.Run()
		r := newRaw(t, theirs)
		theirs.SetDeadline(time.Time{})
		go func() {
			io.ReadFull(theirs, make([]byte, len(http2.ClientPreface)))
			r.fr.WriteSettings()
			r.until("HEADERS 1")
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(":status", "200")})
			io.Copy(io.Discard, theirs)
		}()
		start := time.Now()
		if got := get(c, "GET", nil); got != "503 UC repeat 1" || time.Since(start) != serai.DefaultHeaderTimeout {
			t.Errorf("%s after %v", got, time.Since(start))
		}
		theirs.Close()
	})
}

// TestPauses looks at what moves while the other direction pauses.
func TestPauses(t *testing.T) {
	for _, test := range []struct {
		name string
		edit func(x *wire.Exchange, req *wire.Request)
		took time.Duration
		want string
	}{
		{"a response, by the exchange", func(x *wire.Exchange, _ *wire.Request) { x.IdleTimeout = 20 * time.Second }, 20 * time.Second, `200 "" then SI`},
		{"a response while the request moves", func(x *wire.Exchange, req *wire.Request) {
			x.IdleTimeout = 20 * time.Second
			req.Body, req.ContentLength = &slow{left: 50}, -1
		}, 70 * time.Second, `200 "" then SI`},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ours, theirs := net.Pipe()
				c := serai.NewClientConn(ours, serai.ClientConfig{})
				go c.Run()
				r := newRaw(t, theirs)
				theirs.SetDeadline(time.Time{})
				go func() {
					io.ReadFull(theirs, make([]byte, len(http2.ClientPreface)))
					r.fr.WriteSettings()
					r.until("HEADERS 1")
					r.headers(1, false, ":status", "200")
					io.Copy(io.Discard, theirs)
				}()
				start := time.Now()
				if got := get(c, "POST", test.edit); got != test.want {
					t.Errorf("got %s, want %s", got, test.want)
				}
				if took := time.Since(start).Round(time.Second); took != test.took {
					t.Errorf("it took %v, not %v", took, test.took)
				}
				c.Close()
				theirs.Close()
			})
		})
	}
}

// TestSilentClient streams a response to a client that says nothing more but has not
// ended its request, as a call of gRPC that goes both ways may.
func TestSilentClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		service := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			read := make(chan error, 1)
			go func() {
				_, err := req.Body.Read(make([]byte, 10))
				read <- err
			}()
			return &wire.Response{Status: 200, ContentLength: -1, Body: &watched{slow{left: 300}, read}}, nil
		})
		r, said := piped(t, serai.Config{Bounds: serai.Bounds{PingInterval: -1}}, service, nil)
		r.hello()
		r.post(1)
		for event := range said {
			if strings.HasPrefix(event, "RST") || event == "EOF" {
				t.Errorf("cut off: %s", event)
			}
			if strings.HasSuffix(event, " end") {
				break
			}
		}
		r.conn.Close()
		for range said { // to its end
		}
	})
}

// watched is slow, and breaks if the request did.
type watched struct {
	slow
	request chan error
}

func (w *watched) Read(p []byte) (int, error) {
	select {
	case err := <-w.request:
		return 0, fmt.Errorf("the request broke: %w", err)
	default:
		return w.slow.Read(p)
	}
}
