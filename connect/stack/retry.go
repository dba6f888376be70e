package stack

import (
	"strconv"
	"time"

	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// maxRetries bounds what a policy may ask for.
const maxRetries = 10

// telling is what an upstream is told of tries: which it is, and whether the one before
// took too long.
type telling struct{ attempts, timeouts bool }

// retryField says whether the try before took too long.
const retryField = "x-envoy-is-timeout-retry"

func (t telling) again(x *wire.Exchange, req *wire.Request, slow bool) {
	if t.attempts {
		req.Header.Set(attemptsField, strconv.Itoa(x.Tries))
	}
	if t.timeouts {
		req.Header.Set(retryField, strconv.FormatBool(slow))
	}
}

// retry serves a request and repeats it as the policy says, each time as a
// whole exchange with the cluster. Nothing of a response has gone downstream as
// long as its head is here, so what is repeated was not seen by the client.
func retry(cluster *upstream.Cluster, policy *retryPolicy, x *wire.Exchange, req *wire.Request, tell telling) (*wire.Response, error) {
	if tell.attempts {
		req.Header.Set(attemptsField, "1")
	}
	x.Tries++
	if policy == nil || policy.Retries <= 0 || req.Raw() || !policy.takes(req) {
		return cluster.Serve(x, req)
	}
	x.Choice.AvoidHosts, x.Choice.HostAttempts = policy.PreviousHosts, policy.HostAttempts
	x.Choice.AvoidPriorities = policy.PreviousPriorities
	replay, owner := wire.NewReplay(req.Body, wire.DefaultReplayLimit)
	if owner {
		defer replay.Settle()
		req.Body = replay.Try()
	}
	place := retryPlace{cluster: cluster}
	defer place.keep(x)
	pauses := newBackOff(policy.Retry)
	for n := 0; ; n++ {
		resp, slow, err := serveTry(cluster, policy, x, req)
		place.succeeded = err == nil && resp.Status < 500
		if !policy.wants(x.GRPC, resp, err) || !hasTime(x, 0) {
			return resp, err
		}
		if n >= min(policy.Retries, maxRetries) {
			x.Exhausted = true
			cluster.NotRetried(upstream.NoRetryLeft)
			return resp, err
		}
		pause, asked := pauses.next(resp)
		if !replay.Again() {
			cluster.NotRetried(upstream.NoRetryBody)
			return resp, err
		}
		if !hasTime(x, pause) || !place.take() {
			return resp, err
		}
		status := 0
		if resp != nil {
			status = resp.Status
		}
		cluster.Retries(status, asked)
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
		x.Tries++
		tell.again(x, req, slow)
	}
}

// retryPlace is a place among the retries that a cluster allows, held from the
// decision to retry until the next one, or the end of the exchange.
type retryPlace struct {
	cluster         *upstream.Cluster
	held, succeeded bool
}

// take gives up the place of the retry before and takes one for the next.
func (p *retryPlace) take() bool {
	if p.held {
		p.cluster.EndRetry(false)
	}
	p.held = p.cluster.BeginRetry()
	return p.held
}

// keep holds the place, if there is one, until the exchange ends.
func (p *retryPlace) keep(x *wire.Exchange) {
	if p.held {
		held := *p
		x.OnEnd(&held)
	}
}

// End implements [wire.End].
func (p *retryPlace) End(*wire.Exchange) { p.cluster.EndRetry(p.succeeded) }

// serveTry limits one try to what the policy says, until its head is there. slow says
// that it has taken longer.
func serveTry(next *upstream.Cluster, policy *retryPolicy, x *wire.Exchange, req *wire.Request) (resp *wire.Response, slow bool, err error) {
	perTry := policy.tryTimeout()
	if perTry <= 0 {
		resp, err = next.Serve(x, req)
		return resp, false, err
	}
	deadline, timeout := x.Deadline, x.Timeout
	limit(x, time.Now(), perTry)
	own, by := deadline.IsZero() || x.Deadline.Before(deadline), x.Deadline
	resp, err = next.Serve(x, req)
	if own {
		// As far as the codec has moved ours on, since the request was still being sent, the
		// outer one counts from later, too.
		if x.Deadline.After(by) && !deadline.IsZero() {
			deadline = deadline.Add(max(0, x.Deadline.Add(timeout-perTry).Sub(deadline)))
		}
		x.Deadline, x.Timeout = deadline, timeout
	}
	if own && err != nil && wire.AsFault(err).Flag == wire.FlagUpstreamTimeout {
		next.TryTimedOut(perTry == policy.PerTryIdle && perTry != policy.PerTry)
		slow = true
	}
	return resp, slow, err
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
