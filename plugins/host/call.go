package host

import (
	"context"
	"errors"
	"fmt"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serai-net/serai/plugins"
)

// call makes one call: with a deadline, in one of a bounded number of places,
// counted by how it went.
func (i *Instance) call(ctx context.Context, body int, do func(context.Context, *session) error) error {
	w := i.worker
	i.active.Add(1)
	defer i.active.Add(-1)
	w.counts.calls.Add(1)
	if body > w.config.MaxBody {
		w.counts.failed.Add(1)
		return fmt.Errorf("plugin %q: %w: the body has %d bytes, and max_body is %d", w.config.Name, ErrFailed, body, w.config.MaxBody)
	}
	limited, cancel := context.WithTimeout(ctx, w.config.timeout())
	defer cancel()
	err := i.inPlace(limited, do)
	if err == nil {
		return nil
	}
	if ctx.Err() != nil { // whatever it looked like
		w.counts.canceled.Add(1)
		return fmt.Errorf("plugin %q: %w", w.config.Name, context.Cause(ctx))
	}
	// A plugin that heeds the deadline answers that it failed, and its answer may be read before our own timer is heard.
	if deadline, _ := limited.Deadline(); errors.Is(err, ErrFailed) && !time.Now().Before(deadline) {
		err = w.late()
	}
	return w.count(err)
}

// late is the error of a call that has not been answered in time.
func (w *worker) late() error { return fmt.Errorf("%w: timeout is %v", ErrTimeout, w.config.timeout()) }

// inPlace takes a place for do; limited has the deadline.
func (i *Instance) inPlace(limited context.Context, do func(context.Context, *session) error) error {
	w := i.worker
	s, err := i.ready()
	if err != nil {
		return err
	}
	select {
	case w.slots <- struct{}{}:
	default:
		if err := w.awaitPlace(limited, s); err != nil {
			return err
		}
	}
	defer func() { <-w.slots }()
	if s, err = i.ready(); err != nil {
		return err
	}
	w.counts.active.Add(1)
	defer w.counts.active.Add(-1)
	return do(limited, s)
}

func (w *worker) awaitPlace(limited context.Context, s *session) error {
	defer w.waiting.Add(-1)
	if w.waiting.Add(1) > w.maxWaiting {
		return fmt.Errorf("%w: %d are under way and %d wait", ErrOverload, cap(w.slots), w.maxWaiting)
	}
	w.counts.waiting.Add(1)
	defer w.counts.waiting.Add(-1)
	select {
	case w.slots <- struct{}{}:
		return nil
	case <-s.ended:
		return ErrUnavailable
	case <-limited.Done():
		return fmt.Errorf("%w: no place within %v", ErrOverload, w.config.timeout())
	}
}

// judge makes one of our errors of one of gRPC's.
func (w *worker) judge(ctx context.Context, s *session, err error) error {
	code := status.Code(err)
	switch {
	case !s.isUp(), code == codes.Unavailable:
		return ErrUnavailable
	case code == codes.DeadlineExceeded, errors.Is(ctx.Err(), context.DeadlineExceeded):
		return w.late()
	case ctx.Err() != nil:
		return ctx.Err()
	}
	return fmt.Errorf("%w: %v: %s", ErrProtocol, code, bounded(status.Convert(err).Message(), maxFailedText))
}

// count counts how a call failed, and names the plugin.
func (w *worker) count(err error) error {
	var refused *plugins.Refusal
	switch {
	case errors.As(err, &refused):
		w.counts.refused.Add(1)
		return err
	case errors.Is(err, ErrUnavailable):
		w.counts.unavailable.Add(1)
	case errors.Is(err, ErrTimeout):
		w.counts.timeouts.Add(1)
	case errors.Is(err, ErrOverload):
		w.counts.overloads.Add(1)
	case errors.Is(err, ErrProtocol):
		w.counts.violations.Add(1)
	default:
		w.counts.failed.Add(1)
	}
	return fmt.Errorf("plugin %q: %w", w.config.Name, err)
}
