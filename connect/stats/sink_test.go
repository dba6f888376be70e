package stats_test

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/stats"
)

// statsd is one end of a connection that remembers what came.
type statsd struct {
	mu     sync.Mutex // guards:
	writes []string
	dials  int
	broken bool
}

func (s *statsd) dial(context.Context) (net.Conn, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dials++
	if s.broken {
		return nil, errors.New("nobody is there")
	}
	ours, theirs := net.Pipe()
	go func() {
		buffer := make([]byte, 64<<10)
		for {
			n, err := theirs.Read(buffer)
			if err != nil {
				return
			}
			s.mu.Lock()
			s.writes = append(s.writes, string(buffer[:n]))
			s.mu.Unlock()
		}
	}()
	return ours, nil
}

func (s *statsd) take() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	out := slices.Clone(s.writes)
	s.writes = nil
	return out
}

func TestSink(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name          string
		tags          bool
		prefix        string
		datagram      int
		first, second []string
	}{
		{
			"statsd", false, "", 0,
			[]string{"envoy.cluster.api.upstream_cx_active:2|g", "envoy.cluster.api.upstream_rq_200:3|c", "envoy.cluster.api.upstream_rq_time:7|ms"},
			[]string{
				"envoy.cluster.api.upstream_cx_active:2|g", "envoy.cluster.api.upstream_rq_200:4|c",
				"envoy.cluster.api.upstream_rq_time:0|ms", "envoy.cluster.api.upstream_rq_time:7.5|ms|@0.33333333",
			},
		},
		{
			"DogStatsD", true, "mine", 1400,
			[]string{"mine.cluster.upstream_cx_active:2|g|#local_cluster:w\"b,envoy.cluster_name:api\n" +
				"mine.cluster.upstream_rq:3|c|#local_cluster:w\"b,envoy.response_code:200,envoy.cluster_name:api\n" +
				"mine.cluster.upstream_rq_time:7|ms|#local_cluster:w\"b,envoy.cluster_name:api"},
			[]string{"mine.cluster.upstream_cx_active:2|g|#local_cluster:w\"b,envoy.cluster_name:api\n" +
				"mine.cluster.upstream_rq:4|c|#local_cluster:w\"b,envoy.response_code:200,envoy.cluster_name:api\n" +
				"mine.cluster.upstream_rq_time:0|ms|#local_cluster:w\"b,envoy.cluster_name:api\n" +
				"mine.cluster.upstream_rq_time:7.5|ms|@0.33333333|#local_cluster:w\"b,envoy.cluster_name:api"},
		},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				server := &statsd{}
				v := view(t)
				sink := stats.Sink{
					View: v, Prefix: row.prefix, Tags: row.tags, MaxDatagram: row.datagram,
					Interval: 5 * time.Second, Dial: server.dial, Log: slog.New(slog.DiscardHandler),
				}
				ctx, cancel := context.WithCancel(t.Context())
				done := make(chan error, 1)
				go func() { done <- sink.Run(ctx) }()
				wait := func() []string {
					time.Sleep(5 * time.Second) //nolint:forbidigo // the bubble's clock jumps
					synctest.Wait()
					return server.take()
				}
				if diff := cmp.Diff(row.first, wait()); diff != "" {
					t.Error(diff)
				}
				scope := v.Registry.Scope("cluster.api.")
				scope.Counter("upstream_rq_200").Add(4)
				for _, value := range []int64{0, 6, 8, 9} {
					scope.Histogram("upstream_rq_time").Record(value)
				}
				if diff := cmp.Diff(row.second, wait()); diff != "" {
					t.Error(diff)
				}
				v.Reset()
				scope.Gauge("upstream_cx_active").Set(0)
				cancel()
				if err := <-done; err != nil {
					t.Error(err)
				}
				synctest.Wait()
				if last := strings.Join(server.take(), "\n"); !strings.Contains(last, "upstream_cx_active:0|g") {
					t.Errorf("at the end %q", last)
				}
			})
		})
	}
}

// A server that is not there costs numbers, not the process, and is asked again.
func TestSinkWithoutServer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		server := &statsd{broken: true}
		sink := stats.Sink{View: view(t), Interval: time.Second, Dial: server.dial, Stream: true, Log: slog.New(slog.DiscardHandler)}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- sink.Run(ctx) }()
		time.Sleep(3500 * time.Millisecond) //nolint:forbidigo // the bubble's clock jumps
		server.mu.Lock()
		if server.dials != 3 {
			t.Errorf("%d dials", server.dials)
		}
		server.broken = false
		server.mu.Unlock()
		time.Sleep(time.Second) //nolint:forbidigo // the bubble's clock jumps
		synctest.Wait()
		if got := strings.Join(server.take(), ""); !strings.HasSuffix(got, "|g\n") && !strings.Contains(got, "|g\n") {
			t.Errorf("got %q", got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		if sink.Failures.Load() != 3 {
			t.Errorf("%d failures", sink.Failures.Load())
		}
	})
}
