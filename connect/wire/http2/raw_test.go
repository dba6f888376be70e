package http2_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// raw is the other side of a connection, frame by frame.
type raw struct {
	t    testing.TB
	conn net.Conn
	fr   *http2.Framer
	enc  *hpack.Encoder
	buf  bytes.Buffer
	dec  *hpack.Decoder
}

func newRaw(t testing.TB, conn net.Conn) *raw {
	r := &raw{t: t, conn: conn, fr: http2.NewFramer(conn, conn), dec: hpack.NewDecoder(4096, nil)}
	r.fr.AllowIllegalWrites = true
	r.enc = hpack.NewEncoder(&r.buf)
	conn.SetDeadline(time.Now().Add(time.Minute))
	t.Cleanup(func() { conn.Close() })
	return r
}

// rawClient connects to a server and says what a client says first.
func rawClient(t testing.TB, addr string) *raw {
	t.Helper()
	conn, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	r := newRaw(t, conn)
	io.WriteString(conn, http2.ClientPreface)
	r.fr.WriteSettings()
	return r
}

// block encodes fields, given as "name", "value", ...
func (r *raw) block(fields ...string) []byte {
	r.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		r.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]})
	}
	return bytes.Clone(r.buf.Bytes())
}

// headers sends a head in one frame.
func (r *raw) headers(id uint32, ended bool, fields ...string) {
	r.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: r.block(fields...), EndStream: ended, EndHeaders: true})
}

// get sends a plain request, with more fields.
func (r *raw) get(id uint32, more ...string) { r.headers(id, true, request("GET", more...)...) }

// post sends the head of a request with a body.
func (r *raw) post(id uint32, more ...string) { r.headers(id, false, request("POST", more...)...) }

func request(method string, more ...string) []string {
	return append([]string{":method", method, ":scheme", "http", ":path", "/", ":authority", "a"}, more...)
}

// event is what a peer has said, in short.
func (r *raw) next() string {
	for {
		f, err := r.fr.ReadFrame()
		if err != nil {
			if errors.Is(err, io.EOF) {
				return "EOF"
			}
			return "error " + err.Error()
		}
		switch f := f.(type) {
		case *http2.HeadersFrame:
			text := r.fields(f.HeaderBlockFragment())
			if f.StreamEnded() {
				text += " end"
			}
			return fmt.Sprintf("HEADERS %d %s", f.StreamID, text)
		case *http2.DataFrame:
			end := ""
			if f.StreamEnded() {
				end = " end"
			}
			return fmt.Sprintf("DATA %d %q%s", f.StreamID, f.Data(), end)
		case *http2.RSTStreamFrame:
			return fmt.Sprintf("RST %d %s", f.StreamID, f.ErrCode)
		case *http2.GoAwayFrame:
			return fmt.Sprintf("GOAWAY %s", f.ErrCode)
		case *http2.PingFrame:
			if f.IsAck() {
				return "PONG"
			}
			// Past the framer, which somebody else may be writing with.
			r.conn.Write(append([]byte{0, 0, 8, byte(http2.FramePing), byte(http2.FlagPingAck), 0, 0, 0, 0}, f.Data[:]...))
		}
	}
}

// fields decodes a head, all but what changes.
func (r *raw) fields(block []byte) string {
	all, err := r.dec.DecodeFull(block)
	if err != nil {
		return err.Error()
	}
	var text []string
	for _, f := range all {
		switch f.Name {
		case "date", "content-type", "user-agent":
		default:
			text = append(text, f.Name+"="+f.Value)
		}
	}
	return strings.Join(text, " ")
}

// until reads events up to one that begins with one of these, and returns it.
func (r *raw) until(prefixes ...string) string {
	r.t.Helper()
	var all []string
	for {
		event := r.next()
		all = append(all, event)
		for _, prefix := range prefixes {
			if strings.HasPrefix(event, prefix) {
				return event
			}
		}
		if event == "EOF" || strings.HasPrefix(event, "error ") {
			r.t.Errorf("wanted %q, got %q", prefixes, all)
			return event
		}
	}
}
