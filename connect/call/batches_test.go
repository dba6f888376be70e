package call_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/call"
)

// What is enough is sent at once, what is not in a while; there is a bound; and the end waits, but not for ever.
func TestBatches(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var sent []string
		b := call.NewBatches(call.Batching[int]{
			Enough: 10, Most: 20, Wait: time.Second, Timeout: time.Minute,
			Send: func(ctx context.Context, batch []int, timer bool) {
				sent = append(sent, fmt.Sprint(batch, timer))
				if batch[0] == 9 {
					<-ctx.Done()
				}
			},
		})
		ended := make(chan struct{})
		go func() { b.Run(); close(ended) }()
		add := func(n, size int, want bool) {
			if b.Add(n, size) != want {
				t.Errorf("%d was taken: %t", n, !want)
			}
		}
		add(1, 4, true)
		synctest.Wait()
		if len(sent) > 0 {
			t.Errorf("sent %q", sent)
		}
		add(2, 6, true)
		synctest.Wait()
		add(3, 1, true)
		time.Sleep(1400 * time.Millisecond) //nolint:forbidigo // of a bubble; the end is not to fall together with a tick
		add(9, 10, true)
		synctest.Wait() // it is being sent
		add(4, 20, true)
		add(5, 1, false)
		began := time.Now()
		b.Close()
		b.Close()
		add(6, 0, false)
		<-ended
		if took := time.Since(began); took > time.Second {
			t.Errorf("the end took %s", took)
		}
		if want := []string{"[1 2] false", "[3] true", "[9] false", "[4] false"}; !slices.Equal(sent, want) {
			t.Errorf("sent %q", sent)
		}
	})
}
