package call_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// cluster is a real one with one endpoint.
func cluster(t *testing.T, address string, protocol mesh.Protocol) *upstream.Cluster {
	t.Helper()
	s := upstream.NewSet(slog.New(slog.DiscardHandler))
	t.Cleanup(s.Close)
	endpoint := mesh.Endpoint{Address: mesh.Address{AddrPort: netip.MustParseAddrPort(address)}, Weight: 1}
	commit, err := s.Prepare(map[string]*mesh.Cluster{"c": {
		Name: "c", Kind: mesh.ClusterStatic, Protocol: protocol,
		Endpoints: &mesh.EndpointSet{Name: "c", Endpoints: []mesh.Endpoint{endpoint}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	return s.Cluster("c")
}

// serve starts a server of both protocols.
func serve(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

// echo tells what it was asked, and has a trailer.
func echo(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return
	}
	w.Header().Set("Trailer", "x-end")
	w.Header().Set("x-asked", r.Header.Get("x-ask"))
	w.WriteHeader(http.StatusTeapot)
	fmt.Fprintf(w, "%s %s %s %s %s", r.Method, r.Host, r.URL, r.Proto, body)
	w.Header().Set("x-end", "done")
}

func both(t *testing.T, test func(t *testing.T, protocol mesh.Protocol)) {
	t.Helper()
	for name, protocol := range map[string]mesh.Protocol{"http1": mesh.HTTP1, "http2": mesh.HTTP2} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, protocol)
		})
	}
}

func TestDo(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, protocol mesh.Protocol) {
		t.Helper()
		c := cluster(t, serve(t, echo), protocol)
		for n := range 3 {
			r := call.Request{Method: "PUT", Authority: "authz.test", Path: "/check?a=b", Body: []byte("hello"), Timeout: time.Minute}
			r.Header.Add("x-ask", "why")
			resp, err := call.Do(t.Context(), c, r)
			if err != nil {
				t.Fatal(err)
			}
			proto := map[mesh.Protocol]string{mesh.HTTP1: "HTTP/1.1", mesh.HTTP2: "HTTP/2.0"}[protocol]
			want := "PUT authz.test /check?a=b " + proto + " hello"
			if resp.Status != 418 || string(resp.Body) != want || resp.Header.Get("x-asked") != "why" || resp.Trailer.Get("x-end") != "done" {
				t.Errorf("call %d: %d %q %v %v", n, resp.Status, resp.Body, resp.Header, resp.Trailer)
			}
		}
		if s := c.Stats(); s.Active != 0 || s.Connects != 1 || s.Requests != 3 {
			t.Errorf("exchanges that have not ended, or connections that were not kept: %+v", s)
		}
	})
}

// What a call wants nothing of, or only a little, is bounded, and the exchange ends.
func TestBounds(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, protocol mesh.Protocol) {
		t.Helper()
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			switch r.URL.Path {
			case "/known":
				w.Header().Set("content-length", "100")
				w.Write(bytes.Repeat([]byte("x"), 100)) //nolint:errcheck // the client may have gone
			case "/unknown":
				for range 100 {
					w.Write(bytes.Repeat([]byte("x"), 1000)) //nolint:errcheck // as above
					w.(http.Flusher).Flush()                 //nolint:errcheck,forcetypeassert // it is one
				}
			}
		})
		c := cluster(t, address, protocol)
		tests := []struct {
			path     string
			max      int
			size     int
			tooLarge bool
		}{
			{"/known", 100, 100, false},
			{"/known", 99, 0, true},
			{"/known", -1, 0, false},
			{"/unknown", 100_000, 100_000, false},
			{"/unknown", 99_999, 0, true},
			{"/unknown", 0, 100_000, false},
			{"/none", 1, 0, false},
		}
		for _, tt := range tests {
			resp, err := call.Do(t.Context(), c, call.Request{Path: tt.path, MaxBody: tt.max, Timeout: time.Minute})
			if errors.Is(err, call.ErrTooLarge) != tt.tooLarge || err != nil && !tt.tooLarge {
				t.Errorf("%s with at most %d: %v", tt.path, tt.max, err)
				continue
			}
			if resp != nil && len(resp.Body) != tt.size {
				t.Errorf("%s with at most %d: %d bytes, want %d", tt.path, tt.max, len(resp.Body), tt.size)
			}
		}
		if s := c.Stats(); s.Active != 0 {
			t.Errorf("%d exchanges have not ended", s.Active)
		}
	})
}

// A call ends with its timeout, its context's deadline, and its context, both
// before and after the head of the response.
func TestTime(t *testing.T) {
	t.Parallel()
	both(t, func(t *testing.T, protocol mesh.Protocol) {
		t.Helper()
		began := make(chan struct{}, 1)
		address := serve(t, func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/body" {
				w.WriteHeader(http.StatusOK)
				w.(http.Flusher).Flush() //nolint:errcheck,forcetypeassert // it is one
			}
			select {
			case began <- struct{}{}:
			default:
			}
			<-r.Context().Done()
		})
		c := cluster(t, address, protocol)
		for _, path := range []string{"/head", "/body"} {
			_, err := call.Do(t.Context(), c, call.Request{Path: path, Timeout: 20 * time.Millisecond})
			if wire.AsFault(err).Flag != wire.FlagUpstreamTimeout {
				t.Errorf("%s: timeout: %v", path, err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			if _, err = call.Do(ctx, c, call.Request{Path: path}); wire.AsFault(err).Flag != wire.FlagUpstreamTimeout {
				t.Errorf("%s: deadline: %v", path, err)
			}
			cancel()
			for len(began) > 0 {
				<-began
			}
			ctx, cancel = context.WithCancel(t.Context())
			go func() {
				<-began
				cancel()
			}()
			if _, err = call.Do(ctx, c, call.Request{Path: path}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: cancelled: %v", path, err)
			}
			if _, err = call.Do(ctx, c, call.Request{Path: path}); !errors.Is(err, context.Canceled) {
				t.Errorf("%s: cancelled before: %v", path, err)
			}
		}
		if s := c.Stats(); s.Active != 0 {
			t.Errorf("%d exchanges have not ended", s.Active)
		}
	})
}

func TestNobodyThere(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	tests := []struct {
		name string
		to   wire.Service
		flag wire.Flag
	}{
		{"no cluster", nil, wire.FlagNoCluster},
		{"refused", cluster(t, l.Addr().String(), mesh.HTTP1), wire.FlagUpstreamConnect},
	}
	for _, tt := range tests {
		_, err := call.Do(t.Context(), tt.to, call.Request{})
		if got := wire.AsFault(err); got.Flag != tt.flag || got.Status != 503 {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

// dying answers with a body that breaks off, and counts what is closed.
type dying struct{ closed int }

func (d *dying) Read(p []byte) (int, error) { return copy(p, "abc"), io.ErrUnexpectedEOF }
func (d *dying) Trailer() *wire.Header      { return nil }
func (d *dying) Close() error               { d.closed++; return nil }

// end notes how the exchange ended.
type end struct {
	flag wire.Flag
	err  error
	n    int
}

func (e *end) End(x *wire.Exchange) { e.flag, e.err, e.n = x.Flag, x.Err, e.n+1 }

func TestBreaksOff(t *testing.T) {
	t.Parallel()
	body, over := &dying{}, &end{}
	service := wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
		x.OnEnd(over)
		return &wire.Response{Status: 200, ContentLength: wire.UnknownLength, Body: body}, nil
	})
	resp, err := call.Do(t.Context(), service, call.Request{})
	if resp != nil || !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("%v, %v", resp, err)
	}
	if body.closed != 1 || over.n != 1 || !errors.Is(over.err, io.ErrUnexpectedEOF) {
		t.Errorf("closed %d times, ended %+v", body.closed, over)
	}
}

// The defaults, and that what is returned outlives the exchange.
func TestDefaults(t *testing.T) {
	t.Parallel()
	memory := []byte("value")
	var got wire.Request
	service := wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		got = *req
		x.Lend(lent(memory))
		resp := &wire.Response{Status: 204}
		resp.Header.Add("name", string(memory))
		return resp, nil
	})
	resp, err := call.Do(t.Context(), service, call.Request{})
	if err != nil || resp.Status != 204 || resp.Body != nil || resp.Header.Get("name") != "value" {
		t.Errorf("%+v, %v", resp, err)
	}
	if got.Method != "GET" || got.Path != "/" || got.Scheme != "http" || got.Body != nil || got.ContentLength != 0 {
		t.Errorf("%+v", got)
	}
	if diff := cmp.Diff(strings.Repeat("-", 5), string(memory)); diff != "" {
		t.Errorf("memory was not given back: %s", diff)
	}
}

type lent []byte

func (l lent) TakeBack(bool) { copy(l, "-----") }
