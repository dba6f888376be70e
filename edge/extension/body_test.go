package extension_test

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/edge/extension"
	"github.com/serai-net/serai/plugins"
)

// pieces is a body that comes in pieces, with trailers if it has some.
type pieces struct {
	all     []string
	trailer *wire.Header
	err     error // at the end; nil is io.EOF
}

func (p *pieces) Read(b []byte) (int, error) {
	if len(p.all) == 0 {
		if p.err != nil {
			return 0, p.err
		}
		return 0, io.EOF
	}
	n := copy(b, p.all[0])
	if p.all[0] = p.all[0][n:]; p.all[0] == "" {
		p.all = p.all[1:]
	}
	return n, nil
}
func (p *pieces) Trailer() *wire.Header { return p.trailer }
func (p *pieces) Close() error          { return nil }

func TestBody(t *testing.T) {
	long := strings.Repeat("0123456789", 1000)
	trailer := &wire.Header{}
	trailer.Add("x-sum", "1")
	for _, row := range []struct {
		name   string
		body   wire.Body
		length int64
		status int    // 0: let through
		want   string // what plugins and upstream get
		after  int64  // length that goes upstream
	}{
		{"sized", &pieces{all: []string{"hel", "lo"}}, 5, 0, "hello", 5},
		{"of unknown length", &pieces{all: []string{"hel", "lo"}}, wire.UnknownLength, 0, "hello", 5},
		{"with trailers", &pieces{all: []string{"hello"}, trailer: trailer}, wire.UnknownLength, 0, "hello", wire.UnknownLength},
		{"as long as it may be", &pieces{all: []string{long}}, wire.UnknownLength, 0, long, 10000},
		{"too long", &pieces{all: []string{long, "x"}}, wire.UnknownLength, 413, "", 0},
		{"too long, as it says", &pieces{}, 10001, 413, "", 0},
		{"broken off", &pieces{all: []string{"hel"}, err: &wire.Fault{Status: 400, Text: "incomplete request body"}}, 5, 400, "", 0},
		{"empty", &pieces{}, wire.UnknownLength, 0, "", 0},
		{"none", nil, 0, 0, "", 0},
	} {
		t.Run(row.name, func(t *testing.T) {
			w, up := newWorld(true, 10000), &upstream{}
			var seen []string
			p := &local{
				request: func(r *plugins.Request) (*plugins.RequestChange, error) {
					seen = append(seen, string(r.Body))
					return nil, nil //nolint:nilnil // no change
				},
				response: func(r *plugins.Request, _ *plugins.Response) (*plugins.ResponseChange, error) {
					if r.Body != nil {
						t.Errorf("with the response the body is given once more")
					}
					return nil, nil //nolint:nilnil // no change
				},
			}
			req := request(row.body, row.length)
			req.ExpectContinue = row.body != nil
			_, err := wire.Stack(up, extension.Transform(&w.use, p), extension.Transform(&w.use, p)).Serve(exchange(), req)
			if row.status != 0 {
				if err == nil || wire.AsFault(err).Status != row.status || up.asked || len(seen) > 0 {
					t.Errorf("%v, want %d; asked: %t, seen: %q", err, row.status, up.asked, seen)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if len(seen) != 2 || seen[0] != row.want || seen[1] != row.want || up.body != row.want {
				t.Errorf("the plugins get %.20q, the upstream %.20q", seen, up.body)
			}
			if req.ContentLength != row.after || req.ExpectContinue {
				t.Errorf("content length %d, want %d; expects: %t", req.ContentLength, row.after, req.ExpectContinue)
			}
			if (row.after == wire.UnknownLength) != (up.trailer != nil && up.trailer.Get("x-sum") == "1") {
				t.Errorf("trailer %v", up.trailer)
			}
		})
	}
}

// A later plugin may be given less than one before it was.
func TestSmallerLimitLater(t *testing.T) {
	first, second := newWorld(false, 10), newWorld(false, 4)
	up := &upstream{}
	_, err := wire.Stack(up, extension.Transform(&first.use, &local{}), extension.Transform(&second.use, &local{})).
		Serve(exchange(), request(wire.NewBytes([]byte("hello")), 5))
	wantFault(t, err, 413, wire.FlagDenied, "the request body is too large, at most 4 bytes are taken here")
	if up.asked {
		t.Error("asked")
	}
}

// What a client sends after a switch of protocols is not read.
func TestTunnelIsLeftAlone(t *testing.T) {
	for _, change := range []func(*wire.Request){
		func(r *wire.Request) { r.Upgrade = "websocket" },
		func(r *wire.Request) { r.Method = "CONNECT" },
	} {
		w := newWorld(false, 10)
		body := &pieces{all: []string{"frames"}}
		req := request(body, 0)
		change(req)
		p := &local{request: func(r *plugins.Request) (*plugins.RequestChange, error) {
			if len(r.Body) > 0 || len(r.Header) > 0 {
				t.Errorf("the plugin is given %q and %v", r.Body, r.Header)
			}
			return nil, nil //nolint:nilnil // no change
		}}
		if _, err := wire.Stack(&upstream{}, extension.Transform(&w.use, p)).Serve(exchange(), req); err != nil || req.Body != wire.Body(body) {
			t.Errorf("%v, another body: %t", err, req.Body != wire.Body(body))
		}
	}
}

// slow gives a byte each second until it is closed.
type slow struct {
	pieces
	once   sync.Once
	closed chan struct{}
}

var errClosed = errors.New("closed")

func (s *slow) Read(b []byte) (int, error) {
	select {
	case <-time.After(time.Second):
		return s.pieces.Read(b)
	case <-s.closed:
		return 0, errClosed
	}
}
func (s *slow) Close() error { s.once.Do(func() { close(s.closed) }); return nil }

// A body must be there by the deadline, from which on the upstream has as much
// time once more.
func TestSlowBody(t *testing.T) {
	for seconds, status := range map[int]int{9: 200, 20: 408} {
		t.Run(fmt.Sprint(seconds), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, x := newWorld(true, 100), exchange()
				x.Timeout = 10 * time.Second
				x.Deadline = time.Now().Add(x.Timeout)
				start := time.Now()
				body := &slow{pieces: pieces{all: strings.Split(strings.Repeat("x", seconds-1), "")}, closed: make(chan struct{})}
				_, err := wire.Stack(&upstream{}, extension.Transform(&w.use, &local{})).Serve(x, request(body, wire.UnknownLength))
				if status == 200 {
					if err != nil || time.Until(x.Deadline) != x.Timeout {
						t.Errorf("%v, %v left", err, time.Until(x.Deadline))
					}
					return
				}
				wantFault(t, err, status, wire.FlagDownstreamReset, "request body timeout")
				if took := time.Since(start); took != x.Timeout {
					t.Errorf("after %v", took)
				}
			})
		})
	}
}

func FuzzBody(f *testing.F) {
	f.Add([]byte("hello"), 3, 10)
	f.Add([]byte(""), 1, 1)
	f.Add([]byte("0123456789"), 1, 9)
	f.Fuzz(func(t *testing.T, data []byte, size, limit int) {
		size, limit = max(1, size%1000), max(1, limit%10000)
		body := &pieces{}
		for rest := string(data); rest != ""; {
			n := min(size, len(rest))
			body.all, rest = append(body.all, rest[:n]), rest[n:]
		}
		w, up := newWorld(false, limit), &upstream{}
		_, err := wire.Stack(up, extension.Transform(&w.use, &local{})).Serve(exchange(), request(body, wire.UnknownLength))
		switch {
		case len(data) > limit:
			wantFault(t, err, 413, wire.FlagDenied, fmt.Sprintf("the request body is too large, at most %d bytes are taken here", limit))
		case err != nil || up.body != string(data):
			t.Errorf("%v, %q", err, up.body)
		}
	})
}
