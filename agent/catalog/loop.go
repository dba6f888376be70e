package catalog

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/hashicorp/consul/api"
)

const (
	// waitTime is how long Consul may hold a query; patience is what we wait
	// longer, since Consul adds up to a sixteenth.
	waitTime = time.Minute
	patience = 20 * time.Second
	// holdFor is how long after an error an empty answer is doubted, and
	// holdWait how long each query then may take.
	holdFor  = time.Minute
	holdWait = 5 * time.Second
	// pace is the least time between two queries.
	pace = 200 * time.Millisecond
	// firstPause between queries that fail doubles up to lastPause.
	firstPause, lastPause = time.Second, 30 * time.Second
)

// question is what a loop asks Consul. Its methods are never called at the same
// time.
type question interface {
	// ask sends the query and keeps what it answers for answered.
	ask(o *api.QueryOptions) (*api.QueryMeta, error)
	// answered puts the answer in force, unless it is held: while doubtful, an
	// answer that empties what seems to be well is not believed.
	answered(ctx context.Context, doubtful bool) (held bool)
	// lost tells that asking fails, once for each new text of an error.
	lost(err error)
	// back tells that Consul answers after lost, before answered.
	back()
}

// loop asks one blocking query again and again, and is patient with Consul: its
// last answer stays in force while asking fails.
type loop struct {
	question
	// every is the pause between two queries of an endpoint that cannot block;
	// 0 for one that can.
	every time.Duration
	// longest pause after an error; 0 means lastPause.
	longest time.Duration
	// returned gives a channel that is closed when somebody else finds that
	// Consul is back; nil if nobody tells.
	returned func() <-chan struct{}

	mu    sync.Mutex // held by step, guards:
	index uint64
	pause time.Duration
	told  string
	// doubtUntil is when an empty answer is believed again, after an error.
	doubtUntil time.Time
	holding    bool
}

// run asks until ctx ends.
func (l *loop) run(ctx context.Context) {
	for ctx.Err() == nil {
		var returned <-chan struct{}
		if l.returned != nil {
			returned = l.returned()
		}
		pause, failed := l.step(ctx, waitTime)
		if !failed {
			returned = nil
		}
		if !rest(ctx, pause, returned) {
			return
		}
	}
}

// step asks once, and tells how long to rest before the next time and whether it
// failed. A wait of 0 means that Consul answers at once.
func (l *loop) step(ctx context.Context, wait time.Duration) (pause time.Duration, failed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stepLocked(ctx, wait)
}

// glance asks once for an answer without delay, unless somebody is asking. It
// tells whether that failed.
func (l *loop) glance(ctx context.Context) (failed bool) {
	if !l.mu.TryLock() {
		return false
	}
	defer l.mu.Unlock()
	_, failed = l.stepLocked(ctx, 0)
	return failed
}

func (l *loop) stepLocked(ctx context.Context, wait time.Duration) (pause time.Duration, failed bool) {
	begin := time.Now()
	meta, err := l.send(ctx, wait)
	switch {
	case ctx.Err() != nil:
		return 0, false
	case err != nil:
		return l.failed(err), true
	}
	if meta.LastIndex < l.index {
		l.index = 0 // Consul has lost its state: begin anew
	} else {
		l.index = meta.LastIndex
	}
	if l.told != "" {
		l.told, l.pause = "", 0
		l.doubtUntil = time.Now().Add(holdFor)
		l.back()
	}
	l.holding = l.answered(ctx, time.Now().Before(l.doubtUntil))
	if l.every > 0 {
		return l.every, false
	}
	return pace - time.Since(begin), false
}

func (l *loop) send(ctx context.Context, wait time.Duration) (*api.QueryMeta, error) {
	if l.holding {
		wait = min(wait, holdWait)
	}
	ctx, cancel := context.WithTimeout(ctx, wait+patience)
	defer cancel()
	options := &api.QueryOptions{AllowStale: true}
	if wait > 0 && l.every == 0 {
		options.WaitIndex, options.WaitTime = l.index, wait
	}
	return l.ask(options.WithContext(ctx))
}

// failed tells of an error once, and how long to wait.
func (l *loop) failed(err error) time.Duration {
	// An agent that comes back may count from a lower index, and would let us
	// wait for one that is long in the future.
	l.index = 0
	l.doubtUntil = time.Time{}
	if text := err.Error(); text != l.told {
		l.told = text
		l.lost(err)
	}
	longest := l.longest
	if longest == 0 {
		longest = lastPause
	}
	l.pause = min(max(2*l.pause, firstPause), longest)
	return l.pause/2 + rand.N(l.pause)
}

// rest waits; false if ctx ended before. It ends early, but not for all loops at
// once, when returned is closed.
func rest(ctx context.Context, d time.Duration, returned <-chan struct{}) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-returned:
		return rest(ctx, rand.N(pace), nil)
	case <-ctx.Done():
		return false
	}
}
