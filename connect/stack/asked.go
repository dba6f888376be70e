package stack

import (
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const internalPrefix = "x-envoy-"

// asked is what a request asks of the proxy itself, in Envoy's x-envoy-* fields.
type asked struct {
	on                             mesh.RetryOn
	codes                          []int
	retries                        int
	timeout, perTry                time.Duration
	hasRetries, hasTimeout, hasTry bool
}

// take takes the fields out of a request by which an application may tell its own
// sidecar how to treat it, as Envoy does. They count only from this machine, and
// only if nobody was in between: a client elsewhere could have its requests
// multiplied, or kept for ever.
func (a *asked) take(x *wire.Exchange, req *wire.Request) {
	h := &req.Header
	found := false
	for i := range h.Len() {
		if name := h.At(i).Name; len(name) > len(internalPrefix) && name[0] == 'x' && name[2] == 'e' && isAsked(name) {
			found = true
			break
		}
	}
	if !found {
		return
	}
	trusted := isLocal(x.Peer) && !h.Has("x-forwarded-for")
	h.DelFunc(func(name, value string) bool {
		if !isAsked(name) {
			return false
		}
		if trusted {
			a.read(name, value)
		}
		return true
	})
}

// isLocal tells whether the peer is a process of this machine.
func isLocal(peer *wire.Peer) bool {
	addr := peer.Addr.Addr()
	return !peer.TLS && (!addr.IsValid() || addr.Unmap().IsLoopback())
}

func isAsked(name string) bool {
	switch name {
	case "x-envoy-retry-on", "x-envoy-retry-grpc-on", "x-envoy-max-retries", "x-envoy-retriable-status-codes",
		"x-envoy-retriable-header-names", "x-envoy-hedge-on-per-try-timeout",
		"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response":
		return true
	}
	return false
}

// read reads one field; a value that makes no sense does not count.
func (a *asked) read(name, value string) {
	n, err := strconv.ParseUint(strings.TrimSpace(value), 10, 31)
	switch name {
	case "x-envoy-retry-on", "x-envoy-retry-grpc-on":
		on, _ := mesh.ParseRetryOn(value)
		if name == "x-envoy-retry-on" {
			on &^= mesh.RetryGRPC
		} else {
			on &= mesh.RetryGRPC
		}
		a.on |= on
	case "x-envoy-retriable-status-codes":
		for code := range strings.SplitSeq(value, ",") {
			if c, err := strconv.ParseUint(strings.TrimSpace(code), 10, 10); err == nil && len(a.codes) < 64 {
				a.codes = append(a.codes, int(c))
			}
		}
	case "x-envoy-max-retries":
		a.retries, a.hasRetries = int(n), err == nil
	case "x-envoy-upstream-rq-timeout-ms":
		a.timeout, a.hasTimeout = time.Duration(n)*time.Millisecond, err == nil
	case "x-envoy-upstream-rq-per-try-timeout-ms":
		a.perTry, a.hasTry = time.Duration(n)*time.Millisecond, err == nil
	}
}

// policy is p, which may be nil, with what was asked.
func (a *asked) policy(p *retryPolicy) *retryPolicy {
	if a.on == 0 && a.codes == nil && !a.hasRetries && !a.hasTry {
		return p
	}
	changed := retryPolicy{Retry: &mesh.Retry{Retries: 1}}
	if p != nil {
		changed = *p
		retry := *p.Retry
		changed.Retry = &retry
	}
	r := changed.Retry
	r.On |= a.on
	r.Codes = append(slices.Clip(r.Codes), a.codes...)
	if a.hasRetries {
		r.Retries = a.retries
	}
	if a.hasTry {
		r.PerTry = a.perTry
	}
	return &changed
}
