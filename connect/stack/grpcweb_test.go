package stack_test

import (
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// trailing is a body in pieces, with trailers.
type trailing struct {
	io.Reader
	trailer wire.Header
	closed  bool
}

func (s *trailing) Trailer() *wire.Header { return &s.trailer }
func (s *trailing) Close() error          { s.closed = true; return nil }

// pieces is a body that gives one piece at each read, and then these trailers.
func pieces(trailer []wire.Field, all ...string) *trailing {
	readers := make([]io.Reader, len(all))
	for i, piece := range all {
		readers[i] = strings.NewReader(piece)
	}
	s := &trailing{Reader: io.MultiReader(readers...)}
	for _, f := range trailer {
		s.trailer.Add(f.Name, f.Value)
	}
	return s
}

// seen is what a service was asked.
type seen struct {
	Path, Type, TE, Body string
	Length               int64
}

// grpcServer answers each call with message and trailers, and notes what it was asked.
func grpcServer(asked *seen, resp *wire.Response, kind string, trailer []wire.Field, message ...string) wire.Service {
	return wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		*asked = seen{Path: req.Path, Type: req.Header.Get("content-type"), TE: req.Header.Get("te"), Length: req.ContentLength}
		if req.Body != nil {
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return nil, err
			}
			asked.Body = string(body)
		}
		resp.Status = http.StatusOK
		resp.Header.Add("content-type", kind)
		resp.Header.Add("trailer", "grpc-status")
		if message != nil {
			resp.Body, resp.ContentLength = pieces(trailer, message...), wire.UnknownLength
		}
		return resp, nil
	})
}

func b64(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func TestGRPCWeb(t *testing.T) {
	t.Parallel()
	const hello, hi = "\x00\x00\x00\x00\x05hello", "\x00\x00\x00\x00\x02hi"
	const tail = "\x80\x00\x00\x00\x20grpc-status:0\r\ngrpc-message:ok\r\n"
	trailer := []wire.Field{{Name: "grpc-status", Value: "0"}, {Name: "grpc-message", Value: "ok"}}
	for _, test := range []struct {
		name, kind, accept, body string
		wantKind, wantBody       string
		wantType, want           string
	}{
		{"binary", "application/grpc-web+proto", "", hello, "application/grpc+proto", hello, "application/grpc-web+proto", hi + hi + tail},
		{"no codec", "application/grpc-web", "*/*", hello, "application/grpc", hello, "application/grpc-web+proto", hi + hi + tail},
		{"another codec", "Application/gRPC-Web+json; x=y", "", hello, "application/grpc+json", hello, "application/grpc-web+json", hi + hi + tail},
		{"text", "application/grpc-web-text", "application/grpc-web-text", b64(hello), "application/grpc", hello, "application/grpc-web-text+proto", b64(hi) + b64(hi) + b64(tail)},
		{"text, padded in between", "application/grpc-web-text+proto", "", b64(hello[:4]) + b64(hello[4:5]) + b64(hello[5:]), "application/grpc+proto", hello, "application/grpc-web-text+proto", b64(hi) + b64(hi) + b64(tail)},
		{"text in, binary out", "application/grpc-web-text", "application/grpc-web", b64(hello), "application/grpc", hello, "application/grpc-web+proto", hi + hi + tail},
		{"binary in, text out", "application/grpc-web", "application/grpc-web-text, */*", hello, "application/grpc", hello, "application/grpc-web-text+proto", b64(hi) + b64(hi) + b64(tail)},
	} {
		for _, slow := range []bool{false, true} {
			req := request("POST", "/s/m", "content-type", test.kind, "accept", test.accept)
			body := pieces(nil, test.body)
			if slow {
				body.Reader = iotest.OneByteReader(body.Reader)
			}
			req.Body, req.ContentLength = body, int64(len(test.body))
			var asked seen
			resp := &wire.Response{}
			x := exchange(&wire.Peer{})
			got, err := stack.GRPCWeb(grpcServer(&asked, resp, "application/grpc", trailer, hi, hi)).Serve(x, req)
			if err != nil {
				t.Errorf("%s: %v", test.name, err)
				continue
			}
			if asked.Type != test.wantKind || asked.Body != test.wantBody || asked.TE != "trailers" {
				t.Errorf("%s: asked %+v", test.name, asked)
			}
			var reader io.Reader = got.Body
			if slow {
				reader = iotest.OneByteReader(reader)
			}
			answered, err := io.ReadAll(reader)
			if err != nil || string(answered) != test.want || got.Header.Get("content-type") != test.wantType || got.Header.Has("trailer") || got.ContentLength != wire.UnknownLength || got.Body.Trailer().Len() > 0 {
				t.Errorf("%s: %q, %v; want %q; %+v", test.name, answered, err, test.want, got)
			}
		}
	}
}

func TestGRPCWebPasses(t *testing.T) {
	t.Parallel()
	var asked seen
	serve := func(req *wire.Request, answer string, message ...string) *wire.Response {
		t.Helper()
		resp, err := stack.GRPCWeb(grpcServer(&asked, &wire.Response{}, answer, nil, message...)).Serve(exchange(&wire.Peer{}), req)
		if err != nil {
			t.Fatal(err)
		}
		return resp
	}
	for _, kind := range []string{"application/grpc", "application/grpc-webber", "text/plain", ""} {
		if resp := serve(request("POST", "/", "content-type", kind), "application/grpc", "x"); resp.Header.Get("content-type") != "application/grpc" || asked.Type != kind {
			t.Errorf("%q: %+v", kind, resp)
		}
	}
	// An answer that is no gRPC, and one whose trailers are in its head.
	if resp := serve(request("POST", "/", "content-type", "application/grpc-web"), "text/html", "<p>"); resp.Header.Get("content-type") != "text/html" {
		t.Errorf("%+v", resp)
	}
	if resp := serve(request("POST", "/", "content-type", "application/grpc-web"), "application/grpc"); resp.Header.Get("content-type") != "application/grpc-web+proto" || resp.Body != nil {
		t.Errorf("%+v", resp)
	}
}

func TestGRPCWebErrors(t *testing.T) {
	t.Parallel()
	// Errors of our own are told in its terms.
	broken := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return nil, &wire.Fault{Status: 401, Text: "no key", Header: []wire.Field{{Name: "content-type", Value: "application/json"}}}
	})
	got := do(t, stack.GRPCWeb(broken), &wire.Peer{}, request("POST", "/", "content-type", "application/grpc-web-text"))
	want := answer{Status: 200, Body: ""}
	want.Header.Add("content-type", "application/grpc-web-text+proto")
	want.Header.Add("grpc-status", "16")
	want.Header.Add("grpc-message", "no key")
	if diff := cmp.Diff(want, got, cmp.AllowUnexported(wire.Header{})); diff != "" {
		t.Error(diff)
	}
	for _, text := range []string{"AAA", "AAAA\n", "!AAA", "A=AA", "AA=A", "AAAAA", "=", "AAAA===="} {
		req := request("POST", "/", "content-type", "application/grpc-web-text")
		req.Body, req.ContentLength = pieces(nil, text), -1
		var asked seen
		_, err := stack.GRPCWeb(grpcServer(&asked, &wire.Response{}, "application/grpc", nil)).Serve(exchange(&wire.Peer{}), req)
		if fault := wire.AsFault(err); err == nil || fault.Status != 400 || fault.Flag != wire.FlagDownstreamProtocol {
			t.Errorf("%q: %v", text, err)
		}
	}
}

// FuzzGRPCWebText decodes text as a whole and in pieces, which must not differ.
func FuzzGRPCWebText(f *testing.F) {
	for _, text := range []string{"", "AAAA", "AA==AAA=", b64("hello"), "AAAA\nAAAA", "====", "QUI=QUI="} {
		f.Add(text, 3)
	}
	f.Fuzz(func(t *testing.T, text string, size int) {
		decode := func(pieceSize int) (string, error) {
			req := request("POST", "/", "content-type", "application/grpc-web-text")
			var all []string
			for rest := text; rest != ""; {
				n := min(len(rest), pieceSize)
				all, rest = append(all, rest[:n]), rest[n:]
			}
			req.Body, req.ContentLength = pieces(nil, all...), -1
			var asked seen
			_, err := stack.GRPCWeb(grpcServer(&asked, &wire.Response{}, "application/grpc", nil)).Serve(exchange(&wire.Peer{}), req)
			return asked.Body, err
		}
		whole, err := decode(1 << 20)
		split, splitErr := decode(max(1, size))
		if (err == nil) != (splitErr == nil) || whole != split {
			t.Errorf("%q, %v; in pieces of %d %q, %v", whole, err, size, split, splitErr)
		}
		if plain, stdErr := base64.StdEncoding.DecodeString(text); stdErr == nil && !strings.ContainsAny(text, "\r\n") {
			if err != nil || !bytes.Equal(plain, []byte(whole)) {
				t.Errorf("%q, %v; want %q", whole, err, plain)
			}
		}
	})
}

func TestGRPCBridge(t *testing.T) {
	t.Parallel()
	status := func(code, message string) []wire.Field {
		return []wire.Field{{Name: "grpc-status", Value: code}, {Name: "grpc-message", Value: message}}
	}
	large := strings.Repeat("x", 1<<20+1)
	const hello, hi = "\x00\x00\x00\x00\x05hello", "\x00\x00\x00\x00\x02hi"
	for _, test := range []struct {
		name    string
		config  mesh.GRPCBridge
		proto   int
		kind    string
		length  int64
		trailer []wire.Field
		message []string

		asked seen
		want  string
	}{
		{
			"a call",
			mesh.GRPCBridge{},
			1, "application/grpc", 5, status("0", ""),
			[]string{hi[:3], hi[3:]},
			seen{"/m?q", "application/grpc", "trailers", "hello", 5},
			`200 application/grpc 7 0 "\x00\x00\x00\x00\x02hi"`,
		},
		{
			"a failure",
			mesh.GRPCBridge{},
			1, "application/grpc", 5, status("5", "no"),
			[]string{""},
			seen{"/m?q", "application/grpc", "trailers", "hello", 5},
			`503 application/grpc 0 5 ""`,
		},
		{
			"a failure in the head",
			mesh.GRPCBridge{IgnoreQuery: true},
			1, "application/grpc", 5, nil, nil,
			seen{"/m", "application/grpc", "trailers", "hello", 5},
			`200 application/grpc 0 9 ""`,
		},
		{
			"HTTP/2",
			mesh.GRPCBridge{},
			2, "application/grpc", 5, status("5", ""),
			[]string{hi},
			seen{"/m?q", "application/grpc", "", "hello", 5},
			`200 application/grpc -1  "\x00\x00\x00\x00\x02hi"`,
		},
		{
			"something else",
			mesh.GRPCBridge{IgnoreQuery: true},
			1, "application/x-protobuf", 5, status("5", ""),
			[]string{"hi"},
			seen{"/m?q", "application/x-protobuf", "", "hello", 5},
			`200 application/grpc -1  "hi"`,
		},
		{
			"protobuf",
			mesh.GRPCBridge{UpgradeProtobuf: true},
			1, "application/x-protobuf", 5, status("0", ""),
			[]string{hi},
			seen{"/m?q", "application/grpc", "trailers", hello, 10},
			`200 application/x-protobuf 2 0 "hi"`,
		},
		{
			"protobuf of unknown length",
			mesh.GRPCBridge{UpgradeProtobuf: true},
			2, "application/x-protobuf", -1, status("0", ""),
			[]string{hi},
			seen{"/m?q", "application/grpc", "trailers", hello, 10},
			`200 application/x-protobuf 2 0 "hi"`,
		},
		{
			"two messages",
			mesh.GRPCBridge{UpgradeProtobuf: true},
			1, "application/x-protobuf", 5, status("0", ""),
			[]string{hi, hi},
			seen{"/m?q", "application/grpc", "trailers", hello, 10},
			"502 14",
		},
		{
			"too large",
			mesh.GRPCBridge{},
			1, "application/grpc", 5, status("0", ""),
			[]string{large},
			seen{"/m?q", "application/grpc", "trailers", "hello", 5},
			"200 2",
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			req := request("POST", "/m?q", "content-type", test.kind)
			req.Proto, req.Body, req.ContentLength = test.proto, pieces(nil, "hello"), test.length
			var asked seen
			resp := &wire.Response{}
			if test.message == nil {
				resp.Header.Add("grpc-status", "9")
			}
			layer := stack.GRPCBridge(test.config)
			service := layer(grpcServer(&asked, resp, "application/grpc", test.trailer, test.message...))
			x := exchange(&wire.Peer{})
			x.GRPC = wire.IsGRPC(&req.Header)
			got, err := service.Serve(x, req)
			var text string
			if err != nil {
				made := wire.Reply(x, err)
				text = sprint(made.Status, made.Header.Get("grpc-status"))
				if body, ok := resp.Body.(*trailing); !ok || !body.closed {
					if test.name == "too large" {
						t.Error("the response was left open")
					}
				}
			} else {
				var body []byte
				if got.Body != nil {
					if body, err = io.ReadAll(got.Body); err != nil {
						t.Error(err)
					}
				}
				text = sprint(got.Status, got.Header.Get("content-type"), got.ContentLength, got.Header.Get("grpc-status")) + " " + quote(body)
			}
			if text != test.want || asked != test.asked {
				t.Errorf("got %s, want %s; asked %+v", text, test.want, asked)
			}
		})
	}
	// An error of ours is told in the terms of gRPC, as Envoy does.
	gone := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return nil, errors.New("oops") })
	got := do(t, stack.GRPCBridge(mesh.GRPCBridge{})(gone), &wire.Peer{}, request("POST", "/", "content-type", "application/grpc"))
	if got.Status != 200 || got.Header.Get("grpc-status") != "2" || got.Header.Get("grpc-message") != "Internal Server Error" {
		t.Errorf("%+v", got)
	}
	// A request that would have to be held and is too large.
	req := request("POST", "/", "content-type", "application/x-protobuf")
	req.Body, req.ContentLength = pieces(nil, large), -1
	if got := do(t, stack.GRPCBridge(mesh.GRPCBridge{UpgradeProtobuf: true})(gone), &wire.Peer{}, req); got.Status != 413 {
		t.Errorf("%+v", got)
	}
}

func sprint(all ...any) string {
	var words []string
	for _, one := range all {
		words = append(words, fmt.Sprint(one))
	}
	return strings.Join(words, " ")
}

func quote(b []byte) string { return strconv.Quote(string(b)) }
