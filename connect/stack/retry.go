package stack

import (
	"errors"
	"net/http"
	"slices"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// maxRetries bounds what a policy may ask for.
const maxRetries = 10

// retry serves a request and repeats it as the policy says, each time as a
// whole exchange with the cluster.
func retry(next wire.Service, policy *mesh.Retry, x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	if policy == nil || policy.Retries <= 0 || req.Raw() {
		return next.Serve(x, req)
	}
	replay, owner := wire.NewReplay(req.Body, wire.DefaultReplayLimit)
	if owner {
		defer replay.Settle()
		req.Body = replay.Try()
	}
	pause := 25 * time.Millisecond // Envoy's base interval
	for n := 0; ; n++ {
		resp, err := serveTry(next, policy.PerTry, x, req)
		if n >= min(policy.Retries, maxRetries) || !wants(policy, resp, err) || !hasTime(x, pause) {
			return resp, err
		}
		if replay != nil {
			// Taken before the response is given up: there may be no other.
			body := replay.Try()
			if body == nil {
				return resp, err
			}
			req.Body = body
		}
		if resp != nil && resp.Body != nil {
			resp.Body.Close()
		}
		if err := wait(x, pause); err != nil {
			return nil, err
		}
		pause = min(2*pause, 250*time.Millisecond)
	}
}

// serveTry limits one try to perTry, if that is not 0, until its head is there.
func serveTry(next wire.Service, perTry time.Duration, x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	if perTry <= 0 {
		return next.Serve(x, req)
	}
	deadline, timeout := x.Deadline, x.Timeout
	limit(x, perTry)
	defer func() { x.Deadline, x.Timeout = deadline, timeout }()
	return next.Serve(x, req)
}

// hasTime tells whether there is time for a pause and another try.
func hasTime(x *wire.Exchange, pause time.Duration) bool {
	return x.Aborted() == nil && (x.Deadline.IsZero() || time.Until(x.Deadline) > pause)
}

// wait pauses, and fails if the exchange is aborted meanwhile.
func wait(x *wire.Exchange, pause time.Duration) error {
	x.Watch()
	aborted := make(wake)
	if reason := x.OnAbort(aborted); reason != nil {
		return wire.Aborted(reason)
	}
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-aborted:
	}
	if reason := x.OnAbort(nil); reason != nil {
		return wire.Aborted(reason)
	}
	return nil
}

// wake is a [wire.Canceler] that closes itself.
type wake chan struct{}

func (w wake) Cancel() { close(w) }

// wants tells whether the outcome is one that the policy names (Envoy's
// x-envoy-retry-on tokens).
func wants(policy *mesh.Retry, resp *wire.Response, err error) bool {
	for _, token := range policy.On {
		if wantsToken(policy, token, resp, err) {
			return true
		}
	}
	return false
}

func wantsToken(policy *mesh.Retry, token string, resp *wire.Response, err error) bool {
	if err != nil {
		fault, ok := errors.AsType[*wire.Fault](err)
		return ok && wantsFault(token, fault)
	}
	switch token {
	case "5xx":
		return resp.Status >= 500
	case "gateway-error":
		return resp.Status >= 502 && resp.Status <= 504
	case "retriable-4xx":
		return resp.Status == http.StatusConflict
	case "retriable-status-codes":
		return slices.Contains(policy.Codes, resp.Status)
	}
	return false
}

// wantsFault tells whether a policy names what went wrong upstream. Where no
// upstream was asked, as for a limit, nothing is repeated.
func wantsFault(token string, fault *wire.Fault) bool {
	switch fault.Flag {
	case wire.FlagUpstreamConnect, wire.FlagUpstreamReset, wire.FlagUpstreamTimeout, wire.FlagUpstreamProtocol:
	default:
		return false
	}
	switch token {
	case "5xx", "gateway-error", "reset":
		return true
	case "connect-failure":
		return fault.Flag == wire.FlagUpstreamConnect
	case "reset-before-request":
		return fault.Repeat == wire.RepeatAny
	}
	return false
}
