package stats_test

import (
	"log/slog"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/stats"
)

// A name that goes and comes again, as that of a cluster may, counts from 0.
func TestSinkForgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var value atomic.Int64
		registry := &stats.Registry{}
		registry.Add(func(yield func(stats.Stat) bool) {
			if n := value.Load(); n > 0 {
				yield(stats.Stat{Name: "cluster.a.upstream_rq_200", Value: n})
			}
		})
		server := &statsd{}
		sink := &stats.Sink{View: &stats.View{Registry: registry}, Interval: time.Second, Dial: server.dial, Log: slog.New(slog.DiscardHandler)}
		go sink.Run(t.Context()) //nolint:errcheck // it ends with the test
		for _, row := range []struct {
			value int64
			want  []string
		}{
			{5, []string{"envoy.cluster.a.upstream_rq_200:5|c"}},
			{0, nil},
			{7, []string{"envoy.cluster.a.upstream_rq_200:7|c"}},
		} {
			value.Store(row.value)
			time.Sleep(time.Second) //nolint:forbidigo // of a bubble
			synctest.Wait()
			if got := server.take(); !slices.Equal(got, row.want) {
				t.Errorf("%d: %q", row.value, got)
			}
		}
	})
}
