package upstream_test

import (
	"context"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// run runs s until the test ends.
func run(t *testing.T, s *upstream.Set) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.Run(ctx) //nolint:errcheck // it has none
	}()
	t.Cleanup(func() { stop(); <-done })
}

// gate is a server whose requests wait until they are let through, one by one.
type gate struct {
	address string
	let     chan bool
	begun   atomic.Int64
	mu      sync.Mutex // guards:
	order   []string
}

func newGate(t *testing.T) *gate {
	t.Helper()
	g := &gate{let: make(chan bool)}
	g.address = serve(t, func(w http.ResponseWriter, r *http.Request) {
		g.mu.Lock()
		g.order = append(g.order, r.URL.Path)
		g.mu.Unlock()
		g.begun.Add(1)
		<-g.let
		if r.URL.Path == "/close" {
			w.Header().Set("Connection", "close")
		}
		fmt.Fprint(w, r.URL.Path)
	})
	return g
}

func limited(connections, pending uint32, endpoints ...mesh.Endpoint) *mesh.Cluster {
	c := static("c", endpoints...)
	c.Limits = mesh.Limits{MaxConnections: connections, HasConnections: true, MaxPending: pending, HasPending: true}
	return c
}

// asking is a request for a path.
func asking(path string) *wire.Request {
	req := request(http.MethodGet, "")
	req.Path = path
	return req
}

// Over max_connections exchanges wait, in order, and no more than
// max_pending_requests.
func TestQueue(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	c := newSet(t, limited(1, 3, at(g.address))).Cluster("c")
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			if got := do(t, c, asking(fmt.Sprintf("/%d", i))); got.Status != 200 || got.Body != fmt.Sprintf("/%d", i) {
				t.Errorf("%d: %+v", i, got)
			}
		})
		if i == 0 {
			eventually(t, "the first to be there", func() bool { return g.begun.Load() == 1 })
		} else {
			eventually(t, "it to wait", func() bool { return c.Queued() == i })
		}
	}
	if got := do(t, c, request(http.MethodGet, "")); got.Status != 503 || got.Flag != wire.FlagUpstreamOverflow {
		t.Errorf("beyond the queue: %+v", got)
	}
	if s := c.Stats(); s.Pending != 3 || s.Conns != 1 || !s.OpenConns || !s.OpenPending || s.Overflow != 1 || s.Waited != 3 {
		t.Errorf("%+v", s)
	}
	for range 4 {
		g.let <- true
	}
	wg.Wait()
	if got := fmt.Sprint(g.order); got != "[/0 /1 /2 /3]" {
		t.Errorf("the order was %s", got)
	}
	if s := c.Stats(); s.Pending != 0 || s.Conns != 1 || s.Connects != 1 || s.Active != 0 || s.OpenPending {
		t.Errorf("%+v", s)
	}
}

// Who waits ends with its deadline or its client, and leaves no trace.
func TestQueueEnds(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	c := newSet(t, limited(1, 10, at(g.address))).Cluster("c")
	var wg sync.WaitGroup
	wg.Go(func() { do(t, c, asking("/first")) })
	eventually(t, "the first to be there", func() bool { return g.begun.Load() == 1 })
	late := newExchange()
	late.Deadline = time.Now().Add(30 * time.Millisecond)
	if got := finish(t, late, c, asking("/late")); got.Status != 504 || got.Flag != wire.FlagUpstreamTimeout {
		t.Errorf("at the deadline: %+v", got)
	}
	late.Done(time.Now())
	gone := newExchange()
	wg.Go(func() {
		if got := finish(t, gone, c, asking("/gone")); got.Flag != wire.FlagDownstreamReset {
			t.Errorf("without its client: %+v", got)
		}
		gone.Done(time.Now())
	})
	eventually(t, "it to wait", func() bool { return c.Queued() == 1 })
	gone.Abort(wire.ErrClientGone)
	eventually(t, "nobody to wait", func() bool { return c.Queued() == 0 })
	g.let <- true
	wg.Wait()
	if s := c.Stats(); s.Pending != 0 || s.Active != 0 || s.Conns != 1 || fmt.Sprint(g.order) != "[/first]" {
		t.Errorf("%+v, %v", s, g.order)
	}
}

// A connection that is lost makes room for the next.
func TestQueueConnectionLost(t *testing.T) {
	t.Parallel()
	address := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Connection", "close") })
	c := newSet(t, limited(2, 100, at(address))).Cluster("c")
	var wg sync.WaitGroup
	for range 40 {
		wg.Go(func() {
			if got := do(t, c, request(http.MethodGet, "")); got.Status != 200 {
				t.Errorf("%+v", got)
			}
		})
	}
	wg.Wait()
	if s := c.Stats(); s.Conns != 0 || s.Pending != 0 || s.Connects != 40 {
		t.Errorf("%+v", s)
	}
}

// A place that only a certain host may have goes to who waits for that one, though
// others have waited longer.
func TestQueueOtherHost(t *testing.T) {
	t.Parallel()
	gates := []*gate{newGate(t), newGate(t)}
	c := newSet(t, limited(1, 10, at(gates[0].address), at(gates[1].address))).Cluster("c")
	begun := func() int64 { return gates[0].begun.Load() + gates[1].begun.Load() }
	var wg sync.WaitGroup
	ask := func(path string) { wg.Go(func() { do(t, c, asking(path)) }) }
	ask("/")
	eventually(t, "the first to be there", func() bool { return begun() == 1 })
	first, second := gates[0], gates[1]
	if second.begun.Load() == 1 {
		first, second = second, first
	}
	ask("/close")
	eventually(t, "the second to be there", func() bool { return second.begun.Load() == 1 })
	for i := range 2 {
		ask("/")
		eventually(t, "it to wait", func() bool { return c.Queued() == i+1 })
	}
	second.let <- true
	eventually(t, "another to be there", func() bool { return second.begun.Load() == 2 })
	for _, g := range []*gate{first, second, first} {
		g.let <- true
	}
	wg.Wait()
}

// Who waits goes on when the limit is raised.
func TestQueueLimitRaised(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	s := newSet(t, limited(1, 10, at(g.address)))
	c := s.Cluster("c")
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() { do(t, c, asking("/")) })
	}
	eventually(t, "two to wait", func() bool { return c.Queued() == 2 && g.begun.Load() == 1 })
	commit(t, s, limited(3, 10, at(g.address)))
	eventually(t, "all to be there", func() bool { return g.begun.Load() == 3 })
	for range 3 {
		g.let <- true
	}
	wg.Wait()
}

// An exchange whose time went by in the queue says nothing of the host.
func TestQueueOutlier(t *testing.T) {
	t.Parallel()
	g := newGate(t)
	definition := limited(1, 10, at(g.address))
	definition.Outlier = mesh.DefaultOutlier()
	definition.Outlier.MaxEjectionPercent, definition.Outlier.Consecutive5xx = 100, 1
	c := newSet(t, definition).Cluster("c")
	var wg sync.WaitGroup
	wg.Go(func() { do(t, c, asking("/")) })
	eventually(t, "the first to be there", func() bool { return g.begun.Load() == 1 })
	late := newExchange()
	late.Deadline = time.Now().Add(time.Second) // by then it waits
	_, err := c.Serve(late, asking("/late"))
	if fault := wire.AsFault(err); fault.Status != 504 || !upstream.Waited(err) {
		t.Errorf("%+v", fault)
	}
	late.Done(time.Now())
	if got := counters(c); len(got) != 0 || c.Hosts()[0].Ejected() {
		t.Errorf("%v", got)
	}
	g.let <- true
	wg.Wait()
}

// Each host may have one connection, whatever the limit.
func TestOneConnectionEach(t *testing.T) {
	t.Parallel()
	a, b := newGate(t), newGate(t)
	c := newSet(t, limited(1, 10, at(a.address), at(b.address))).Cluster("c")
	var wg sync.WaitGroup
	for range 2 {
		wg.Go(func() { do(t, c, request(http.MethodGet, "")) })
	}
	eventually(t, "both to be there", func() bool { return a.begun.Load() == 1 && b.begun.Load() == 1 })
	a.let <- true
	b.let <- true
	wg.Wait()
}

// Many at once, over few connections to several hosts: none is lost or stuck.
func TestQueueCrowd(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mesh.Protocol{mesh.HTTP1, mesh.HTTP2} {
		definition := limited(4, 1000, at(bothProtocols(t, hello)), at(bothProtocols(t, hello)), at(bothProtocols(t, hello)))
		definition.Protocol = protocol
		definition.Pool.MaxRequests = 7
		c := newSet(t, definition).Cluster("c")
		var wg sync.WaitGroup
		for range 64 {
			wg.Go(func() {
				for range 20 {
					if got := do(t, c, request(http.MethodPost, "hi")); got.Status != 200 {
						t.Errorf("%+v", got)
					}
				}
			})
		}
		wg.Wait()
		if s := c.Stats(); s.Active != 0 || s.Pending != 0 || c.Queued() != 0 || s.Overflow != 0 {
			t.Errorf("%+v", s)
		}
		for _, h := range c.Hosts() {
			if n := h.Active(); n != 0 {
				t.Errorf("HTTP/%d: %s has %d under way", protocol+1, h.Address(), n)
			}
		}
		// Beyond the limit, each host but the first may have its one.
		if c.Stats().Conns > 4+2 {
			t.Errorf("%d connections", c.Stats().Conns)
		}
	}
}

// Without pending ones no connection is made at all, as with Envoy.
func TestNoPending(t *testing.T) {
	t.Parallel()
	c := newSet(t, limited(10, 0, at(named(t, "x")))).Cluster("c")
	if got := do(t, c, request(http.MethodGet, "")); got.Status != 503 || got.Flag != wire.FlagUpstreamOverflow {
		t.Errorf("%+v", got)
	}
}

func TestRetryPlaces(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		limits mesh.Limits
		active int64
		want   int
	}{
		{mesh.Limits{}, 0, 3},
		{mesh.Limits{HasRetries: true, MaxRetries: 5}, 0, 5},
		{mesh.Limits{HasRetries: true}, 0, 0},
		{mesh.Limits{Budget: &mesh.RetryBudget{Percent: 20, MinConcurrency: 3}}, 10, 3},
		{mesh.Limits{Budget: &mesh.RetryBudget{Percent: 20, MinConcurrency: 3}, HasRetries: true}, 40, 8},
		{mesh.Limits{Budget: &mesh.RetryBudget{}}, 100, 0},
	} {
		definition := static("c")
		definition.Limits = tt.limits
		c := newSet(t, definition).Cluster("c")
		c.SetActive(tt.active, tt.active)
		n := 0
		for n < 100 && c.BeginRetry() {
			n++
		}
		if n != tt.want {
			t.Errorf("%+v: %d retries, want %d", tt.limits, n, tt.want)
		}
		if s := c.Stats(); !s.OpenRetries || s.RetryOverflow != 1 || s.Retries != int64(n) {
			t.Errorf("%+v: %+v", tt.limits, s)
		}
		if n > 0 {
			c.EndRetry(true)
			if !c.BeginRetry() || c.Stats().RetrySuccess != 1 {
				t.Errorf("%+v: no place after one was given back", tt.limits)
			}
		}
	}
}

func TestMaxRequestsPerConnection(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mesh.Protocol{mesh.HTTP1, mesh.HTTP2} {
		definition := static("c", at(bothProtocols(t, hello)))
		definition.Protocol, definition.Pool.MaxRequests = protocol, 3
		s := newSet(t, definition)
		c := s.Cluster("c")
		for range 10 {
			if got := do(t, c, request(http.MethodGet, "")); got.Status != 200 {
				t.Errorf("%+v", got)
			}
		}
		if n := c.Stats().Connects; n != 4 {
			t.Errorf("HTTP/%d: %d connections for 10 requests", protocol+1, n)
		}
		eventually(t, "worn connections to be closed", func() bool {
			s.Sweep(t.Context(), time.Now())
			return c.Stats().Conns == 1
		})
	}
}

func TestConnectionAges(t *testing.T) {
	t.Parallel()
	for _, protocol := range []mesh.Protocol{mesh.HTTP1, mesh.HTTP2} {
		for _, tt := range []struct {
			name  string
			pool  mesh.Pool
			after time.Duration
			left  int64
		}{
			{"not yet idle", mesh.Pool{}, 54 * time.Second, 1},
			{"idle by default", mesh.Pool{}, 56 * time.Second, 0},
			{"idle", mesh.Pool{IdleTimeout: 5 * time.Second}, 6 * time.Second, 0},
			{"never idle", mesh.Pool{IdleTimeout: -1}, time.Hour, 1},
			{"not old", mesh.Pool{MaxAge: time.Minute}, 50 * time.Second, 1},
			{"old", mesh.Pool{MaxAge: time.Minute, IdleTimeout: -1}, 61 * time.Second, 0},
		} {
			definition := static("c", at(bothProtocols(t, hello)))
			definition.Protocol, definition.Pool = protocol, tt.pool
			s := newSet(t, definition)
			c := s.Cluster("c")
			do(t, c, request(http.MethodGet, ""))
			s.Sweep(t.Context(), time.Now().Add(tt.after))
			eventually(t, fmt.Sprintf("%s: HTTP/%d: %d connections", tt.name, protocol+1, tt.left), func() bool { return c.Stats().Conns == tt.left })
		}
	}
}

func TestPreconnect(t *testing.T) {
	t.Parallel()
	for protocol, want := range map[mesh.Protocol]int64{mesh.HTTP1: 3, mesh.HTTP2: 1} {
		definition := static("c", at(bothProtocols(t, hello)))
		definition.Protocol, definition.Pool.Preconnect = protocol, 1.5
		s := newSet(t, definition)
		run(t, s)
		c := s.Cluster("c")
		eventually(t, "a connection before there is a request", func() bool { return c.Hosts()[0].Idle() == 1 })
		x := newExchange()
		finish(t, x, c, request(http.MethodGet, ""))
		if !x.Attempts[0].Reused {
			t.Error("the connection made beforehand was not used")
		}
		x.Done(time.Now())
		// Two at once: for both there should be three.
		release := make(chan bool)
		var wg sync.WaitGroup
		slow := serve(t, func(http.ResponseWriter, *http.Request) { <-release })
		if protocol == mesh.HTTP1 {
			definition = static("c", at(slow))
			definition.Pool.Preconnect = 1.5
			commit(t, s, definition)
			for range 2 {
				wg.Go(func() { do(t, c, request(http.MethodGet, "")) })
			}
		}
		eventually(t, fmt.Sprintf("%d connections", want), func() bool { return c.Stats().Conns >= want })
		close(release)
		wg.Wait()
	}
}

// Two that ask for the same connections beforehand do not get them twice.
func TestPreconnectOnce(t *testing.T) {
	t.Parallel()
	c := newSet(t, static("c", at(bothProtocols(t, hello)))).Cluster("c")
	for range 2 {
		c.Hosts()[0].PrepareFor(t.Context(), 3)
	}
	if n := c.Stats().Conns; n != 3 {
		t.Errorf("%d connections", n)
	}
}
