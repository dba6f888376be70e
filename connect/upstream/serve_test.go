package upstream_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// tries are attempts without their times and addresses.
func tries(t *testing.T, want, got []wire.Attempt) {
	t.Helper()
	ignore := cmpopts.IgnoreFields(wire.Attempt{}, "Endpoint", "HostName", "Metadata", "Peer", "Proto", "Failure", "Begin", "Connected", "Head", "Uploaded", "End")
	if diff := cmp.Diff(want, got, ignore); diff != "" {
		t.Errorf("attempts: -want +got:\n%s", diff)
	}
}

func TestServe(t *testing.T) {
	t.Parallel()
	s := newSet(t, static("c", at(named(t, "one"))))
	c := s.Cluster("c")
	x := newExchange()
	got := finish(t, x, c, request(http.MethodPost, "hello"))
	if got.Status != 200 || got.Body != "one hello" || x.Cluster != "c" {
		t.Errorf("%+v of cluster %q", got, x.Cluster)
	}
	tries(t, []wire.Attempt{{Cluster: "c", Status: 200}}, got.Attempts)
	a := x.Attempts[0]
	if a.Endpoint != c.Hosts()[0].Address() || a.Begin.IsZero() || a.Connected.Before(a.Begin) || a.Head.Before(a.Connected) {
		t.Errorf("attempt %+v", a)
	}
	if n := c.Stats().Active; n != 1 {
		t.Errorf("%d active before the end", n)
	}
	x.Done(time.Now())
	again := do(t, c, request(http.MethodGet, ""))
	tries(t, []wire.Attempt{{Cluster: "c", Reused: true, Status: 200}}, again.Attempts)
	stats := c.Stats()
	if stats.Active != 0 || stats.Requests != 2 || stats.Connects != 1 || stats.Hosts != 1 || stats.Healthy != 1 {
		t.Errorf("%+v", stats)
	}
	names := maps.Collect(stats.All())
	if names["upstream_rq_total"] != 2 || names["upstream_cx_total"] != 1 || len(names) != 24 {
		t.Errorf("%v", names)
	}
	for range stats.All() {
		break // does not panic
	}
}

func TestNoHost(t *testing.T) {
	t.Parallel()
	refused := static("refused", at(named(t, "x")))
	refused.Refusal = "not understood"
	badTLS := static("bad tls", at(named(t, "x")))
	badTLS.TLS = &mesh.UpstreamTLS{Roots: mesh.Roots{PEM: "x"}}
	s := newSet(t, static("none"), static("unhealthy", unhealthy(port(1))), refused, badTLS)
	tests := []struct {
		cluster string
		want    answer
	}{
		{"none", answer{Status: 503, Flag: wire.FlagNoHealthyUpstream, Body: "no healthy upstream\n"}},
		{"unhealthy", answer{Status: 503, Flag: wire.FlagNoHealthyUpstream, Body: "no healthy upstream\n"}},
		{"refused", answer{Status: 503, Flag: wire.FlagNoCluster, Body: "upstream not available\n"}},
		{"bad tls", answer{Status: 503, Flag: wire.FlagNoCluster, Body: "upstream not available\n"}},
	}
	for _, tt := range tests {
		if diff := cmp.Diff(tt.want, do(t, s.Cluster(tt.cluster), request(http.MethodGet, ""))); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.cluster, diff)
		}
		if _, _, err := s.Cluster(tt.cluster).Dial(t.Context(), wire.Choice{}); wire.AsFault(err).Flag != tt.want.Flag {
			t.Errorf("%s: dial: %v", tt.cluster, err)
		}
		if n := s.Cluster(tt.cluster).Stats().Active; n != 0 {
			t.Errorf("%s: %d active", tt.cluster, n)
		}
	}
	if n := s.Cluster("none").Stats().NoHost; n != 2 {
		t.Errorf("NoHost %d", n)
	}
	if s.Cluster("other") != nil {
		t.Error("a cluster that nobody has named")
	}
}

// Hosts that refuse are passed over for others, and not tried again at once.
func TestConnectFailure(t *testing.T) {
	t.Parallel()
	c := newSet(t, static("c", at(closedPort(t)), at(named(t, "alive")))).Cluster("c")
	for range 6 {
		if got := do(t, c, request(http.MethodPost, "body")); got.Status != 200 || got.Body != "alive body" {
			t.Fatalf("%+v", got)
		}
	}
	if stats := c.Stats(); stats.Repeats != stats.ConnectFails || stats.ConnectFails < 1 || stats.Requests != 6 || stats.Active != 0 {
		t.Errorf("%+v", stats)
	}
	dead := newSet(t, static("c", at(closedPort(t)), at(closedPort(t)))).Cluster("c")
	got := do(t, dead, request(http.MethodGet, ""))
	if got.Status != 503 || got.Flag != wire.FlagUpstreamConnect {
		t.Errorf("all refuse: %+v", got)
	}
	failed := wire.Attempt{Cluster: "c", Flag: wire.FlagUpstreamConnect}
	tries(t, []wire.Attempt{failed, failed}, got.Attempts)
	if stats := dead.Stats(); stats.NoHost != 0 || stats.ConnectFails != 2 {
		t.Errorf("all refuse: %+v", stats)
	}
}

// stale answers the first request of each connection and closes it at the
// second, which it has read. It counts what it reads.
func stale(t *testing.T, requests *atomic.Int32) string {
	t.Helper()
	return script(t, func(_ int, conn net.Conn) {
		r := bufio.NewReader(conn)
		for n := range 2 {
			req, err := http.ReadRequest(r)
			if err != nil {
				return
			}
			body, err := io.ReadAll(req.Body)
			if err != nil {
				return
			}
			requests.Add(1)
			if n == 0 {
				fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(body), body)
			}
		}
	})
}

// A pooled connection that breaks when it is used again: what may be repeated
// is, on a new connection to the same host if there is no other.
func TestStaleConnection(t *testing.T) {
	t.Parallel()
	lost := wire.Attempt{Cluster: "c", Reused: true, Flag: wire.FlagUpstreamReset}
	tests := []struct {
		method, body string
		status       int
		attempts     []wire.Attempt
		requests     int32 // that the server has read, the one before included
	}{
		{http.MethodGet, "", 200, []wire.Attempt{lost, {Cluster: "c", Status: 200}}, 3},
		{http.MethodPut, strings.Repeat("body", 10000), 200, []wire.Attempt{lost, {Cluster: "c", Status: 200}}, 3},
		{http.MethodPost, "body", 503, []wire.Attempt{lost}, 2},
		{http.MethodPatch, "", 503, []wire.Attempt{lost}, 2},
	}
	for _, tt := range tests {
		t.Run(tt.method, func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			c := newSet(t, static("c", at(stale(t, &requests)))).Cluster("c")
			if got := do(t, c, request(http.MethodGet, "")); got.Status != 200 {
				t.Fatalf("first: %+v", got)
			}
			got := do(t, c, request(tt.method, tt.body))
			if got.Status != tt.status || (got.Status == 200 && got.Body != tt.body) {
				t.Errorf("%d %s, body of %d bytes", got.Status, got.Flag, len(got.Body))
			}
			tries(t, tt.attempts, got.Attempts)
			if n := requests.Load(); n != tt.requests {
				t.Errorf("the server has read %d requests, want %d", n, tt.requests)
			}
			if stats := c.Stats(); stats.ConnectFails != 0 || stats.NoHost != 0 || stats.Active != 0 {
				t.Errorf("%+v", stats)
			}
		})
	}
}

// A connection that was closed while it was idle costs nobody a request.
func TestClosedWhileIdle(t *testing.T) {
	t.Parallel()
	hang := make(chan struct{})
	address := script(t, func(n int, conn net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
			return
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d", n)
		if n == 0 {
			<-hang
		}
	})
	c := newSet(t, static("c", at(address))).Cluster("c")
	if got := do(t, c, request(http.MethodPost, "x")); got.Body != "0" {
		t.Fatalf("%+v", got)
	}
	close(hang)
	eventually(t, "the idle connection is found closed", func() bool {
		got := do(t, c, request(http.MethodPost, "x"))
		if got.Status != 200 && got.Status != 503 {
			t.Errorf("%+v", got)
		}
		return got.Status == 200 && got.Body != "0" && !got.Attempts[0].Reused
	})
}

// bodyOf streams what is written to its other end.
type bodyOf struct{ *io.PipeReader }

func (bodyOf) Trailer() *wire.Header { return nil }

// More of a body than is kept has left: then even what may be repeated is not.
func TestBodyTooLargeToRepeat(t *testing.T) {
	t.Parallel()
	glutton := func() mesh.Endpoint {
		return at(script(t, func(_ int, conn net.Conn) {
			io.CopyN(io.Discard, conn, wire.DefaultReplayLimit+100<<10) //nolint:errcheck // then it is closed
		}))
	}
	c := newSet(t, static("c", glutton(), glutton())).Cluster("c")
	reader, writer := io.Pipe()
	go func() {
		_, err := io.CopyN(writer, endless{}, 4*wire.DefaultReplayLimit)
		writer.CloseWithError(err)
	}()
	defer reader.Close()
	req := request(http.MethodPut, "")
	req.Body, req.ContentLength = bodyOf{reader}, wire.UnknownLength
	got := do(t, c, req)
	if got.Status != 503 || len(got.Attempts) != 1 {
		t.Errorf("%+v", got)
	}
}

type endless struct{}

func (endless) Read(p []byte) (int, error) { return len(p), nil }

func TestUpgradeIsNotRepeated(t *testing.T) {
	t.Parallel()
	var requests atomic.Int32
	c := newSet(t, static("c", at(stale(t, &requests)))).Cluster("c")
	do(t, c, request(http.MethodGet, ""))
	req := request(http.MethodGet, "")
	req.Upgrade = "websocket"
	if got := do(t, c, req); got.Status != 503 || len(got.Attempts) != 1 {
		t.Errorf("%+v", got)
	}
}

// mute is a cluster whose only host accepts and never shakes hands.
func mute(t *testing.T) *mesh.Cluster {
	t.Helper()
	c := static("c", at(silent(t)))
	c.TLS = &mesh.UpstreamTLS{Roots: roots(t), AnyPeer: true}
	return c
}

// leaving is a client that leaves once it is watched.
type leaving struct {
	x    *wire.Exchange
	gone sync.WaitGroup
}

func (l *leaving) Interim(int, *wire.Header) error { return nil }

func (l *leaving) Watch() { l.gone.Go(func() { l.x.Abort(wire.ErrClientGone) }) }

func TestConnectEnds(t *testing.T) {
	t.Parallel()
	t.Run("when the client leaves", func(t *testing.T) {
		t.Parallel()
		c := newSet(t, mute(t)).Cluster("c")
		x := newExchange()
		go func() {
			eventually(t, "dialled", func() bool { return c.Stats().Connects == 1 })
			x.Abort(wire.ErrClientGone)
		}()
		_, err := c.Serve(x, request(http.MethodGet, ""))
		if fault := wire.AsFault(err); fault.Status != 499 || fault.Flag != wire.FlagDownstreamReset || !errors.Is(err, wire.ErrClientGone) {
			t.Errorf("%+v", fault)
		}
		tries(t, []wire.Attempt{{Cluster: "c", Flag: wire.FlagDownstreamReset}}, x.Attempts)
		x.Done(time.Now())
	})
	t.Run("when a client that is watched leaves", func(t *testing.T) {
		t.Parallel()
		c := newSet(t, mute(t)).Cluster("c")
		x := &wire.Exchange{}
		client := &leaving{x: x}
		x.Reset(client, &wire.Peer{}, time.Now())
		_, err := c.Serve(x, request(http.MethodGet, ""))
		if fault := wire.AsFault(err); fault.Flag != wire.FlagDownstreamReset {
			t.Errorf("%+v", fault)
		}
		client.gone.Wait()
		x.Done(time.Now())
	})
	t.Run("if it has left before", func(t *testing.T) {
		t.Parallel()
		c := newSet(t, mute(t)).Cluster("c")
		x := newExchange()
		x.Abort(wire.ErrClientGone)
		_, err := c.Serve(x, request(http.MethodGet, ""))
		if fault := wire.AsFault(err); fault.Flag != wire.FlagDownstreamReset || c.Stats().Connects != 0 {
			t.Errorf("%+v", fault)
		}
		x.Done(time.Now())
	})
	t.Run("at the deadline", func(t *testing.T) {
		t.Parallel()
		c := newSet(t, mute(t)).Cluster("c")
		x := newExchange()
		x.Deadline = time.Now().Add(time.Second) // by then it has been asked
		got := finish(t, x, c, request(http.MethodGet, ""))
		if got.Status != 504 || got.Flag != wire.FlagUpstreamTimeout || len(got.Attempts) != 1 {
			t.Errorf("%+v", got)
		}
		x.Done(time.Now())
	})
	t.Run("at the connect timeout", func(t *testing.T) {
		t.Parallel()
		definition := mute(t)
		definition.ConnectTimeout = 50 * time.Millisecond
		c := newSet(t, definition).Cluster("c")
		got := do(t, c, request(http.MethodGet, ""))
		if got.Status != 503 || got.Flag != wire.FlagUpstreamConnect || len(got.Attempts) != 1 {
			t.Errorf("%+v", got)
		}
	})
}
