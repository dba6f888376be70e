package http1_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

func TestBadUpstream(t *testing.T) {
	checkLeaks(t)
	type want struct {
		Status int
		Flag   string
		Repeat wire.Repeat
	}
	protocol := want{502, "UPE", wire.RepeatNever}
	reset := want{502, "UC", wire.RepeatNever}
	lost := want{503, "UC", wire.RepeatIdempotent}
	for _, test := range []struct {
		name, reply string
		want        want
	}{
		{"nothing", "", lost},
		{"half a head", "HTTP/1.1 200 OK\r\nContent-", reset},
		{"only an interim response", "HTTP/1.1 103 Early Hints\r\n\r\n", reset},
		{"no HTTP", "SSH-2.0-OpenSSH\r\n\r\n", protocol},
		{"HTTP/2", "HTTP/2 200 OK\r\n\r\n", protocol},
		{"version 2.0", "HTTP/2.0 200 OK\r\n\r\n", protocol},
		{"short status", "HTTP/1.1 20 OK\r\n\r\n", protocol},
		{"long status", "HTTP/1.1 2000 OK\r\n\r\n", protocol},
		{"small status", "HTTP/1.1 099 OK\r\n\r\n", protocol},
		{"no status", "HTTP/1.1 OK\r\n\r\n", protocol},
		{"two spaces", "HTTP/1.1  200 OK\r\n\r\n", protocol},
		{"control in reason", "HTTP/1.1 200 O\x00K\r\n\r\n", protocol},
		{"bare LF", "HTTP/1.1 200 OK\nContent-Length: 0\n\n", protocol},
		{"empty line before", "\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", protocol},
		{"fold", "HTTP/1.1 200 OK\r\na: b\r\n c\r\n\r\n", protocol},
		{"space before colon", "HTTP/1.1 200 OK\r\na : b\r\n\r\n", protocol},
		{"NUL", "HTTP/1.1 200 OK\r\na: \x00\r\n\r\n", protocol},
		{"both lengths", "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", protocol},
		{"two lengths", "HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na", protocol},
		{"bad length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\na", protocol},
		{"unknown coding", "HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\na", protocol},
		{"chunked in 1.0", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", protocol},
		{"unasked 101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", protocol},
		{"too many fields", "HTTP/1.1 200 OK\r\n" + strings.Repeat("a: b\r\n", 11) + "\r\n", protocol},
		{"head too large", "HTTP/1.1 200 OK\r\na: " + strings.Repeat("b", 4000) + "\r\n\r\n", protocol},
		{"too many interim responses", strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 20), protocol},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialClient(t, replying(t, test.reply, true), http1.ClientConfig{MaxHeaderBytes: 4000, MaxHeaders: 10})
			_, _, err := c.do(simple("GET"))
			var fault *wire.Fault
			if !errors.As(err, &fault) {
				t.Fatalf("got %v", err)
			}
			if diff := cmp.Diff(test.want, want{fault.Status, fault.Flag.String(), fault.Repeat}); diff != "" {
				t.Errorf("%v: %s", err, diff)
			}
			if diff := cmp.Diff([]bool{false}, c.released); diff != "" {
				t.Errorf("released: %s", diff)
			}
			if got := c.x.Attempts[0].Flag; got != fault.Flag {
				t.Errorf("flag of the attempt: %s", got)
			}
			c.done()
		})
	}
}

func TestBrokenBodies(t *testing.T) {
	checkLeaks(t)
	for _, test := range []struct {
		name, reply, body string
		want              error // nil for a body that is malformed
	}{
		{"short", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nabc", "abc", io.ErrUnexpectedEOF},
		{"short chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabc", "abc", io.ErrUnexpectedEOF},
		{"no last chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n", "abc", io.ErrUnexpectedEOF},
		{"no end of trailers", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\na: b\r\n", "", io.ErrUnexpectedEOF},
		{"bad chunk", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcx", "abc", nil},
		{"bad size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3x\r\nabc", "", nil},
	} {
		t.Run(test.name, func(t *testing.T) {
			c := dialClient(t, replying(t, test.reply, true), http1.ClientConfig{})
			_, body, err := c.do(simple("GET"))
			fault := wire.AsFault(err)
			want := wire.FlagUpstreamReset
			if test.want == nil {
				want = wire.FlagUpstreamProtocol
			}
			if err == nil || body != test.body || fault.Flag != want || test.want != nil && !errors.Is(err, test.want) {
				t.Errorf("got %q, %v, flag %s", body, err, fault.Flag)
			}
			if diff := cmp.Diff([]bool{false}, c.released); diff != "" {
				t.Errorf("released: %s", diff)
			}
			c.done()
		})
	}
}
