package http2_test

import (
	"bytes"
	"errors"
	"io"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/serai-net/serai/connect/wire"
	serai "github.com/serai-net/serai/connect/wire/http2"
)

// told is a request as text, to be compared: without fields that a proxy keeps for
// itself, joins or makes.
func told(method, path string, fields []string) string {
	fields = slices.DeleteFunc(fields, func(f string) bool {
		name, _, _ := strings.Cut(f, ": ")
		switch name {
		case "host", "cookie", "te", "expect", "content-length":
			return true
		}
		return strings.HasPrefix(name, ":") || strings.HasPrefix(name, "sec-websocket-")
	})
	slices.Sort(fields)
	return method + " " + path + "\n" + strings.Join(fields, "\n")
}

// reference is all requests that x/net reads from frames, up to the first error that
// ends the connection.
func reference(data []byte) (all []string) {
	fr := http2.NewFramer(io.Discard, bytes.NewReader(data))
	fr.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	fr.MaxHeaderListSize = 1 << 20
	fr.SetMaxReadFrameSize(16 << 10)
	for {
		frame, err := fr.ReadFrame()
		if err != nil {
			if _, of := errors.AsType[http2.StreamError](err); of {
				continue
			}
			return all
		}
		head, ok := frame.(*http2.MetaHeadersFrame)
		if !ok || head.Truncated {
			continue
		}
		var fields []string
		for _, f := range head.RegularFields() {
			fields = append(fields, f.Name+": "+f.Value)
		}
		method := head.PseudoValue("method")
		if head.PseudoValue("protocol") != "" {
			method = "GET" // what an extended CONNECT is to a service (RFC 8441)
		}
		all = append(all, told(method, head.PseudoValue("path"), fields))
	}
}

// FuzzHead compares the requests that a server makes of frames with those that x/net
// reads from the same bytes: HPACK, CONTINUATION, padding, priorities. We may refuse
// more, but forward nothing that it does not read, or reads otherwise.
func FuzzHead(f *testing.F) {
	frames(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		var mu sync.Mutex
		var got []string
		service := wire.ServiceFunc(func(_ *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			var fields []string
			for name, value := range req.Header.All() {
				fields = append(fields, name+": "+value)
			}
			mu.Lock()
			defer mu.Unlock()
			got = append(got, told(req.Method, req.Path, fields))
			return wire.Text(200, "ok"), nil
		})
		s := serai.NewServer(serai.Config{Connect: true, Bounds: serai.Bounds{Buffers: poisoned()}},
			func() wire.Service { return service }, slog.New(slog.DiscardHandler))
		ours, theirs := net.Pipe()
		done := make(chan bool)
		go func() {
			defer close(done)
			s.Serve(theirs, &wire.Peer{}, nil)
		}()
		read := make(chan bool)
		go func() {
			defer close(read)
			io.Copy(io.Discard, ours)
		}()
		io.WriteString(ours, http2.ClientPreface)
		ours.Write(data)
		ours.Close()
		<-done
		<-read
		want := reference(data)
		mu.Lock()
		defer mu.Unlock()
		for _, one := range got {
			at := slices.Index(want, one)
			if at < 0 {
				t.Fatalf("forwarded\n%q\nof which x/net knows nothing; it reads %q", one, want)
			}
			want = slices.Delete(want, at, at+1)
		}
	})
}
