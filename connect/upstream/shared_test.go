package upstream_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// peer is an upstream of HTTP/2 that counts connections.
type peer struct {
	address string
	conns   atomic.Int64
}

func newPeer(t *testing.T, streams int, handler http.HandlerFunc) *peer {
	t.Helper()
	p := &peer{}
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Config.HTTP2 = &http.HTTP2Config{MaxConcurrentStreams: streams}
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateNew {
			p.conns.Add(1)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	p.address = s.Listener.Addr().String()
	return p
}

// bothProtocols is the address of a server that speaks HTTP/1.1 and HTTP/2.
func bothProtocols(t *testing.T, handler http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = new(http.Protocols)
	s.Config.Protocols.SetHTTP1(true)
	s.Config.Protocols.SetUnencryptedHTTP2(true)
	s.Start()
	t.Cleanup(s.Close)
	return s.Listener.Addr().String()
}

func http2Cluster(endpoints ...mesh.Endpoint) *mesh.Cluster {
	c := static("c", endpoints...)
	c.Protocol = mesh.HTTP2
	return c
}

func hello(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err == nil {
		fmt.Fprintf(w, "%s %s", r.Proto, body)
	}
}

// TestShared sends many exchanges at once: one connection is made, and shared.
func TestShared(t *testing.T) {
	t.Parallel()
	p := newPeer(t, 100, hello)
	s := newSet(t, http2Cluster(at(p.address)))
	var wg sync.WaitGroup
	for range 50 {
		wg.Go(func() {
			if got := do(t, s.Cluster("c"), request("POST", "hi")); got.Status != 200 || got.Body != "HTTP/2.0 hi" {
				t.Errorf("got %+v", got)
			}
		})
	}
	wg.Wait()
	if n := p.conns.Load(); n != 1 {
		t.Errorf("%d connections", n)
	}
	if got := do(t, s.Cluster("c"), request("GET", "")); !got.Attempts[0].Reused {
		t.Error("not reused")
	}
}

// TestSharedFull makes more connections when those there are full, up to the limit.
func TestSharedFull(t *testing.T) {
	t.Parallel()
	release := make(chan bool)
	var waiting atomic.Int64
	p := newPeer(t, 2, func(http.ResponseWriter, *http.Request) {
		waiting.Add(1)
		<-release
	})
	c := http2Cluster(at(p.address))
	c.Limits = mesh.Limits{MaxConnections: 2, HasConnections: true, MaxPending: 1, HasPending: true}
	s := newSet(t, c)
	var wg sync.WaitGroup
	for i := range 4 { // one after the other, so that the peer's settings are known
		wg.Go(func() {
			if got := do(t, s.Cluster("c"), request("GET", "")); got.Status != 200 {
				t.Errorf("got %+v", got)
			}
		})
		eventually(t, "a request under way", func() bool { return waiting.Load() == int64(i+1) })
	}
	if n := p.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
	// Beyond it one waits, and no more.
	wg.Go(func() {
		if got := do(t, s.Cluster("c"), request("GET", "")); got.Status != 200 {
			t.Errorf("the one that waited: %+v", got)
		}
	})
	eventually(t, "one to wait", func() bool { return s.Cluster("c").Stats().Waited == 1 })
	if got := do(t, s.Cluster("c"), request("GET", "")); got.Status != 503 || got.Flag != wire.FlagUpstreamOverflow {
		t.Errorf("beyond the limit: %+v", got)
	}
	close(release)
	wg.Wait()
}

// TestSharedGoAway is told by its peer, now and then, that it goes: nothing is lost
// by it.
func TestSharedGoAway(t *testing.T) {
	t.Parallel()
	var count atomic.Int64
	p := newPeer(t, 100, func(w http.ResponseWriter, r *http.Request) {
		if count.Add(1)%20 == 0 {
			w.Header().Set("Connection", "close") // a GOAWAY behind the response
		}
		hello(w, r)
	})
	s := newSet(t, http2Cluster(at(p.address)))
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 50 {
				if got := do(t, s.Cluster("c"), request("POST", "hi")); got.Status != 200 || got.Body != "HTTP/2.0 hi" {
					t.Errorf("got %+v", got)
				}
			}
		})
	}
	wg.Wait()
	if n := p.conns.Load(); n < 2 {
		t.Errorf("%d connections", n)
	}
}

// TestSharedRefused repeats on another host what the first has refused to look at.
func TestSharedRefused(t *testing.T) {
	t.Parallel()
	good := newPeer(t, 100, hello)
	refusing := script(t, func(_ int, conn net.Conn) {
		fr := http2.NewFramer(conn, conn)
		io.ReadFull(conn, make([]byte, len(http2.ClientPreface))) //nolint:errcheck // the frames tell
		fr.WriteSettings()                                        //nolint:errcheck // as above
		for {
			f, err := fr.ReadFrame()
			if err != nil {
				return
			}
			if h, ok := f.(*http2.HeadersFrame); ok {
				fr.WriteRSTStream(h.StreamID, http2.ErrCodeRefusedStream) //nolint:errcheck // as above
			}
		}
	})
	s := newSet(t, http2Cluster(at(refusing), at(good.address)))
	for range 6 {
		if got := do(t, s.Cluster("c"), request("POST", "hi")); got.Status != 200 || got.Body != "HTTP/2.0 hi" {
			t.Errorf("got %+v", got)
		}
	}
}

// TestSharedDial waits for one dial, whose failure all are told.
func TestSharedDial(t *testing.T) {
	t.Parallel()
	s := newSet(t, http2Cluster(at(closedPort(t))))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			if got := do(t, s.Cluster("c"), request("GET", "")); got.Status != 503 || got.Flag != wire.FlagUpstreamConnect || got.Attempts[0].End.IsZero() {
				t.Errorf("got %+v", got)
			}
		})
	}
	wg.Wait()
}

// TestSharedGivenUp gives up the exchange that dials: others who wait for it go on.
func TestSharedGivenUp(t *testing.T) {
	t.Parallel()
	p := newPeer(t, 100, hello)
	s := newSet(t, http2Cluster(at(p.address)))
	var wg sync.WaitGroup
	for range 20 {
		wg.Go(func() {
			x := newExchange()
			time.AfterFunc(time.Millisecond, func() { x.Abort(wire.ErrClientGone) })
			if resp, err := s.Cluster("c").Serve(x, request("GET", "")); err == nil && resp.Body != nil {
				resp.Body.Close()
			}
			x.Done(time.Now())
		})
		wg.Go(func() {
			if got := do(t, s.Cluster("c"), request("GET", "")); got.Status != 200 {
				t.Errorf("got %+v", got)
			}
		})
	}
	wg.Wait()
}

// TestSharedHostGone lets exchanges with a host end that is taken away.
func TestSharedHostGone(t *testing.T) {
	t.Parallel()
	release, started := make(chan bool), make(chan bool, 1)
	p := newPeer(t, 100, func(w http.ResponseWriter, r *http.Request) {
		started <- true
		<-release
		hello(w, r)
	})
	s := newSet(t, http2Cluster(at(p.address)))
	var wg sync.WaitGroup
	wg.Go(func() {
		if got := do(t, s.Cluster("c"), request("POST", "hi")); got.Body != "HTTP/2.0 hi" {
			t.Errorf("got %+v", got)
		}
	})
	<-started
	other := newPeer(t, 100, hello)
	commit(t, s, http2Cluster(at(other.address)))
	if got := do(t, s.Cluster("c"), request("GET", "")); got.Status != 200 || other.conns.Load() != 1 {
		t.Errorf("got %+v", got)
	}
	close(release)
	wg.Wait()
}

// TestSharedWakes lets all that waited use a new connection at once.
func TestSharedWakes(t *testing.T) {
	t.Parallel()
	var begun atomic.Int64
	release := make(chan bool)
	p := newPeer(t, 100, func(http.ResponseWriter, *http.Request) {
		begun.Add(1)
		<-release
	})
	definition := func(connections uint32, streams int) *mesh.Cluster {
		c := limited(connections, 10, at(p.address))
		c.Protocol, c.HTTP2Options.MaxStreams = mesh.HTTP2, streams
		return c
	}
	s := newSet(t, definition(1, 1))
	c := s.Cluster("c")
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if got := do(t, c, request("GET", "")); got.Status != 200 {
				t.Errorf("got %+v", got)
			}
		})
	}
	eventually(t, "three to wait", func() bool { return begun.Load() == 1 && c.Queued() == 3 })
	commit(t, s, definition(2, 100))
	eventually(t, "all to be there", func() bool { return begun.Load() == 4 })
	close(release)
	wg.Wait()
	if n := p.conns.Load(); n != 2 {
		t.Errorf("%d connections", n)
	}
}

// TestSharedBeside lets a host have a connection of either protocol, though that of
// the other one takes all that there may be.
func TestSharedBeside(t *testing.T) {
	t.Parallel()
	for first := 1; first <= 2; first++ {
		var begun atomic.Int64
		release := make(chan bool)
		definition := limited(1, 10, at(bothProtocols(t, func(http.ResponseWriter, *http.Request) {
			begun.Add(1)
			<-release
		})))
		definition.Protocol = mesh.FollowDownstream
		c := newSet(t, definition).Cluster("c")
		var wg sync.WaitGroup
		for i, proto := range []int{first, 3 - first} {
			req := request("GET", "")
			req.Proto = proto
			wg.Go(func() {
				if got := do(t, c, req); got.Status != 200 {
					t.Errorf("HTTP/%d: %+v", proto, got)
				}
			})
			eventually(t, "it to be there", func() bool { return begun.Load() == int64(i+1) })
		}
		close(release)
		wg.Wait()
	}
}

// TestSharedClusterGone serves exchanges that had found a cluster before it was
// removed, and keeps no connection.
func TestSharedClusterGone(t *testing.T) {
	t.Parallel()
	p := newPeer(t, 100, hello)
	s := newSet(t, http2Cluster(at(p.address)))
	c := s.Cluster("c")
	commit(t, s)
	for range 2 {
		if got := do(t, c, request("POST", "hi")); got.Status != 200 || got.Body != "HTTP/2.0 hi" || len(got.Attempts) != 1 {
			t.Errorf("got %+v", got)
		}
	}
	eventually(t, "no connections", func() bool { return c.Stats().Conns == 0 })
}

// TestSharedNoPlace fails, and repeats elsewhere, what comes upon a connection that
// ends as soon as it is made.
func TestSharedNoPlace(t *testing.T) {
	t.Parallel()
	good := newPeer(t, 100, hello)
	closing := script(t, func(int, net.Conn) {})
	s := newSet(t, http2Cluster(at(closing), at(good.address)))
	for range 20 {
		if got := do(t, s.Cluster("c"), request("GET", "")); got.Status != 200 {
			t.Errorf("got %+v", got)
		}
	}
}
