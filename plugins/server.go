package plugins

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"runtime/debug"
	"sync"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/serai-net/serai/plugins/internal/pluginpb"
)

// server is a plugin as gRPC sees it.
type server struct {
	pluginpb.UnimplementedPluginServer

	plugin Plugin
	log    *slog.Logger
	stderr *os.File // the process's own

	first sync.Once // of Describe

	mu   sync.RWMutex // guards:
	uses map[uint64]*use
}

var _ pluginpb.PluginServer = (*server)(nil)

// use is what Plugin.New returned, by what it can do; nil for what it cannot.
type use struct {
	authenticator Authenticator
	transformer   Transformer
	closer        io.Closer
}

// Describe implements pluginpb.PluginServer. It is the first call.
func (s *server) Describe(context.Context, *pluginpb.DescribeRequest) (*pluginpb.DescribeResponse, error) {
	// By now go-plugin has put pipes into the place of both, whose content is lost
	// when the process ends.
	s.first.Do(func() { os.Stdout, os.Stderr = s.stderr, s.stderr })
	return &pluginpb.DescribeResponse{Name: s.plugin.Name, Version: s.plugin.Version}, nil
}

// Open implements pluginpb.PluginServer.
func (s *server) Open(_ context.Context, r *pluginpb.OpenRequest) (*pluginpb.OpenResponse, error) {
	u, err := s.open(r)
	if err != nil {
		return &pluginpb.OpenResponse{Error: err.Error()}, nil //nolint:nilerr // it is the answer
	}
	s.mu.Lock()
	before := s.uses[r.GetUse()]
	s.uses[r.GetUse()] = u
	s.mu.Unlock()
	s.close(before)
	return &pluginpb.OpenResponse{Authenticates: u.authenticator != nil, Transforms: u.transformer != nil}, nil
}

func (s *server) open(r *pluginpb.OpenRequest) (_ *use, err error) {
	defer s.recovered(&err)
	var settings map[string]any
	if len(r.GetSettings()) > 0 {
		if err := json.Unmarshal(r.GetSettings(), &settings); err != nil {
			return nil, fmt.Errorf("read settings: %w", err)
		}
	}
	if s.plugin.New == nil {
		return nil, errors.New("the plugin has no New: this is a mistake of its author")
	}
	log := s.log
	if r.GetPlace() != "" {
		log = log.With("use", r.GetPlace())
	}
	made, err := s.plugin.New(settings, log)
	if err != nil {
		return nil, err
	}
	u := &use{}
	u.authenticator, _ = made.(Authenticator)
	u.transformer, _ = made.(Transformer)
	u.closer, _ = made.(io.Closer)
	if u.authenticator == nil && u.transformer == nil {
		return nil, fmt.Errorf("the plugin's New returned %T, which is neither an Authenticator nor a Transformer: this is a mistake of its author", made)
	}
	return u, nil
}

// Close implements pluginpb.PluginServer.
func (s *server) Close(_ context.Context, r *pluginpb.CloseRequest) (*pluginpb.CloseResponse, error) {
	s.mu.Lock()
	u := s.uses[r.GetUse()]
	delete(s.uses, r.GetUse())
	s.mu.Unlock()
	s.close(u)
	return &pluginpb.CloseResponse{}, nil
}

func (s *server) close(u *use) {
	if u == nil || u.closer == nil {
		return
	}
	err := func() (err error) {
		defer s.recovered(&err)
		return u.closer.Close()
	}()
	if err != nil {
		s.log.Warn("close a use", "err", err)
	}
}

func (s *server) closeAll() {
	s.mu.Lock()
	uses := s.uses
	s.uses = map[uint64]*use{}
	s.mu.Unlock()
	for _, u := range uses {
		s.close(u)
	}
}

// Authenticate implements pluginpb.PluginServer.
func (s *server) Authenticate(ctx context.Context, r *pluginpb.AuthenticateRequest) (*pluginpb.AuthenticateResponse, error) {
	u := s.find(r.GetUse())
	if u == nil || u.authenticator == nil {
		return nil, status.Error(codes.NotFound, "no such use")
	}
	identity, err := func() (_ *Identity, err error) {
		defer s.recovered(&err)
		return u.authenticator.Authenticate(ctx, fromRequest(r.GetRequest()))
	}()
	if err == nil && identity == nil {
		err = errors.New("the plugin's Authenticate returned nothing: this is a mistake of its author")
	}
	answer := &pluginpb.AuthenticateResponse{}
	switch refusal, failed := sort(err); {
	case refusal != nil:
		answer.Answer = &pluginpb.AuthenticateResponse_Refusal{Refusal: refusal}
	case failed != nil:
		answer.Answer = &pluginpb.AuthenticateResponse_Failed{Failed: failed}
	default:
		answer.Answer = &pluginpb.AuthenticateResponse_Identity{Identity: toIdentity(identity)}
	}
	return answer, nil
}

// TransformRequest implements pluginpb.PluginServer.
func (s *server) TransformRequest(ctx context.Context, r *pluginpb.TransformRequestRequest) (*pluginpb.TransformRequestResponse, error) {
	u := s.find(r.GetUse())
	if u == nil || u.transformer == nil {
		return nil, status.Error(codes.NotFound, "no such use")
	}
	change, err := func() (_ *RequestChange, err error) {
		defer s.recovered(&err)
		return u.transformer.TransformRequest(ctx, fromRequest(r.GetRequest()))
	}()
	answer := &pluginpb.TransformRequestResponse{}
	switch refusal, failed := sort(err); {
	case refusal != nil:
		answer.Answer = &pluginpb.TransformRequestResponse_Refusal{Refusal: refusal}
	case failed != nil:
		answer.Answer = &pluginpb.TransformRequestResponse_Failed{Failed: failed}
	default:
		answer.Answer = &pluginpb.TransformRequestResponse_Change{Change: toRequestChange(change)}
	}
	return answer, nil
}

// TransformResponse implements pluginpb.PluginServer.
func (s *server) TransformResponse(ctx context.Context, r *pluginpb.TransformResponseRequest) (*pluginpb.TransformResponseResponse, error) {
	u := s.find(r.GetUse())
	if u == nil || u.transformer == nil {
		return nil, status.Error(codes.NotFound, "no such use")
	}
	change, err := func() (_ *ResponseChange, err error) {
		defer s.recovered(&err)
		return u.transformer.TransformResponse(ctx, fromRequest(r.GetRequest()), fromResponse(r.GetResponse()))
	}()
	answer := &pluginpb.TransformResponseResponse{}
	switch refusal, failed := sort(err); {
	case refusal != nil:
		answer.Answer = &pluginpb.TransformResponseResponse_Refusal{Refusal: refusal}
	case failed != nil:
		answer.Answer = &pluginpb.TransformResponseResponse_Failed{Failed: failed}
	default:
		answer.Answer = &pluginpb.TransformResponseResponse_Change{Change: toResponseChange(change)}
	}
	return answer, nil
}

func (s *server) find(id uint64) *use {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.uses[id]
}

// recovered makes an error of a panic in the author's code: one request that it
// did not expect should not cost all others the process.
func (s *server) recovered(err *error) {
	if p := recover(); p != nil {
		s.log.Error("panic", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = fmt.Errorf("panic: %v", p)
	}
}

// sort tells a refusal from a failure; both are nil without an error.
func sort(err error) (*pluginpb.Refusal, *pluginpb.Failed) {
	if err == nil {
		return nil, nil
	}
	if refusal, ok := errors.AsType[*Refusal](err); ok {
		return toRefusal(refusal), nil
	}
	return nil, &pluginpb.Failed{Text: []byte(err.Error())}
}
