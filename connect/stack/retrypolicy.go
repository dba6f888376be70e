package stack

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http2"
)

// retryPolicy is a compiled [mesh.Retry].
type retryPolicy struct {
	*mesh.Retry
	headers, requestHeaders []*match.HeaderMatcher
}

func compileRetry(r *mesh.Retry) (*retryPolicy, error) {
	p := &retryPolicy{Retry: r}
	for _, one := range []struct {
		from []mesh.HeaderMatch
		to   *[]*match.HeaderMatcher
	}{{r.Headers, &p.headers}, {r.RequestHeaders, &p.requestHeaders}} {
		for _, m := range one.from {
			compiled, err := match.Header(m)
			if err != nil {
				return nil, fmt.Errorf("retry policy: %w", err)
			}
			*one.to = append(*one.to, compiled)
		}
	}
	return p, nil
}

// takes tells whether req is one that the policy is for.
func (p *retryPolicy) takes(req *wire.Request) bool {
	return len(p.requestHeaders) == 0 ||
		slices.ContainsFunc(p.requestHeaders, func(m *match.HeaderMatcher) bool { return m.Match(req) })
}

// tryTimeout is how long a try may take until its head is there; 0 is no limit.
func (p *retryPolicy) tryTimeout() time.Duration {
	if p == nil {
		return 0
	}
	if p.PerTry > 0 && p.PerTryIdle > 0 {
		return min(p.PerTry, p.PerTryIdle)
	}
	return max(p.PerTry, p.PerTryIdle)
}

// wants tells whether the outcome is one that the policy names (Envoy's
// x-envoy-retry-on and x-envoy-retry-grpc-on tokens).
func (p *retryPolicy) wants(grpc bool, resp *wire.Response, err error) bool {
	if err != nil {
		fault, ok := errors.AsType[*wire.Fault](err)
		return ok && !upstream.Waited(err) && p.wantsFault(fault)
	}
	if resp.Status < 400 && p.On&(mesh.RetryGRPC|mesh.RetryHeaders|mesh.RetryStatusCodes|mesh.RetryRateLimited) == 0 {
		return false // most are, and nothing else counts
	}
	switch {
	case resp.Header.Has("x-envoy-overloaded"):
		return false
	case resp.Header.Has("x-envoy-ratelimited"):
		return p.On&mesh.RetryRateLimited != 0
	}
	on := mesh.RetryOn(0)
	if resp.Status >= 500 {
		on |= mesh.Retry5xx
	}
	if resp.Status >= 502 && resp.Status <= 504 {
		on |= mesh.RetryGatewayError
	}
	if resp.Status == http.StatusConflict {
		on |= mesh.RetryRetriable4xx
	}
	if slices.Contains(p.Codes, resp.Status) {
		on |= mesh.RetryStatusCodes
	}
	if grpc && p.On&mesh.RetryGRPC != 0 {
		on |= retryOfGRPC(resp.Header.Get("grpc-status"))
	}
	if p.On&mesh.RetryHeaders != 0 && p.hasHeader(resp) {
		on |= mesh.RetryHeaders
	}
	return p.On&on != 0
}

func (p *retryPolicy) hasHeader(resp *wire.Response) bool {
	head := &wire.Request{Header: resp.Header}
	return slices.ContainsFunc(p.headers, func(m *match.HeaderMatcher) bool { return m.Match(head) })
}

func retryOfGRPC(status string) mesh.RetryOn {
	switch status {
	case "1":
		return mesh.RetryCancelled
	case "4":
		return mesh.RetryDeadlineExceeded
	case "8":
		return mesh.RetryResourceExhausted
	case "13":
		return mesh.RetryInternal
	case "14":
		return mesh.RetryUnavailable
	}
	return 0
}

// refusedStream is REFUSED_STREAM (RFC 9113 section 7).
const refusedStream = 7

// wantsFault tells whether a policy names what went wrong upstream. Where no
// upstream was asked, as for a limit, nothing is repeated.
func (p *retryPolicy) wantsFault(fault *wire.Fault) bool {
	on := mesh.Retry5xx | mesh.RetryGatewayError | mesh.RetryReset
	switch fault.Flag {
	case wire.FlagUpstreamConnect:
		on |= mesh.RetryConnectFailure
	case wire.FlagUpstreamReset, wire.FlagUpstreamTimeout, wire.FlagUpstreamProtocol:
	default:
		return false
	}
	if fault.Repeat == wire.RepeatAny {
		on |= mesh.RetryResetBeforeRequest
	}
	if reset, ok := errors.AsType[*http2.ResetError](fault.Err); ok && reset.Code == refusedStream {
		on |= mesh.RetryRefusedStream
	}
	return p.On&on != 0
}
