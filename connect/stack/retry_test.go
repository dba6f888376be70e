package stack_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// retrying is a chain with a retry policy before one host.
func retrying(t *testing.T, policy mesh.Retry, address string) wire.Service {
	t.Helper()
	return compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Retry = &policy })}, clusters(t, map[string]string{"c": address}))
}

// retryOn is a set of tokens.
func retryOn(tokens ...string) mesh.RetryOn {
	on, _ := mesh.ParseRetryOn(strings.Join(tokens, ","))
	return on
}

// failing answers with each status in turn, then with 200 and the body.
func failing(t *testing.T, statuses ...int) string {
	t.Helper()
	var n atomic.Int32
	return backend(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			return
		}
		if i := int(n.Add(1)) - 1; i < len(statuses) {
			w.WriteHeader(statuses[i])
		}
		fmt.Fprintf(w, "%d %s", n.Load(), body)
	})
}

func TestRetryStatus(t *testing.T) {
	t.Parallel()
	type outcome struct {
		Status int
		Body   string
		Tries  int
	}
	on := func(tokens ...string) mesh.Retry { return mesh.Retry{On: retryOn(tokens...), Retries: 2} }
	tests := []struct {
		name     string
		policy   mesh.Retry
		statuses []int
		want     outcome
	}{
		{"no policy", mesh.Retry{}, []int{503}, outcome{503, "1 body", 1}},
		{"no tokens", on(), []int{503}, outcome{503, "1 body", 1}},
		{"unknown token", on("something"), []int{503}, outcome{503, "1 body", 1}},
		{"well at once", on("5xx"), nil, outcome{200, "1 body", 1}},
		{"5xx", on("5xx"), []int{500, 599}, outcome{200, "3 body", 3}},
		{"too often", on("5xx"), []int{500, 501, 502, 503}, outcome{502, "3 body", 3}},
		{"5xx is not 4xx", on("5xx"), []int{404}, outcome{404, "1 body", 1}},
		{"gateway-error", on("gateway-error"), []int{502, 504}, outcome{200, "3 body", 3}},
		{"gateway-error is not 500", on("gateway-error"), []int{500}, outcome{500, "1 body", 1}},
		{"retriable-4xx", on("retriable-4xx"), []int{409, 404}, outcome{404, "2 body", 2}},
		{"codes", mesh.Retry{On: retryOn("retriable-status-codes"), Codes: []int{418, 404}, Retries: 5}, []int{418, 404, 500}, outcome{500, "3 body", 3}},
		{"any of several", on("connect-failure", "retriable-4xx", "5xx"), []int{409, 500}, outcome{200, "3 body", 3}},
		{"connect-failure is no status", on("connect-failure", "reset"), []int{503}, outcome{503, "1 body", 1}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			req := request(http.MethodPost, "/")
			req.Body, req.ContentLength = wire.NewBytes([]byte("body")), 4
			got := do(t, retrying(t, tt.policy, failing(t, tt.statuses...)), &wire.Peer{}, req)
			if diff := cmp.Diff(tt.want, outcome{got.Status, got.Body, got.Tries}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// closedPort is an address where nobody listens: of its own, or a port of it could be
// somebody else's soon.
func closedPort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.12.3:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// What went wrong without an answer is repeated if the policy names it, and if
// an upstream was asked at all.
func TestRetryFault(t *testing.T) {
	t.Parallel()
	closed := closedPort(t)
	rude := tcp(t, func(conn net.Conn) {
		http.ReadRequest(bufio.NewReader(conn)) //nolint:errcheck // read, and closed without an answer
	})
	garbled := tcp(t, func(conn net.Conn) {
		http.ReadRequest(bufio.NewReader(conn)) //nolint:errcheck // answered with nonsense
		fmt.Fprint(conn, "hello\r\n\r\n")
	})
	tests := []struct {
		token, address string
		flag           wire.Flag
		tries          int
	}{
		{"connect-failure", closed, wire.FlagUpstreamConnect, 3},
		{"reset-before-request", closed, wire.FlagUpstreamConnect, 3},
		{"5xx", closed, wire.FlagUpstreamConnect, 3},
		{"retriable-4xx", closed, wire.FlagUpstreamConnect, 1},
		{"connect-failure", rude, wire.FlagUpstreamReset, 1},
		{"reset-before-request", rude, wire.FlagUpstreamReset, 1},
		{"reset", rude, wire.FlagUpstreamReset, 3},
		{"gateway-error", rude, wire.FlagUpstreamReset, 3},
		{"5xx", garbled, wire.FlagUpstreamProtocol, 3},
	}
	for _, tt := range tests {
		got := do(t, retrying(t, mesh.Retry{On: retryOn(tt.token), Retries: 2}, tt.address), &wire.Peer{}, request(http.MethodPost, "/"))
		if got.Flag != tt.flag || got.Tries != tt.tries {
			t.Errorf("%s: %d %s after %d tries, want %s after %d", tt.token, got.Status, got.Flag, got.Tries, tt.flag, tt.tries)
		}
	}
	never := []string{"5xx", "gateway-error", "reset", "connect-failure", "reset-before-request"}
	table := toward(func(r *mesh.Rule) { r.Retry = &mesh.Retry{On: retryOn(never...), Retries: 2} })
	set := upstream.NewSet(nil)
	commit, err := set.Prepare(map[string]*mesh.Cluster{"c": {Name: "c"}})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	got := do(t, compile(t, &mesh.HTTP{Route: table}, set), &wire.Peer{}, request(http.MethodGet, "/"))
	if got.Flag != wire.FlagNoHealthyUpstream || set.Cluster("c").Stats().Requests != 1 {
		t.Errorf("no host: %+v, asked %d times", got, set.Cluster("c").Stats().Requests)
	}
}

// A limit of one exchange leaves room for its own repetition.
func TestRetryWithinLimit(t *testing.T) {
	t.Parallel()
	address := failing(t, 503, 503)
	set := upstream.NewSet(nil)
	t.Cleanup(set.Close)
	definition := &mesh.Cluster{Name: "c", Kind: mesh.ClusterStatic, Limits: mesh.Limits{MaxRequests: 1, HasRequests: true}, Endpoints: endpoint(address)}
	commit, err := set.Prepare(map[string]*mesh.Cluster{"c": definition})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	table := toward(func(r *mesh.Rule) { r.Retry = &mesh.Retry{On: mesh.Retry5xx, Retries: 5} })
	got := do(t, compile(t, &mesh.HTTP{Route: table}, set), &wire.Peer{}, request(http.MethodGet, "/"))
	if got.Status != 200 || got.Tries != 3 {
		t.Errorf("%+v", got)
	}
	if stats := set.Cluster("c").Stats(); stats.Active != 0 || stats.Overflow != 0 {
		t.Errorf("%+v", stats)
	}
}

// A try whose time goes by in our own queue is not repeated: no host was asked.
func TestRetryQueued(t *testing.T) {
	t.Parallel()
	begun, release := make(chan bool, 1), make(chan bool)
	address := backend(t, func(http.ResponseWriter, *http.Request) {
		begun <- true
		<-release
	})
	set := upstream.NewSet(nil)
	t.Cleanup(set.Close)
	definition := &mesh.Cluster{Name: "c", Kind: mesh.ClusterStatic, Endpoints: endpoint(address)}
	definition.Limits = mesh.Limits{MaxConnections: 1, HasConnections: true}
	commit, err := set.Prepare(map[string]*mesh.Cluster{"c": definition})
	if err != nil {
		t.Fatal(err)
	}
	commit()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer close(release)
	wg.Go(func() { do(t, set.Cluster("c"), &wire.Peer{}, request(http.MethodGet, "/")) })
	<-begun
	table := toward(func(r *mesh.Rule) {
		r.Retry = &mesh.Retry{On: mesh.Retry5xx, Retries: 5, PerTry: 20 * time.Millisecond}
	})
	got := do(t, compile(t, &mesh.HTTP{Route: table}, set), &wire.Peer{}, request(http.MethodGet, "/"))
	if got.Status != 504 || got.Flag != wire.FlagUpstreamTimeout || got.Tries != 1 {
		t.Errorf("%+v", got)
	}
}

// streamed is a body that comes bit by bit.
type streamed struct{ *io.PipeReader }

func (streamed) Trailer() *wire.Header { return nil }

// An answer that comes before the body has left: the next try has it whole,
// though the first one was still reading.
func TestRetryEarlyAnswer(t *testing.T) {
	t.Parallel()
	var tries atomic.Int32
	second := make(chan struct{})
	address := tcp(t, func(conn net.Conn) {
		req, err := http.ReadRequest(bufio.NewReader(conn))
		if err != nil {
			return
		}
		if tries.Add(1) == 1 {
			fmt.Fprint(conn, "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n")
			io.Copy(io.Discard, conn) //nolint:errcheck // until it is given up
			return
		}
		close(second)
		body, err := io.ReadAll(req.Body)
		if err != nil {
			body = []byte(err.Error())
		}
		fmt.Fprintf(conn, "HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%s", len(body), body)
	})
	reader, writer := io.Pipe()
	var writing sync.WaitGroup
	writing.Go(func() {
		fmt.Fprint(writer, "first, ")
		<-second
		fmt.Fprint(writer, "second, ")
		fmt.Fprint(writer, "third")
		writer.Close()
	})
	req := request(http.MethodPost, "/")
	req.Body, req.ContentLength = streamed{reader}, wire.UnknownLength
	got := do(t, retrying(t, mesh.Retry{On: mesh.Retry5xx, Retries: 1}, address), &wire.Peer{}, req)
	if got.Status != 200 || got.Body != "first, second, third" || got.Tries != 2 {
		t.Errorf("%+v", got)
	}
	reader.Close()
	writing.Wait()
}

// Where the body cannot be sent again, the first answer is the answer.
func TestRetryLargeBody(t *testing.T) {
	t.Parallel()
	req := request(http.MethodPost, "/")
	size := 2 * wire.DefaultReplayLimit
	req.Body, req.ContentLength = wire.NewBytes(make([]byte, size)), int64(size)
	set := clusters(t, map[string]string{"c": failing(t, 503, 503)})
	table := toward(func(r *mesh.Rule) { r.Retry = &mesh.Retry{On: mesh.Retry5xx, Retries: 3} })
	got := do(t, compile(t, &mesh.HTTP{Route: table}, set), &wire.Peer{}, req)
	if s := set.Cluster("c").Stats(); s.Retries != 0 || s.RetryOverflow != 0 {
		t.Errorf("counted though none was made: %+v", s)
	}
	if got.Status != 503 || got.Tries != 1 || !strings.HasPrefix(got.Body, "1 ") || len(got.Body) != size+2 {
		t.Errorf("%d after %d tries, body of %d bytes", got.Status, got.Tries, len(got.Body))
	}
}

func TestRetryPerTry(t *testing.T) {
	t.Parallel()
	var n atomic.Int32
	address := backend(t, func(w http.ResponseWriter, r *http.Request) {
		if n.Add(1) == 1 {
			<-r.Context().Done()
			return
		}
		fmt.Fprint(w, "well")
	})
	set := clusters(t, map[string]string{"c": address})
	policy := mesh.Retry{On: mesh.Retry5xx, Retries: 1, PerTry: 2 * time.Second} // the second is answered in it
	service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Retry = &policy })}, set)
	x := exchange(&wire.Peer{})
	whole := time.Now().Add(time.Minute)
	x.Deadline = whole
	got := finish(t, service, x, request(http.MethodGet, "/"))
	if got.Status != 200 || got.Body != "well" || got.Tries != 2 || !x.Deadline.Equal(whole) {
		t.Errorf("%+v, deadline %v", got, x.Deadline)
	}
	x.Done(time.Now())
	counts := map[string]int64{}
	all := set.Clusters()
	all[0].Each("", func(s stats.Stat) bool {
		counts[s.Name] = s.Value
		return true
	})
	if counts["upstream_rq_per_try_timeout"] != 1 || counts["upstream_rq_timeout"] != 0 || counts["membership_change"] != 1 {
		t.Errorf("per try %d, whole %d, membership %d", counts["upstream_rq_per_try_timeout"], counts["upstream_rq_timeout"], counts["membership_change"])
	}
}

// slowly is a body that takes a while.
type slowly struct {
	wire.Body
	pause time.Duration
}

func (s *slowly) Read(p []byte) (int, error) {
	<-time.After(s.pause)
	s.pause = 0
	return s.Body.Read(p)
}

// What a client takes for its request is on the account of neither timeout.
func TestRetryAfterSlowRequest(t *testing.T) {
	t.Parallel()
	policy := mesh.Retry{On: mesh.Retry5xx, Retries: 1, PerTry: time.Second}
	service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Retry, r.Timeout = &policy, 1200*time.Millisecond })},
		clusters(t, map[string]string{"c": failing(t, 503)}))
	req := request(http.MethodPost, "/")
	req.Body, req.ContentLength = &slowly{wire.NewBytes([]byte("body")), 1500 * time.Millisecond}, 4
	if got := do(t, service, &wire.Peer{}, req); got.Status != 200 || got.Body != "2 body" {
		t.Errorf("%+v", got)
	}
}

func TestRetryEnds(t *testing.T) {
	t.Parallel()
	policy := mesh.Retry{On: mesh.Retry5xx, Retries: 10}
	t.Run("at the deadline of the last try", func(t *testing.T) {
		t.Parallel()
		address := backend(t, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
		x := exchange(&wire.Peer{})
		x.Deadline = time.Now().Add(time.Second)
		once := mesh.Retry{On: mesh.Retry5xx, Retries: 1, PerTry: 600 * time.Millisecond}
		// That is not for want of tries: nobody would have made another.
		if got := finish(t, retrying(t, once, address), x, request(http.MethodGet, "/")); got.Flag != wire.FlagUpstreamTimeout || x.Exhausted {
			t.Errorf("%+v, exhausted %t", got, x.Exhausted)
		}
		x.Done(time.Now())
	})
	t.Run("at the deadline", func(t *testing.T) {
		t.Parallel()
		x := exchange(&wire.Peer{})
		x.Deadline = time.Now().Add(200 * time.Millisecond)
		got := finish(t, retrying(t, policy, failing(t, make503(20)...)), x, request(http.MethodGet, "/"))
		// Pauses are drawn by lot: sure is only that the policy's ten did not end it.
		// On a machine that is slow just then, the deadline comes during a try.
		if (got.Status != 503 && got.Flag != wire.FlagUpstreamTimeout) || got.Tries > 10 {
			t.Errorf("%+v", got)
		}
		x.Done(time.Now())
	})
	t.Run("when the client leaves", func(t *testing.T) {
		t.Parallel()
		x := exchange(&wire.Peer{})
		address := backend(t, func(w http.ResponseWriter, _ *http.Request) {
			x.Abort(wire.ErrClientGone)
			w.WriteHeader(http.StatusServiceUnavailable)
		})
		// The answer may have come in spite of it, but is not repeated.
		got := finish(t, retrying(t, policy, address), x, request(http.MethodGet, "/"))
		if (got.Flag != wire.FlagDownstreamReset && got.Status != 503) || got.Tries != 1 {
			t.Errorf("%+v", got)
		}
		x.Done(time.Now())
	})
	t.Run("when the client leaves during the pause", func(t *testing.T) {
		t.Parallel()
		x := exchange(&wire.Peer{})
		c := &leaving{x: x}
		x.Reset(c, &wire.Peer{}, time.Now())
		got := finish(t, retrying(t, policy, failing(t, make503(20)...)), x, request(http.MethodGet, "/"))
		if got.Flag != wire.FlagDownstreamReset || got.Tries != 1 {
			t.Errorf("%+v", got)
		}
		c.gone.Wait()
		x.Done(time.Now())
	})
	t.Run("at ten", func(t *testing.T) {
		t.Parallel()
		if testing.Short() {
			t.Skip("takes two seconds of pauses")
		}
		many := policy
		many.Retries = 1000
		if got := do(t, retrying(t, many, failing(t, make503(20)...)), &wire.Peer{}, request(http.MethodGet, "/")); got.Tries != 11 {
			t.Errorf("%+v", got)
		}
	})
	t.Run("for an upgrade before it begins", func(t *testing.T) {
		t.Parallel()
		req := request(http.MethodGet, "/")
		req.Upgrade = "websocket"
		h := &mesh.HTTP{Upgrades: []string{"websocket"}, Route: toward(func(r *mesh.Rule) { r.Retry = &policy })}
		if got := do(t, compile(t, h, clusters(t, map[string]string{"c": failing(t, 503, 503)})), &wire.Peer{}, req); got.Tries != 1 {
			t.Errorf("%+v", got)
		}
	})
}

// leaving is a client that leaves once it is watched.
type leaving struct {
	x    *wire.Exchange
	gone sync.WaitGroup
}

func (l *leaving) Interim(int, *wire.Header) error { return nil }

func (l *leaving) Watch() { l.gone.Go(func() { l.x.Abort(wire.ErrClientGone) }) }

func make503(n int) []int {
	all := make([]int, n)
	for i := range all {
		all[i] = http.StatusServiceUnavailable
	}
	return all
}
