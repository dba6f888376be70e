package upstream_test

import (
	"strings"
	"sync"
	"testing"

	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// What is counted never falls: to Prometheus that would be a new beginning, and all
// would count once more.
func TestDestroyedNeverFalls(t *testing.T) {
	t.Parallel()
	s := newSet(t, static("a", at(echo(t))))
	destroyed := func() (n int64) {
		for _, c := range s.Clusters() {
			each(&c, func(stat stats.Stat) {
				if strings.HasSuffix(stat.Name, "upstream_cx_destroy") {
					n = stat.Value
				}
			})
		}
		return n
	}
	const many = 500
	var dialing sync.WaitGroup
	done := make(chan struct{})
	for range 4 {
		dialing.Go(func() {
			for range many {
				conn, _, err := s.Cluster("a").Dial(t.Context(), wire.Choice{})
				if err != nil {
					t.Error(err)
					return
				}
				conn.Close()
			}
		})
	}
	go func() {
		dialing.Wait()
		close(done)
	}()
	last := int64(0)
	for reading := true; reading; {
		select {
		case <-done:
			reading = false
		default:
		}
		now := destroyed()
		if now < last {
			t.Fatalf("%d, then %d", last, now)
		}
		last = now
	}
	if last != 4*many {
		t.Errorf("%d of %d", last, 4*many)
	}
}

func each(c *upstream.ClusterStats, f func(stats.Stat)) {
	c.Each("c.", func(stat stats.Stat) bool {
		f(stat)
		return true
	})
}
