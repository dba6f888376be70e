package host

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/plugins"
	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// Instance is one use of a plugin with its settings. It stays the same while
// processes come and go. It is safe for concurrent use; arguments are read
// before a method returns, and never after it, but for a request's Body, which
// must not change as long as the context lives.
//
// Errors are [ErrUnavailable], [ErrTimeout], [ErrOverload], [ErrProtocol] or
// [ErrFailed] with the plugin's name and what was wrong; a [plugins.Refusal] if
// that is the plugin's answer; and the cause of the context if it ended first.
type Instance struct {
	// set by worker.instance
	worker          *worker
	id              uint64
	place, settings string

	session       atomic.Pointer[session] // in which it is open
	active        atomic.Int64            // calls
	authenticates atomic.Bool             // as the plugin said when it was opened
	transforms    atomic.Bool             // likewise

	retired time.Time // owned by Set; when it was last wanted, zero while it is
}

var (
	_ plugins.Authenticator = (*Instance)(nil)
	_ plugins.Transformer   = (*Instance)(nil)
)

// settingsError is what Plugin.New had to say.
type settingsError struct{ text string }

// Error implements error.
func (e *settingsError) Error() string { return e.text }

// open opens the use in a process. The error is a settingsError, or that the
// process is of no use.
func (i *Instance) open(ctx context.Context, s *session) error {
	ctx, cancel := context.WithTimeout(ctx, i.worker.times.Start)
	defer cancel()
	answer, err := s.rpc.Open(ctx, &pluginpb.OpenRequest{Use: i.id, Settings: []byte(i.settings), Place: i.place})
	if err != nil {
		return i.worker.judge(ctx, s, err)
	}
	if answer.GetError() != "" {
		return &settingsError{bounded(answer.GetError(), maxFailedText)}
	}
	i.authenticates.Store(answer.GetAuthenticates())
	i.transforms.Store(answer.GetTransforms())
	i.session.Store(s)
	return nil
}

// ready returns the session for a call.
func (i *Instance) ready() (*session, error) {
	s := i.session.Load()
	if s == nil || !s.isUp() || i.worker.closing.Load() {
		return nil, ErrUnavailable
	}
	return s, nil
}

// Bodies is how large the body of a request may be that the plugin is given, in
// bytes; 0 if it is given none.
func (i *Instance) Bodies() int { return i.worker.config.MaxBody }

// Plugin is the name of the plugin.
func (i *Instance) Plugin() string { return i.worker.config.Name }

// Authenticate implements [plugins.Authenticator].
func (i *Instance) Authenticate(ctx context.Context, r *plugins.Request) (*plugins.Identity, error) {
	var identity *plugins.Identity
	err := i.call(ctx, len(r.Body), func(ctx context.Context, s *session) error {
		answer, err := s.rpc.Authenticate(ctx, &pluginpb.AuthenticateRequest{Use: i.id, Request: toRequest(r)})
		if err != nil {
			return i.worker.judge(ctx, s, err)
		}
		switch a := answer.GetAnswer().(type) {
		case *pluginpb.AuthenticateResponse_Identity:
			identity, err = checkIdentity(a.Identity)
			return violation(err)
		case *pluginpb.AuthenticateResponse_Refusal:
			return refusal(a.Refusal)
		case *pluginpb.AuthenticateResponse_Failed:
			return failed(a.Failed)
		}
		return errEmpty()
	})
	if err != nil {
		return nil, err
	}
	return identity, nil
}

// TransformRequest implements [plugins.Transformer].
func (i *Instance) TransformRequest(ctx context.Context, r *plugins.Request) (*plugins.RequestChange, error) {
	var change *plugins.RequestChange
	err := i.call(ctx, len(r.Body), func(ctx context.Context, s *session) error {
		answer, err := s.rpc.TransformRequest(ctx, &pluginpb.TransformRequestRequest{Use: i.id, Request: toRequest(r)})
		if err != nil {
			return i.worker.judge(ctx, s, err)
		}
		switch a := answer.GetAnswer().(type) {
		case *pluginpb.TransformRequestResponse_Change:
			change, err = checkRequestChange(a.Change)
			return violation(err)
		case *pluginpb.TransformRequestResponse_Refusal:
			return refusal(a.Refusal)
		case *pluginpb.TransformRequestResponse_Failed:
			return failed(a.Failed)
		}
		return errEmpty()
	})
	if err != nil {
		return nil, err
	}
	return change, nil
}

// TransformResponse implements [plugins.Transformer].
func (i *Instance) TransformResponse(ctx context.Context, r *plugins.Request, resp *plugins.Response) (*plugins.ResponseChange, error) {
	var change *plugins.ResponseChange
	err := i.call(ctx, len(r.Body), func(ctx context.Context, s *session) error {
		answer, err := s.rpc.TransformResponse(ctx,
			&pluginpb.TransformResponseRequest{Use: i.id, Request: toRequest(r), Response: toResponse(resp)})
		if err != nil {
			return i.worker.judge(ctx, s, err)
		}
		switch a := answer.GetAnswer().(type) {
		case *pluginpb.TransformResponseResponse_Change:
			change, err = checkResponseChange(a.Change)
			return violation(err)
		case *pluginpb.TransformResponseResponse_Refusal:
			return refusal(a.Refusal)
		case *pluginpb.TransformResponseResponse_Failed:
			return failed(a.Failed)
		}
		return errEmpty()
	})
	if err != nil {
		return nil, err
	}
	return change, nil
}

func violation(err error) error {
	if err != nil {
		return fmt.Errorf("%w: %w", ErrProtocol, err)
	}
	return nil
}

func errEmpty() error { return fmt.Errorf("%w: the answer is empty", ErrProtocol) }

func failed(f *pluginpb.Failed) error {
	return fmt.Errorf("%w: %s", ErrFailed, bounded(string(f.GetText()), maxFailedText))
}

func refusal(from *pluginpb.Refusal) error {
	checked, err := checkRefusal(from)
	if err != nil {
		return violation(err)
	}
	return checked
}
