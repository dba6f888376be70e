package http2_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"log/slog"
	"net"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/connect/wire"
	serai "github.com/serai-net/serai/connect/wire/http2"
)

// frames are seeds: what a client might send, well and badly.
func frames(f *testing.F) {
	f.Helper()
	for _, write := range []func(r *raw){
		func(r *raw) { r.get(1) },
		func(r *raw) { r.post(1); r.fr.WriteDataPadded(1, true, []byte("hi"), make([]byte, 3)) },
		func(r *raw) {
			r.post(1, "content-length", "2")
			r.fr.WriteData(1, false, []byte("h"))
			r.headers(1, true, "x", "y")
		},
		func(r *raw) { r.get(1); r.fr.WriteRSTStream(1, 8); r.get(3, "cookie", "a", "cookie", "b") },
		func(r *raw) {
			r.fr.WritePing(false, [8]byte{})
			r.fr.WriteGoAway(1, 0, []byte("x"))
			r.fr.WriteWindowUpdate(0, 5)
		},
		func(r *raw) { r.headers(1, false, ":status", "200"); r.fr.WriteData(1, true, []byte("hi")) },
		func(r *raw) { r.headers(1, false, ":status", "103"); r.headers(1, true, ":status", "204") },
		func(r *raw) {
			b := r.block(request("GET")...)
			r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: b[:2], Priority: http2.PriorityParam{StreamDep: 3}})
			r.fr.WriteContinuation(1, true, b[2:])
		},
		func(r *raw) {
			r.headers(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "a")
		},
	} {
		var out bytes.Buffer
		r := &raw{fr: http2.NewFramer(&out, nil)}
		r.fr.AllowIllegalWrites = true
		r.enc = hpack.NewEncoder(&r.buf)
		r.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 7})
		write(r)
		f.Add(out.Bytes())
	}
}

// FuzzServer sends anything behind the preface. Whatever it is, the server must
// answer in whole frames and end, and forward only what is well formed.
func FuzzServer(f *testing.F) {
	frames(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		service := wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			checkForwarded(t, req)
			return echo(x, req)
		})
		s := serai.NewServer(serai.Config{Connect: true, Bounds: serai.Bounds{Buffers: poisoned()}},
			func() wire.Service { return service }, slog.New(slog.DiscardHandler))
		ours, theirs := net.Pipe()
		done := make(chan bool)
		go func() {
			defer close(done)
			s.Serve(theirs, &wire.Peer{}, nil)
		}()
		answers := make(chan error, 1)
		go func() { answers <- readFrames(ours) }()
		io.WriteString(ours, http2.ClientPreface)
		ours.Write(data)
		ours.Close()
		<-done
		if err := <-answers; err != nil {
			t.Error(err)
		}
	})
}

// checkForwarded looks for what HTTP/1 could be smuggled with.
func checkForwarded(t *testing.T, req *wire.Request) {
	t.Helper()
	for _, text := range []string{req.Method, req.Path, req.Authority} {
		if bytes.ContainsAny([]byte(text), " \r\n\x00") {
			t.Errorf("forwarded %q", text)
		}
	}
	for name, value := range req.Header.All() {
		if bytes.ContainsAny([]byte(name), " :\r\n\x00") || bytes.ContainsAny([]byte(value), "\r\n\x00") || name == "host" || name == "transfer-encoding" {
			t.Errorf("forwarded %q: %q", name, value)
		}
	}
}

// readFrames reads to the end, which may be in the middle of a frame only because
// the connection was closed by us.
func readFrames(r io.Reader) error {
	fr := http2.NewFramer(nil, r)
	for {
		if _, err := fr.ReadFrame(); err != nil {
			if _, of := errors.AsType[http2.StreamError](err); of {
				continue
			}
			io.Copy(io.Discard, r)
			if _, bad := errors.AsType[http2.ConnectionError](err); bad {
				return err
			}
			return nil
		}
	}
}

// FuzzClient answers a request with anything.
func FuzzClient(f *testing.F) {
	frames(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		c := serai.NewClientConn(ours, serai.ClientConfig{Bounds: serai.Bounds{Buffers: poisoned()}})
		done := make(chan bool)
		go func() {
			defer close(done)
			c.Run()
		}()
		go func() {
			go io.Copy(io.Discard, theirs)
			time.AfterFunc(time.Millisecond, func() {
				theirs.Write(data)
				theirs.Close()
			})
		}()
		get(c, "POST", func(_ *wire.Exchange, req *wire.Request) {
			req.Body, req.ContentLength = wire.NewBytes([]byte("hello")), 5
		})
		c.Close()
		<-done
	})
}

// FuzzEncoder writes heads and reads them with the decoder of another.
func FuzzEncoder(f *testing.F) {
	f.Add([]byte("\x01a\x01b\x01a\x01b\x00\x00"))
	f.Add([]byte("\x07:method\x03GET\x07:status\x03200\x06cookie\x01x\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		enc := serai.NewEncoder()
		dec := hpack.NewDecoder(4096, nil)
		take := func() string {
			if len(data) == 0 {
				return ""
			}
			n := min(int(data[0]), len(data)-1)
			s := string(data[1 : 1+n])
			data = data[1+n:]
			return s
		}
		for len(data) > 0 {
			if data[0] == 0xff && len(data) > 4 {
				limit := binary.BigEndian.Uint32(data[1:]) % 5000
				enc.SetLimit(limit)
				dec.SetAllowedMaxDynamicTableSize(min(limit, 4096))
				data = data[5:]
			}
			var want []hpack.HeaderField
			b := enc.Begin(nil)
			for range 5 {
				name, value := take(), take()
				want = append(want, hpack.HeaderField{Name: name, Value: value})
				b = enc.Field(b, name, value)
			}
			got, err := dec.DecodeFull(b)
			if err != nil {
				t.Fatalf("%x: %v", b, err)
			}
			for i := range got {
				got[i].Sensitive = false
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatal(diff)
			}
		}
	})
}
