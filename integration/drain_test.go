package integration_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// TestSidecarStops stops sidecars under load, in ways from the friendliest to the worst.
func TestSidecarStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http"})
	w.allow(t, "edge", "api")
	w.allow(t, "web", "api", "db")
	apis := []*instance{w.run(t, "api-1", "api"), w.run(t, "api-2", "api")}
	db := w.run(t, "db-1", "db")
	web := w.run(t, "web-1", "web", "api", "db")
	g := w.edge(t, mesh("api"))
	w.waitOK(t, g.url("/api"), web.url("api", "/"))
	must(t, w.consul.WaitHealthy(t.Context(), "api-sidecar-proxy", 2))
	replace := func(t *testing.T, id string) {
		t.Helper()
		next := w.run(t, id, "api")
		eventually(t, id+" to be asked", func(ctx context.Context) error {
			_, err := fetch(ctx, http.DefaultClient, g.url("/api"))
			if err == nil && next.app.hits.Load() == 0 {
				err = errNotYet
			}
			return err
		})
		apis = append(apis[1:], next)
	}

	for n, c := range []struct {
		signal os.Signal
		delay  time.Duration // shutdown_delay of the job
	}{
		{syscall.SIGTERM, 0},
		{syscall.SIGINT, time.Second},
	} {
		t.Run(fmt.Sprintf("%v, %v after it was deregistered", c.signal, c.delay), func(t *testing.T) {
			loads := map[string]*harness.Load{
				"edge to api":            load(t, g.url("/api")),
				"slow answers":           loadBy(t, strict(t), g.url("/api/slow/300ms"), 4),
				"web to api":             load(t, web.url("api", "/")),
				"new connections to api": loadBy(t, closing(t), g.url("/api"), 1),
			}
			pause(t, time.Second)
			w.stop(t, apis[0], c.delay, c.signal)
			pause(t, time.Second)
			clean(t, loads)
		})
		replace(t, fmt.Sprintf("api-%d", 3+n))
	}
	t.Run("killed", func(t *testing.T) { killSidecar(t, g.url("/api"), web.url("api", "/"), apis[0]) })
	t.Run("a connection that never ends", func(t *testing.T) {
		waitTCP(t, local(web.upstreams["db"]))
		m := dialMirror(t, local(web.upstreams["db"]))
		must(t, m.ping("hello"))
		w.stop(t, db, 0, syscall.SIGTERM)
	})
}

// killSidecar kills one of two sidecars: what it had under way is lost, but no more.
func killSidecar(t *testing.T, edge, web string, i *instance) {
	t.Helper()
	watches := map[string]*watch{"edge": watchURL(t, edge, 4), "web": watchURL(t, web, 4)}
	pause(t, time.Second)
	must(t, i.sidecar.Kill())
	killed := time.Now()
	pause(t, 5*time.Second)
	for name, watch := range watches {
		watch.end()
		var failed []sample
		all := watch.between(killed.Add(-time.Second), time.Now())
		for _, s := range all {
			if s.status != http.StatusOK {
				failed = append(failed, s)
			}
		}
		t.Logf("%s: %d of %d requests failed", name, len(failed), len(all))
		for _, s := range failed[:min(len(failed), 10)] {
			t.Logf("  %v after the kill: status %d: %.100s", s.start.Sub(killed).Round(time.Millisecond), s.status, s.text)
		}
		// At most what each worker had under way, and once more what it sent to an endpoint not yet known as dead.
		if len(failed) > 8 {
			t.Errorf("%s: %d requests failed, more than was under way", name, len(failed))
		}
		for _, s := range failed {
			if after := s.start.Sub(killed); after > 3*time.Second {
				t.Errorf("%s: a request fails %v after the kill", name, after)
			}
		}
	}
}

// TestEdgeStops stops one of two edges under load, with answers under way.
func TestEdgeStops(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http"})
	w.allow(t, "edge", "api")
	w.run(t, "api-1", "api")
	first, second := w.edge(t, mesh("api")), w.edge(t, mesh("api"))
	w.waitOK(t, first.url("/api"), second.url("/api"))

	for _, sig := range []os.Signal{syscall.SIGTERM, syscall.SIGINT} {
		t.Run(sig.String(), func(t *testing.T) {
			loads := map[string]*harness.Load{"keep-alive clients": loadBy(t, moving(t, first.addr, second.addr), first.url("/api"), 8)}
			slow := make(chan string, 2)
			for _, d := range []string{"2s", "3s"} {
				go func() { slow <- slowly200(t.Context(), strict(t), first.url("/api/slow/"+d)) }()
			}
			pause(t, time.Second)
			must(t, first.process.Signal(sig))
			exits(t, first.process, nomadKill)
			for range cap(slow) {
				if complaint := <-slow; complaint != "" {
					t.Errorf("an answer under way: %s", complaint)
				}
			}
			clean(t, loads)
			services, err := w.consul.API.Agent().ServicesWithFilterOpts("", (&consulapi.QueryOptions{}).WithContext(t.Context()))
			must(t, err)
			for id := range services {
				if strings.HasPrefix(id, first.id) {
					t.Errorf("%s is still registered", id)
				}
			}
		})
		first, second = second, w.edge(t, mesh("api"))
		w.waitOK(t, second.url("/api"))
	}
}

// slowly200 tells what was wrong with an answer, or "".
func slowly200(ctx context.Context, client *http.Client, url string) string {
	got, err := fetch(ctx, client, url)
	switch {
	case err != nil:
		return err.Error()
	case got.status != http.StatusOK:
		return fmt.Sprintf("status %d: %s", got.status, got.body)
	default:
		return ""
	}
}

// moving is a client of two edges, of which the first will go: when an answer says that its connection is closed, or
// when nobody listens any more, new connections go to the second.
func moving(t *testing.T, first, second string) *http.Client {
	t.Helper()
	m := &mover{first: first, second: second}
	client := strictOver(t, m)
	m.inner = client.Transport
	client.Transport = m
	return client
}

type mover struct {
	first, second string
	inner         http.RoundTripper
	moved         atomic.Bool
}

func (m *mover) DialContext(ctx context.Context, network, _ string) (net.Conn, error) {
	var dialer net.Dialer
	if !m.moved.Load() {
		conn, err := dialer.DialContext(ctx, network, m.first)
		if err == nil {
			return conn, nil
		}
		m.moved.Store(true)
	}
	return dialer.DialContext(ctx, network, m.second)
}

func (m *mover) RoundTrip(req *http.Request) (*http.Response, error) {
	resp, err := m.inner.RoundTrip(req)
	if err == nil && resp.Close {
		m.moved.Store(true)
	}
	return resp, err
}
