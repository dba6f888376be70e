package stack_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// observed is what an observer has seen of connections.
type observed struct {
	active, in, out atomic.Int64

	mu    sync.Mutex // guards:
	ended []string
}

func (o *observed) observe(x *wire.Exchange) (in, out *atomic.Int64) {
	o.active.Add(1)
	x.OnEnd(o)
	return &o.in, &o.out
}

// End implements [wire.End].
func (o *observed) End(x *wire.Exchange) {
	o.active.Add(-1)
	o.mu.Lock()
	defer o.mu.Unlock()
	upstream, proxy := x.Upstream()
	if whole := x.Finish.Sub(x.Start); upstream < 0 || proxy < 0 || upstream+proxy > whole {
		o.ended = append(o.ended, fmt.Sprintf("upstream %v, in proxy %v, of %v", upstream, proxy, whole))
	}
	o.ended = append(o.ended, fmt.Sprintf("%s %s %s in %d out %d tries %d",
		x.Flag, x.Peer.ID.Service(), x.Cluster, x.BytesIn, x.BytesOut, len(x.Attempts)))
}

// want complains if other connections than these have ended.
func (o *observed) want(t *testing.T, ended ...string) {
	t.Helper()
	eventually(t, "connections have ended", func() bool {
		o.mu.Lock()
		defer o.mu.Unlock()
		return len(o.ended) >= len(ended)
	})
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.Sort(ended)
	slices.Sort(o.ended)
	if diff := cmp.Diff(ended, o.ended); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// Bytes and active connections are counted while they live.
func TestObserveLive(t *testing.T) {
	t.Parallel()
	r := relayTo(t, echo(t), toC())
	conn := dial(t, r.address)
	mustTalk(t, conn)
	eventually(t, "counted", func() bool {
		return r.seen.active.Load() == 1 && r.seen.in.Load() == 4 && r.seen.out.Load() == 4
	})
	conn.Close()
	mustEnd(t, r)
	r.seen.want(t, "- web c in 4 out 4 tries 1")
	if n := r.seen.active.Load(); n != 0 {
		t.Errorf("%d active", n)
	}
}

// Who breaks a connection is told apart.
func TestObserveBreaks(t *testing.T) {
	t.Parallel()
	t.Run("the client", func(t *testing.T) {
		t.Parallel()
		r := relayTo(t, echo(t), toC())
		conn := dial(t, r.address)
		mustTalk(t, conn)
		reset(t, conn)
		r.seen.want(t, "DC web c in 4 out 4 tries 1")
	})
	t.Run("the upstream", func(t *testing.T) {
		t.Parallel()
		r := relayTo(t, tcp(t, func(conn net.Conn) {
			if _, err := io.ReadFull(conn, make([]byte, 4)); err == nil {
				reset(t, conn)
			}
		}), toC())
		conn := dial(t, r.address)
		if _, err := conn.Write([]byte("word")); err != nil {
			t.Fatal(err)
		}
		mustBeClosed(t, conn)
		r.seen.want(t, "UC web c in 4 out 0 tries 1")
	})
	t.Run("the end of the drain", func(t *testing.T) {
		t.Parallel()
		r := relayTo(t, echo(t), toC())
		conn := dial(t, r.address)
		mustTalk(t, conn)
		r.drain.Kill()
		mustBeClosed(t, conn)
		r.seen.want(t, "DR web c in 4 out 4 tries 1")
	})
}

// reset ends a connection without the politeness of TCP.
func reset(t *testing.T, conn net.Conn) {
	t.Helper()
	c, ok := conn.(*net.TCPConn)
	if !ok {
		t.Errorf("%T", conn)
		return
	}
	if err := c.SetLinger(0); err != nil {
		t.Error(err)
	}
	c.Close()
}

// What a retry waits is the proxy's time, not the upstream's.
func TestRetryTime(t *testing.T) {
	t.Parallel()
	x := exchange(web(t))
	var tries atomic.Int32
	address := backend(t, func(w http.ResponseWriter, _ *http.Request) {
		if tries.Add(1) == 1 {
			w.Header().Set("Retry-After", "1")
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	})
	service := retrying(t, mesh.Retry{On: mesh.Retry5xx, Retries: 1, RateLimited: &mesh.RateLimitedBackOff{
		Headers: []mesh.ResetHeader{{Name: "retry-after"}}, Max: time.Minute,
	}}, address)
	resp, err := service.Serve(x, request("GET", "/"))
	if err != nil || resp.Status != 200 {
		t.Fatalf("%v, %v", resp, err)
	}
	x.HeadSent = time.Now()
	if resp.Body != nil {
		resp.Body.Close()
	}
	x.Done(x.HeadSent)
	upstream, proxy := x.Upstream()
	if first := x.Attempts[0]; len(x.Attempts) != 2 || upstream != first.Head.Sub(first.Begin)+x.Attempts[1].Head.Sub(x.Attempts[1].Begin) {
		t.Errorf("%v upstream in %+v", upstream, x.Attempts)
	}
	if proxy < time.Second { // the pause
		t.Errorf("%v in the proxy", proxy)
	}
}
