package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// effective is how long tests wait at most for a changed intention to be in force: ten times the two seconds that are asked
// for, since the machine has other tests to run. Whether those hold is for who reads the log, which tells how long it took.
const effective = 20 * time.Second

// calm is how long answers must have been what they are to be.
const calm = 500 * time.Millisecond

// TestIntention flips intentions under load, while another source stays allowed.
func TestIntention(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http", "guest": "http"})
	w.allow(t, "edge", "api")
	w.allow(t, "web", "api", "db")
	w.allow(t, "guest", "db")
	w.run(t, "api-1", "api")
	w.run(t, "api-2", "api")
	w.run(t, "db-1", "db")
	web := w.run(t, "web-1", "web", "api", "db")
	guest := w.run(t, "guest-1", "guest", "db")
	g := w.edge(t, mesh("api"))
	w.waitOK(t, g.url("/api"), web.url("api", "/"))
	waitTCP(t, local(web.upstreams["db"]), local(guest.upstreams["db"]))

	t.Run("http", func(t *testing.T) { flipHTTP(t, w, g.url("/api"), web.url("api", "/")) })
	t.Run("tcp", func(t *testing.T) { flipTCP(t, w, web, guest) })
}

// flipHTTP takes the edge's right to call api away, and gives it back.
func flipHTTP(t *testing.T, w *world, flipped, other string) {
	t.Helper()
	loads := map[string]*harness.Load{"the other source": load(t, other)}
	watch := watchURL(t, flipped, 4)
	for range 2 {
		for _, allow := range []bool{false, true} {
			want, was := http.StatusForbidden, http.StatusOK
			if allow {
				want, was = was, want
			}
			start := time.Now()
			must(t, w.consul.Intention(t.Context(), "edge", "api", allow))
			within(t, effective, fmt.Sprintf("status %d and no other", want), func(context.Context) error {
				asked := watch.between(time.Now().Add(-calm), time.Now())
				if len(asked) == 0 {
					return errNotYet
				}
				for _, s := range asked {
					if s.status != want {
						return fmt.Errorf("status %d: %s", s.status, s.text)
					}
				}
				return nil
			})
			changed := time.Now()
			pause(t, time.Second)
			last := start
			for _, s := range watch.between(start, time.Now()) {
				switch {
				case s.status == was && s.start.Before(changed):
					last = s.start
				case s.status != want:
					t.Errorf("allow %v: %v after the write began, status %d: %s", allow, s.start.Sub(start), s.status, s.text)
				}
			}
			t.Logf("allow %v: the last old answer was to a request %v after the write began", allow, last.Sub(start).Round(time.Millisecond))
		}
	}
	watch.end()
	clean(t, loads)
}

// flipTCP takes web's right to call db away: its connection is cut, and no new one gets through, while that of guest
// lives on.
func flipTCP(t *testing.T, w *world, web, guest *instance) {
	t.Helper()
	other := stream(t, local(guest.upstreams["db"]))
	addr := local(web.upstreams["db"])
	for range 2 {
		cut := dialMirror(t, addr)
		must(t, cut.ping("hello"))

		must(t, w.consul.Intention(t.Context(), "web", "db", false))
		written := time.Now()
		// Nothing is sent on it: the proxy has to look after it by itself.
		must(t, cut.conn.SetDeadline(time.Now().Add(effective)))
		_, err := cut.reader.ReadByte()
		if err == nil || errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("a connection lives on %v after its intention was denied: %v", time.Since(written), err)
		}
		t.Logf("the connection was cut %v after the write: %v", time.Since(written).Round(time.Millisecond), err)
		if err := dialMirror(t, addr).ping("hello"); err == nil {
			t.Error("a new connection gets through")
		}

		must(t, w.consul.Intention(t.Context(), "web", "db", true))
		within(t, effective, "a connection to get through again", func(ctx context.Context) error {
			m, err := tryMirror(ctx, addr)
			if err != nil {
				return err
			}
			defer drop(m.conn)
			return m.ping("hello")
		})
	}
	other.end(t)
}

func isTimeout(err error) bool {
	timeout, ok := errors.AsType[interface {
		error
		Timeout() bool
	}](err)
	return ok && timeout.Timeout()
}

// talk is a raw connection on which something is said ten times a second.
type talk struct {
	stop  context.CancelFunc
	ended chan error
	said  int
}

// stream starts a talk.
func stream(t *testing.T, addr string) *talk {
	t.Helper()
	m := dialMirror(t, addr)
	must(t, m.ping("begin"))
	ctx, cancel := context.WithCancel(t.Context())
	s := &talk{stop: cancel, ended: make(chan error, 1)}
	go func() { s.ended <- s.run(ctx, m) }()
	return s
}

func (s *talk) run(ctx context.Context, m *mirror) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		if err := m.ping(strconv.Itoa(s.said)); err != nil {
			return fmt.Errorf("after %d messages: %w", s.said, err)
		}
		s.said++
	}
}

// end ends the talk, which must have gone well.
func (s *talk) end(t *testing.T) {
	t.Helper()
	s.stop()
	if err := <-s.ended; err != nil || s.said == 0 {
		t.Errorf("a long connection broke: %d messages, %v", s.said, err)
		return
	}
	t.Logf("a long connection carried %d messages", s.said)
}
