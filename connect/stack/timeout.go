package stack

import (
	"cmp"
	"math"
	"strconv"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

// grpcTimeoutField is how long a client of gRPC waits.
const grpcTimeoutField = "grpc-timeout"

// bound sets how long the exchange may take, and tells the upstream.
func (r *router) bound(x *wire.Exchange, req *wire.Request, rule *route.Rule, policy *retryPolicy) {
	timeout := rule.Timeout
	if r.durations {
		r.boundStream(x, req, rule)
	}
	switch {
	case rule.Stream != nil:
		timeout = 0
	case rule.GRPCTimeout != nil && x.GRPC:
		timeout = callTimeout(rule.GRPCTimeout, req)
	}
	if timeout > 0 && !req.Raw() {
		limit(x, x.Received(), timeout)
	}
	if x.IdleTimeout == 0 { // unless who stands before us has said
		x.IdleTimeout = r.pause(rule)
	}
	expected := cmp.Or(policy.tryTimeout(), timeout)
	if !r.conduct.Suppress {
		tellTimeout(x, req, expected)
	}
	if rule.Stream == nil && rule.GRPCTimeout != nil && x.GRPC && expected > 0 {
		tellGRPC(x, req, expected)
	}
}

// callTimeout is the timeout of a call by what its client says (max_grpc_timeout).
func callTimeout(g *mesh.GRPCTimeout, req *wire.Request) time.Duration {
	timeout, _ := grpcTimeout(req)
	if g.Offset < timeout {
		timeout -= g.Offset
	}
	if g.Most > 0 && (timeout == 0 || timeout > g.Most) {
		timeout = g.Most
	}
	return timeout
}

// boundStream ends an exchange that takes longer than its rule, or else the chain,
// allows (max_stream_duration).
func (r *router) boundStream(x *wire.Exchange, req *wire.Request, rule *route.Rule) {
	most, bounded := r.most, r.most > 0
	if s := rule.Stream; s != nil {
		asked, ok := grpcTimeout(req)
		switch {
		case ok && s.GRPC != nil:
			if most, bounded = asked, true; s.GRPC.Most > 0 {
				most = min(asked, s.GRPC.Most)
			}
			most = max(0, most-s.GRPC.Offset)
		case s.HasMost:
			most, bounded = s.Most, s.Most > 0
		}
		if bounded && x.GRPC {
			tellGRPC(x, req, most)
		}
	}
	if bounded {
		live(x, max(0, most-time.Since(x.Start)))
	}
}

// grpcTimeout reads grpc-timeout: at most eight digits and a unit. What is finer than
// milliseconds is rounded up.
func grpcTimeout(req *wire.Request) (time.Duration, bool) {
	text := req.Header.Get(grpcTimeoutField)
	if len(text) < 2 || len(text) > 9 {
		return 0, false
	}
	n, err := strconv.ParseUint(text[:len(text)-1], 10, 32)
	if err != nil {
		return 0, false
	}
	unit := time.Duration(0)
	switch text[len(text)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	const most = math.MaxInt64 - time.Millisecond // of a duration: a client may ask for eleven thousand years
	if time.Duration(n) > most/unit {
		return most.Truncate(time.Millisecond), true
	}
	return (time.Duration(n)*unit + time.Millisecond - 1).Truncate(time.Millisecond), true
}

// tellGRPC tells the upstream how long we wait, in as fine a unit as has room.
func tellGRPC(x *wire.Exchange, req *wire.Request, timeout time.Duration) {
	const most = 99_999_999 // eight digits
	n, unit := int64(timeout/time.Millisecond), byte('m')
	if n > most {
		n, unit = n/1000, 'S'
	}
	if n > most {
		n, unit = n/60, 'M'
	}
	var text [20]byte
	req.Header.Set(grpcTimeoutField, x.Keep(append(strconv.AppendInt(text[:0], n, 10), unit)))
}

// pause is the idle timeout of exchanges of rule.
func (r *router) pause(rule *route.Rule) time.Duration {
	d := r.idle
	if rule.HasIdleTimeout {
		d = rule.IdleTimeout
	}
	if d == 0 {
		return -1
	}
	return d
}

// limit sets the deadline, counted from begin, unless an outer one is nearer.
func limit(x *wire.Exchange, begin time.Time, timeout time.Duration) {
	deadline := begin.Add(timeout)
	if x.Deadline.IsZero() || deadline.Before(x.Deadline) {
		x.Deadline, x.Timeout = deadline, timeout
	}
}
