package healthcheck_test

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/filter/healthcheck"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// rig is a filter before an application.
type rig struct {
	t       *testing.T
	status  int // the application's; 0 fails
	asked   int
	failing bool
	layer   wire.Layer
}

func newRig(t *testing.T, c *mesh.HealthCheck) *rig {
	t.Helper()
	r := &rig{t: t, status: 200}
	c.Headers = []mesh.HeaderMatch{{Name: ":path", Value: mesh.StringMatch{Exact: "/health"}}}
	filter, err := healthcheck.New(c, healthcheck.Place{
		Name: "us", Failed: func() bool { return r.failing }, Cache: &healthcheck.Cache{},
		Count: func(cluster string) (all, healthy int, ok bool) {
			switch cluster {
			case "half":
				return 4, 2, true
			case "empty":
				return 0, 0, true
			}
			return 0, 0, false
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	r.layer = filter.Layer
	return r
}

func (r *rig) ask(path string) (status int, header *wire.Header) {
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	resp, err := r.layer(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		r.asked++
		if r.status == 0 {
			return nil, errors.New("down")
		}
		return &wire.Response{Status: r.status}, nil
	})).Serve(x, &wire.Request{Method: "GET", Path: path, Proto: 1, Minor: 1})
	if err != nil {
		resp = wire.Reply(x, err)
	}
	x.Done(time.Now())
	if x.HealthCheck != (path == "/health") {
		r.t.Errorf("%s is a health check: %t", path, x.HealthCheck)
	}
	return resp.Status, &resp.Header
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		clusters map[string]float64
		failing  bool
		want     int
	}{
		{"healthy", nil, false, 200},
		{"declared failed", nil, true, 503},
		{"enough", map[string]float64{"half": 50}, false, 200},
		{"too few", map[string]float64{"half": 51}, false, 503},
		{"none", map[string]float64{"empty": 1}, false, 503},
		{"none needed", map[string]float64{"empty": 0}, false, 200},
		{"not known", map[string]float64{"other": 0}, false, 503},
	} {
		r := newRig(t, &mesh.HealthCheck{Clusters: tt.clusters})
		r.failing = tt.failing
		status, header := r.ask("/health")
		if status != tt.want || r.asked != 0 || header.Get("x-envoy-upstream-healthchecked-cluster") != "us" {
			t.Errorf("%s: status %d, asked %d, %v", tt.name, status, r.asked, header)
		}
		if failed := header.Has("x-envoy-immediate-health-check-fail"); failed != tt.failing {
			t.Errorf("%s: told that it has failed: %t", tt.name, failed)
		}
		if status, header = r.ask("/other"); status != 200 || r.asked != 1 || header.Has("x-envoy-immediate-health-check-fail") != tt.failing {
			t.Errorf("%s: another path: %d, asked %d, %v", tt.name, status, r.asked, header)
		}
	}
}

// The application is asked once in a while, and what it says is believed so long.
func TestCache(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRig(t, &mesh.HealthCheck{PassThrough: true, CacheTime: time.Second})
		steps := []struct {
			pause        time.Duration
			status, want int
			asked        int
		}{
			{0, 200, 200, 1},
			{900 * time.Millisecond, 503, 200, 1},
			{200 * time.Millisecond, 503, 503, 2},
			{0, 200, 503, 2},
			{time.Second, 0, 500, 3},
			{0, 200, 503, 3},
			{time.Second, 200, 200, 4},
		}
		for i, s := range steps {
			<-time.After(s.pause)
			r.status = s.status
			if got, _ := r.ask("/health"); got != s.want || r.asked != s.asked {
				t.Errorf("step %d: status %d, asked %d times, want %d and %d", i, got, r.asked, s.want, s.asked)
			}
		}
		r.failing = true
		if got, _ := r.ask("/health"); got != 503 {
			t.Errorf("declared failed: %d", got)
		}
	})
}
