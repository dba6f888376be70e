package http2_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/wire"
	serai "github.com/serai-net/serai/connect/wire/http2"
)

// echo answers with what it got.
func echo(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	var text strings.Builder
	text.WriteString(req.Method + " " + req.Authority + req.Path)
	for name, value := range req.Header.All() {
		text.WriteString(" " + name + "=" + value)
	}
	if req.Body != nil {
		buf := make([]byte, 1024)
		for {
			n, err := req.Body.Read(buf)
			text.Write(buf[:n])
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				return nil, err
			}
		}
		for name, value := range req.Body.Trailer().All() {
			text.WriteString(" trailer " + name + "=" + value)
		}
	}
	resp := &wire.Response{Status: 200, ContentLength: int64(text.Len()), Body: wire.NewBytes([]byte(text.String()))}
	return resp, nil
}

// TestStrict sends what is no HTTP/2 and looks at the answer; unless it is a
// GOAWAY, the connection must live on.
func TestStrict(t *testing.T) {
	checkLeaks(t)
	long := strings.Repeat("x", 70_000)
	for _, test := range []struct {
		name string
		send func(r *raw)
		want string
	}{
		{"get", func(r *raw) { r.get(1) }, `DATA 1 "GET a/" end`},
		{"post", func(r *raw) { r.post(1); r.fr.WriteData(1, true, []byte("hello")) }, `DATA 1 "POST a/hello" end`},
		{"trailers", func(r *raw) {
			r.post(1)
			r.fr.WriteData(1, false, []byte("b"))
			r.headers(1, true, "x-sum", "1", "content-type", "dropped")
		}, `DATA 1 "POST a/b trailer x-sum=1" end`},
		{"padding", func(r *raw) { r.post(1); r.fr.WriteDataPadded(1, true, []byte("hi"), make([]byte, 50)) }, `DATA 1 "POST a/hi" end`},
		{"cookies are joined", func(r *raw) { r.get(1, "cookie", "a=b", "x", "y", "cookie", "c=d") }, `DATA 1 "GET a/ cookie=a=b; c=d x=y" end`},
		{"host alone", func(r *raw) {
			r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", "host", "b")
		}, `DATA 1 "GET b/" end`},
		{"host and authority agree", func(r *raw) { r.get(1, "host", "A") }, `DATA 1 "GET a/" end`},
		{"te: trailers", func(r *raw) { r.get(1, "te", "trailers") }, `DATA 1 "GET a/ te=trailers" end`},
		{"asterisk", func(r *raw) {
			r.headers(1, true, ":method", "OPTIONS", ":scheme", "http", ":path", "*", ":authority", "a")
		}, `DATA 1 "OPTIONS a*" end`},
		{"continuation", func(r *raw) {
			b := r.block(request("GET", "x", "y")...)
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:3], EndStream: true})
			r.fr.WriteContinuation(1, false, b[3:5])
			r.fr.WriteContinuation(1, true, b[5:])
		}, `DATA 1 "GET a/ x=y" end`},
		{"priority", func(r *raw) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: r.block(request("GET")...), EndStream: true, EndHeaders: true,
				Priority: http2.PriorityParam{StreamDep: 7, Weight: 3},
			})
		}, `DATA 1 "GET a/" end`},
		{"unknown frame", func(r *raw) { r.fr.WriteRawFrame(99, 0xff, 1, []byte("?")); r.get(1) }, `DATA 1 "GET a/" end`},
		{"ping", func(r *raw) { r.fr.WritePing(false, [8]byte{1}) }, "PONG"},
		{"reset of an ended stream", func(r *raw) {
			r.get(1)
			r.until("DATA 1")
			r.fr.WriteRSTStream(1, http2.ErrCodeCancel)
			r.get(3)
		}, `DATA 3 "GET a/" end`},

		// malformed messages: RFC 9113 section 8.1.1
		{"upper case", func(r *raw) { r.get(1, "X-Upper", "y") }, "RST 1 PROTOCOL_ERROR"},
		{"empty name", func(r *raw) { r.get(1, "", "y") }, "RST 1 PROTOCOL_ERROR"},
		{"NUL in value", func(r *raw) { r.get(1, "x", "a\x00b") }, "RST 1 PROTOCOL_ERROR"},
		{"LF in value", func(r *raw) { r.get(1, "x", "a\nb") }, "RST 1 PROTOCOL_ERROR"},
		{"space around value", func(r *raw) { r.get(1, "x", " a") }, "RST 1 PROTOCOL_ERROR"},
		{"colon in name", func(r *raw) { r.get(1, "x:y", "a") }, "RST 1 PROTOCOL_ERROR"},
		{"connection", func(r *raw) { r.get(1, "connection", "close") }, "RST 1 PROTOCOL_ERROR"},
		{"transfer-encoding", func(r *raw) { r.post(1, "transfer-encoding", "chunked") }, "RST 1 PROTOCOL_ERROR"},
		{"upgrade", func(r *raw) { r.get(1, "upgrade", "h2c") }, "RST 1 PROTOCOL_ERROR"},
		{"te: gzip", func(r *raw) { r.get(1, "te", "trailers, gzip") }, "RST 1 PROTOCOL_ERROR"},
		{"unknown pseudo", func(r *raw) { r.get(1, ":test", "x") }, "RST 1 PROTOCOL_ERROR"},
		{"status in a request", func(r *raw) { r.get(1, ":status", "200") }, "RST 1 PROTOCOL_ERROR"},
		{"pseudo behind", func(r *raw) {
			r.headers(1, true, ":method", "GET", ":scheme", "http", "x", "y", ":path", "/", ":authority", "a")
		}, "RST 1 PROTOCOL_ERROR"},
		{"method twice", func(r *raw) { r.get(1, ":method", "GET") }, "RST 1 PROTOCOL_ERROR"},
		{"no method", func(r *raw) { r.headers(1, true, ":scheme", "http", ":path", "/") }, "RST 1 PROTOCOL_ERROR"},
		{"no path", func(r *raw) { r.headers(1, true, ":method", "GET", ":scheme", "http") }, "RST 1 PROTOCOL_ERROR"},
		{"no scheme", func(r *raw) { r.headers(1, true, ":method", "GET", ":path", "/") }, "RST 1 PROTOCOL_ERROR"},
		{"empty path", func(r *raw) { r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "") }, "RST 1 PROTOCOL_ERROR"},
		{"relative path", func(r *raw) { r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "a/b") }, "RST 1 PROTOCOL_ERROR"},
		{"space in path", func(r *raw) {
			r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/ HTTP/1.1\r\nx: y")
		}, "RST 1 PROTOCOL_ERROR"},
		{"bad method", func(r *raw) { r.headers(1, true, ":method", "G T", ":scheme", "http", ":path", "/") }, "RST 1 PROTOCOL_ERROR"},
		{"strange scheme", func(r *raw) { r.headers(1, true, ":method", "GET", ":scheme", "ftp", ":path", "/") }, "RST 1 PROTOCOL_ERROR"},
		{"bad authority", func(r *raw) {
			r.headers(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "u@a")
		}, "RST 1 PROTOCOL_ERROR"},
		{"another host", func(r *raw) { r.get(1, "host", "b") }, "RST 1 PROTOCOL_ERROR"},
		{"two hosts", func(r *raw) { r.get(1, "host", "a", "host", "a") }, "RST 1 PROTOCOL_ERROR"},
		{"signed length", func(r *raw) { r.post(1, "content-length", "+5") }, "RST 1 PROTOCOL_ERROR"},
		{"two lengths", func(r *raw) { r.post(1, "content-length", "5", "content-length", "5") }, "RST 1 PROTOCOL_ERROR"},
		{"length without body", func(r *raw) { r.get(1, "content-length", "5") }, "RST 1 PROTOCOL_ERROR"},
		{"body too long", func(r *raw) { r.post(1, "content-length", "1"); r.fr.WriteData(1, false, []byte("ab")) }, "RST 1 PROTOCOL_ERROR"},
		{"body of length 0", func(r *raw) { r.post(1, "content-length", "0"); r.fr.WriteData(1, false, []byte("a")) }, "RST 1 PROTOCOL_ERROR"},
		{"switch to HTTP/2", func(r *raw) {
			r.headers(1, false, ":method", "CONNECT", ":protocol", "H2C", ":scheme", "http", ":path", "/", ":authority", "a")
		}, "RST 1 PROTOCOL_ERROR"},
		{"body too short", func(r *raw) { r.post(1, "content-length", "5"); r.fr.WriteData(1, true, []byte("ab")) }, "RST 1 PROTOCOL_ERROR"},
		{"body too short before trailers", func(r *raw) { r.post(1, "content-length", "5"); r.headers(1, true, "x", "y") }, "RST 1 PROTOCOL_ERROR"},
		{"protocol without CONNECT", func(r *raw) { r.get(1, ":protocol", "websocket") }, "RST 1 PROTOCOL_ERROR"},
		{"CONNECT with path", func(r *raw) {
			r.headers(1, true, ":method", "CONNECT", ":path", "/", ":authority", "a:1")
		}, "RST 1 PROTOCOL_ERROR"},
		{"trailers do not end", func(r *raw) { r.post(1); r.headers(1, false, "x", "y") }, "RST 1 PROTOCOL_ERROR"},
		{"pseudo in trailers", func(r *raw) { r.post(1); r.headers(1, true, ":method", "GET") }, "RST 1 PROTOCOL_ERROR"},
		{"length in trailers", func(r *raw) { r.post(1); r.headers(1, true, "content-length", "1") }, "RST 1 PROTOCOL_ERROR"},
		{"depends on itself", func(r *raw) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{
				StreamID: 1, BlockFragment: r.block(request("GET")...), EndStream: true, EndHeaders: true,
				Priority: http2.PriorityParam{StreamDep: 1},
			})
		}, "RST 1 PROTOCOL_ERROR"},
		{"data after the end, unanswered", func(r *raw) {
			r.headers(1, false, request("WAIT")...)
			r.fr.WriteData(1, true, nil)
			r.until("HEADERS 1")
			r.fr.WriteData(1, true, nil)
		}, "RST 1 STREAM_CLOSED"},
		{"window update of 0", func(r *raw) { r.post(1); r.fr.WriteWindowUpdate(1, 0) }, "RST 1 PROTOCOL_ERROR"},
		{"window of a stream too large", func(r *raw) { r.post(1); r.fr.WriteWindowUpdate(1, 1<<31-1) }, "RST 1 FLOW_CONTROL_ERROR"},
		{"data after the end", func(r *raw) {
			r.post(1)
			r.fr.WriteData(1, true, nil)
			r.until("DATA 1")
			r.fr.WriteData(1, true, nil)
		}, "RST 1 STREAM_CLOSED"},

		// answers without a service
		{"no CONNECT", func(r *raw) { r.headers(1, false, ":method", "CONNECT", ":authority", "a:1") }, "HEADERS 1 :status=405 end"},
		{"head too large", func(r *raw) {
			b := r.block(request("GET", "a", long[:16000], "b", long[:16000], "c", long[:16000], "d", long[:16000])...)
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:16000], EndStream: true})
			for b = b[16000:]; len(b) > 16000; b = b[16000:] {
				r.fr.WriteContinuation(1, false, b[:16000])
			}
			r.fr.WriteContinuation(1, true, b)
		}, "HEADERS 1 :status=431 end"},
		{"too many fields", func(r *raw) {
			var more []string
			for range 101 {
				more = append(more, "x", "y")
			}
			r.get(1, more...)
		}, "HEADERS 1 :status=431 end"},

		// what breaks the connection
		{"data on an idle stream", func(r *raw) { r.fr.WriteData(1, true, nil) }, "GOAWAY PROTOCOL_ERROR"},
		{"reset of an idle stream", func(r *raw) { r.fr.WriteRSTStream(1, 0) }, "GOAWAY PROTOCOL_ERROR"},
		{"window of an idle stream", func(r *raw) { r.fr.WriteWindowUpdate(1, 1) }, "GOAWAY PROTOCOL_ERROR"},
		{"window update of the connection by 0", func(r *raw) { r.fr.WriteWindowUpdate(0, 0) }, "GOAWAY PROTOCOL_ERROR"},
		{"window too large", func(r *raw) { r.fr.WriteWindowUpdate(0, 1<<31-1) }, "GOAWAY FLOW_CONTROL_ERROR"},
		{"even stream", func(r *raw) { r.get(2) }, "GOAWAY PROTOCOL_ERROR"},
		{"stream passed over", func(r *raw) { r.get(5); r.until("DATA 5"); r.get(3) }, "GOAWAY PROTOCOL_ERROR"},
		{"stream twice", func(r *raw) { r.get(1); r.until("DATA 1"); r.get(1) }, "GOAWAY STREAM_CLOSED"},
		{"push", func(r *raw) {
			r.fr.WritePushPromise(http2.PushPromiseParam{StreamID: 1, PromiseID: 2, BlockFragment: r.block(request("GET")...), EndHeaders: true})
		}, "GOAWAY PROTOCOL_ERROR"},
		{"interrupted head", func(r *raw) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: r.block(request("GET")...), EndStream: true})
			r.fr.WritePing(false, [8]byte{})
		}, "GOAWAY PROTOCOL_ERROR"},
		{"stray continuation", func(r *raw) { r.fr.WriteContinuation(1, true, nil) }, "GOAWAY PROTOCOL_ERROR"},
		{"bad compression", func(r *raw) {
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0xff, 0xff, 0xff}, EndStream: true, EndHeaders: true})
		}, "GOAWAY COMPRESSION_ERROR"},
		{"large frame", func(r *raw) { r.post(1); r.fr.WriteData(1, true, make([]byte, 16385)) }, "GOAWAY FRAME_SIZE_ERROR"},
		{"short ping", func(r *raw) { r.fr.WriteRawFrame(http2.FramePing, 0, 0, []byte("short")) }, "GOAWAY FRAME_SIZE_ERROR"},
		{"ping on a stream", func(r *raw) { r.fr.WriteRawFrame(http2.FramePing, 0, 1, make([]byte, 8)) }, "GOAWAY PROTOCOL_ERROR"},
		{"odd settings", func(r *raw) { r.fr.WriteRawFrame(http2.FrameSettings, 0, 0, make([]byte, 5)) }, "GOAWAY FRAME_SIZE_ERROR"},
		{"settings on a stream", func(r *raw) { r.fr.WriteRawFrame(http2.FrameSettings, 0, 1, nil) }, "GOAWAY PROTOCOL_ERROR"},
		{"bad window setting", func(r *raw) {
			r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 31})
		}, "GOAWAY FLOW_CONTROL_ERROR"},
		{"bad frame size setting", func(r *raw) {
			r.fr.WriteSettings(http2.Setting{ID: http2.SettingMaxFrameSize, Val: 100})
		}, "GOAWAY PROTOCOL_ERROR"},
		{"bad padding", func(r *raw) {
			r.post(1)
			r.fr.WriteRawFrame(http2.FrameData, http2.FlagDataPadded, 1, []byte{9, 1})
		}, "GOAWAY PROTOCOL_ERROR"},
		{"more than the window", func(r *raw) {
			r.post(1)
			r.until("HEADERS") // it is being served
			for range 100 {
				r.fr.WriteData(1, false, make([]byte, 16384))
			}
		}, "RST 1 FLOW_CONTROL_ERROR"},
	} {
		t.Run(test.name, func(t *testing.T) {
			service := wire.ServiceFunc(echo)
			if test.name == "more than the window" || test.name == "data after the end, unanswered" {
				service = stuck
			}
			s := serve(t, serai.Config{Bounds: serai.Bounds{ConnWindow: 1 << 20}}, service)
			r := rawClient(t, s.addr)
			test.send(r)
			if got := r.until("DATA", "RST", "GOAWAY", "PONG", "HEADERS 1 :status=4"); got != test.want {
				t.Fatalf("got %s, want %s", got, test.want)
			}
			if strings.HasPrefix(test.want, "GOAWAY") {
				if got := r.until("EOF", "error"); got != "EOF" && !strings.Contains(got, "reset") {
					t.Errorf("then: %s", got)
				}
				return
			}
			r.get(101)
			if got := r.until("DATA 101", "GOAWAY"); got != `DATA 101 "GET a/" end` {
				t.Errorf("afterwards: %s", got)
			}
		})
	}
}

// stuck answers at once, and leaves the body unread until the client is gone.
func stuck(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	if req.Method == "GET" {
		return echo(x, req)
	}
	if err := x.Interim(103, &wire.Header{}); err != nil {
		return nil, err
	}
	<-x.Context().Done()
	return nil, &wire.Fault{Status: 500}
}

// TestPreface speaks something else.
func TestPreface(t *testing.T) {
	checkLeaks(t)
	s := serve(t, serai.Config{}, wire.ServiceFunc(echo))
	for _, first := range []string{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", http2.ClientPreface[:20] + "XXXX", http2.ClientPreface + "\x00\x00\x08\x06\x00\x00\x00\x00\x0012345678"} {
		r := rawClientSaying(t, s.addr, first)
		if got := r.until("GOAWAY", "EOF"); got != "GOAWAY PROTOCOL_ERROR" {
			t.Errorf("%q: %s", first, got)
		}
	}
	if got := s.server.Stats.Broken.Load(); got != 3 {
		t.Errorf("%d connections count as broken", got)
	}
}

func rawClientSaying(t testing.TB, addr, first string) *raw {
	t.Helper()
	r := newRaw(t, dial(t, addr))
	io.WriteString(r.conn, first)
	return r
}

// TestHeadStaysHead: what a layer makes of the method does not give HEAD a body.
func TestHeadStaysHead(t *testing.T) {
	r := serve(t, serai.Config{}, wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		req.Method = "POST"
		return wire.Text(200, "a body"), nil
	}))
	c := rawClient(t, r.addr)
	c.headers(1, true, request("HEAD")...)
	if got := c.until("HEADERS 1", "DATA"); got != "HEADERS 1 :status=200 content-length=6 end" {
		t.Error(got)
	}
}
