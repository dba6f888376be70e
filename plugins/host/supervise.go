package host

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// run replaces the process whenever it ends, until ctx ends.
func (w *worker) run(ctx context.Context) {
	defer close(w.done)
	defer w.finish()
	for failures := 0; ctx.Err() == nil; {
		if s := w.session.Load(); s != nil {
			w.mind(ctx, s)
			if ctx.Err() != nil {
				return
			}
			w.publish(nil)
			s.stop(w.times.Grace)
			w.counts.ends.Add(1)
			if failures++; time.Since(s.began) >= w.times.Stable {
				failures = 0
			}
			w.log.Error("plugin has ended, and is started again", "how", s.process.end, "last_words", s.log.end())
		}
		if !sleep(ctx, w.pause(failures)) {
			return
		}
		if err := w.restart(ctx); err != nil && ctx.Err() == nil {
			failures++
			w.log.Error("plugin not started, it is tried again", "err", err)
		}
	}
}

// pause is how long to wait before the next start: a random half of it keeps
// plugins that fell together from rising together.
func (w *worker) pause(failures int) time.Duration {
	limit := w.times.Last
	if failures < 20 {
		limit = min(limit, w.times.First<<failures)
	}
	return limit/2 + rand.N(limit/2+1)
}

func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// mind returns when the session has ended. One that does not answer is ended; a
// use that was refused is tried again from time to time, since what it needs may
// have come.
func (w *worker) mind(ctx context.Context, s *session) {
	ticker := time.NewTicker(w.times.Ping)
	defer ticker.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-s.ended:
			return
		case <-ticker.C:
		}
		if err := w.ping(ctx, s); err == nil {
			err = w.openAll(ctx, s)
			if err == nil {
				continue
			}
		}
		if ctx.Err() != nil {
			return
		}
		if s.isUp() {
			w.log.Error("plugin does not answer pings, so it is killed", "after", w.times.Pong)
			s.process.kill()
			<-s.ended
		}
		return
	}
}

func (w *worker) ping(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, w.times.Pong)
	defer cancel()
	_, err := s.rpc.Describe(ctx, &pluginpb.DescribeRequest{})
	return err
}

// restart starts another process with all uses.
func (w *worker) restart(ctx context.Context) error {
	if err := w.start(ctx); err != nil {
		return err
	}
	s := w.session.Load()
	err := w.openAll(ctx, s)
	if err != nil && ctx.Err() == nil {
		s.process.kill() // as hung as one that answers no ping
	}
	return err
}
