package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
)

const (
	// maxTries bounds the tries made for one request or connection.
	maxTries = 3
	// replayAny is kept of the body of a request that may only be repeated if
	// it has not left.
	replayAny = 64 << 10
)

// Serve implements [wire.Service]: it picks a host, takes a connection to it
// and sends the request.
func (c *Cluster) Serve(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
	if m := c.member(preference{x.Choice, x.Attempts, x.Peer}); m != nil && m != c {
		return m.Serve(x, req)
	}
	c.Note(x)
	if err := c.enter(x); err != nil {
		return nil, err
	}
	replay, owner := replayOf(req)
	prefer := preference{x.Choice, x.Attempts, x.Peer}
	var failed [maxTries]*Host
	passed := failed[:0]
	var last error
	for n := 1; ; n++ {
		now, among := time.Now(), c.hosts.Load()
		host := c.pick(now, prefer, passed)
		if host == nil && last == nil {
			var err error
			if host, err = c.pickFirst(x, prefer, among); err != nil {
				return nil, err
			}
		}
		if host == nil {
			return nil, c.without(last)
		}
		if x.Choice.AutoHost && host.Name() != "" {
			req.SetHost(host.Name(), x.Choice.AppendHost, x.Choice.OriginalHost)
		}
		if x.Choice.MatchScheme {
			req.Scheme = c.config.Load().scheme()
		}
		// A pooled connection that turned out stale says nothing of its host, but
		// the others in the pool may be as old: what follows it is a new one.
		reused, resp, err := c.try(x, req, host, now, last != nil)
		if err == nil {
			c.answered(host, x.GRPC, resp)
			host.answers.ended(resp.Status)
			if owner {
				replay.Settle()
			}
			return resp, nil
		}
		a := &x.Attempts[len(x.Attempts)-1]
		a.End = time.Now()
		repeat := n < maxTries && mayRepeat(x, req, err) && again(req, replay)
		if wire.AsFault(err).Flag == wire.FlagUpstreamProtocol {
			c.answers.protocolErrors.Add(1)
		}
		c.answers.lost(wire.AsFault(err), a.Proto == 2)
		if !repeat || !reused {
			c.faulted(host, err)
			host.answers.broke(err)
		}
		if !repeat {
			return nil, err
		}
		if last = err; !reused {
			passed = append(passed, host)
		}
		c.repeats.Add(1)
	}
}

// without is the error where no host is left: the last one's, if there was one.
func (c *Cluster) without(last error) error {
	if last != nil {
		return last
	}
	c.noHost.Add(1)
	return &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagNoHealthyUpstream, Text: "no healthy upstream",
	}
}

// enter counts x among the active exchanges until it ends; once, however often
// a policy repeats it.
func (c *Cluster) enter(x *wire.Exchange) error {
	c.requests.Add(1)
	cfg := c.config.Load()
	if err := cfg.check(); err != nil {
		return err
	}
	for i := range x.Attempts {
		if x.Attempts[i].Cluster == c.name {
			return nil
		}
	}
	if l := &cfg.Limits; c.active.Add(1) > limit(l.MaxRequests, l.HasRequests) {
		c.active.Add(-1)
		return c.overflowed()
	}
	x.OnEnd((*leave)(c))
	return nil
}

// leave is the end of an exchange with a cluster.
type leave Cluster

func (l *leave) End(x *wire.Exchange) {
	l.active.Add(-1)
	l.answers.count(l.name, x)
}

// replayOf makes the body of req one that can be read again. It is the owner's
// to settle.
func replayOf(req *wire.Request) (replay *wire.Replay, owner bool) {
	if req.Raw() {
		return nil, false
	}
	keep := replayAny
	if req.Idempotent() {
		keep = wire.DefaultReplayLimit
	}
	if replay, owner = wire.NewReplay(req.Body, keep); owner {
		again(req, replay)
	}
	return replay, owner
}

// again puts the body back to its first byte and tells whether it can.
func again(req *wire.Request, replay *wire.Replay) bool {
	if replay == nil {
		return req.Body == nil
	}
	body := replay.Try()
	if body == nil {
		return false
	}
	req.Body = body
	return true
}

func mayRepeat(x *wire.Exchange, req *wire.Request, err error) bool {
	if x.Aborted() != nil || expired(x) {
		return false
	}
	fault, ok := errors.AsType[*wire.Fault](err)
	return ok && (fault.Repeat == wire.RepeatAny || (fault.Repeat == wire.RepeatIdempotent && req.Idempotent()))
}

func expired(x *wire.Exchange) bool { return !x.Deadline.IsZero() && !time.Now().Before(x.Deadline) }

// try makes one try, on a new connection if fresh. It tells whether it was made
// on one from the pool.
func (c *Cluster) try(
	x *wire.Exchange, req *wire.Request, host *Host, now time.Time, fresh bool,
) (reused bool, resp *wire.Response, err error) {
	a := x.NewAttempt(c.name, now)
	host.Note(a, nil)
	cfg := c.config.Load()
	if cfg.perName() {
		named := host.forName(cfg.nameOf(req), now)
		if named == nil {
			return false, nil, unconnected(a, c.overflowed())
		}
		defer named.asked.Add(-1)
		host = named
	}
	if cfg.isHTTP2(req) || cfg.negotiates() && host.spoken.Load() == 2 {
		return c.tryShared(x, a, req, host)
	}
	single := cfg.ProxyProtocol != 0 // its header is that of one client
	var l *lease
	if !fresh && !single {
		l = host.pool.get(now, req.Idempotent())
	}
	a.Connected = now
	if a.Reused = l != nil; !a.Reused {
		if l, err = c.connectFor(x, host); errors.Is(err, errShared) {
			return c.tryShared(x, a, req, host)
		}
		if err != nil {
			return false, nil, unconnected(a, err)
		}
		a.Reused, a.Connected = l.served > 0, time.Now() // served: it was waited for
	}
	reused, a.Peer, a.Proto = a.Reused, l.peer, 1
	host.busy(1)
	c.preconnect(cfg, host)
	c.answers.requests.Add(1)
	resp, err = l.conn.RoundTrip(x, a, req)
	return reused, resp, err
}

// unconnected notes why a try has no connection, and returns it.
func unconnected(a *wire.Attempt, err error) error {
	a.Flag = wire.AsFault(err).Flag
	a.Fail(err)
	return err
}

// connectFor makes a connection for x, or waits for one that comes back if there
// may be no more.
func (c *Cluster) connectFor(x *wire.Exchange, host *Host) (*lease, error) {
	if err := c.await(); err != nil {
		return nil, err
	}
	defer c.pending.Add(-1)
	waited := !c.reserve(host, false)
	if waited {
		var o offer
		err := c.patiently(x, func(ctx context.Context) (err error) {
			o, err = c.wait(ctx, host, false, func() (offer, bool) {
				if host.spoken.Load() == 2 {
					return offer{}, true
				}
				if l := host.pool.get(time.Time{}, false); l != nil {
					return offer{lease: l}, true
				}
				return offer{slot: true}, c.reserve(host, false)
			})
			return err
		})
		if err != nil || o.lease != nil {
			return o.lease, err
		}
		if !o.slot {
			return nil, errShared
		}
	}
	cfg := c.config.Load()
	made, peer, err := c.connect(x, cfg, host, waited)
	if err != nil {
		c.freed(host, false)
		return nil, err
	}
	switch {
	case !cfg.negotiates():
	case agreed(made) == "h2":
		c.adopt(cfg, host, made, peer)
		return nil, errShared
	default:
		c.answers.http1.Add(1)
	}
	return c.lease(cfg, host, made, peer), nil
}

// errShared: the connection that was made for one exchange, or that one waited for, is one
// of HTTP/2, on which there are places.
var errShared = errors.New("it is shared")

// agreed is the protocol that TLS has agreed on; "" for none.
func agreed(conn net.Conn) string {
	if secured, ok := conn.(*tls.Conn); ok {
		return secured.ConnectionState().NegotiatedProtocol
	}
	return ""
}

// lease makes a connection of HTTP/1 of made, which was dialled by cfg.
func (c *Cluster) lease(cfg *config, host *Host, made net.Conn, peer *wire.Peer) *lease {
	l := &lease{host: host, born: time.Now(), single: cfg.ProxyProtocol != 0, peer: peer}
	l.conn = http1.NewClientConn(made, http1.ClientConfig{Buffers: &c.set.buffers}, l.release)
	return l
}

// connect dials for an exchange, which may have waited for leave to: it ends with
// the client and its deadline.
func (c *Cluster) connect(x *wire.Exchange, cfg *config, host *Host, waited bool) (conn net.Conn, peer *wire.Peer, err error) {
	err = c.patiently(x, func(ctx context.Context) (err error) {
		if waited {
			ctx = late(ctx)
		}
		if !cfg.negotiates() { // else it is not known yet
			c.answers.http1.Add(1)
		}
		conn, peer, err = c.dial(ctx, cfg, host, cfg.forHTTP1())
		return err
	})
	return conn, peer, err
}

// patiently calls what may take a while to get a connection, and ends it with the
// client and its deadline. Its error is a fault.
func (c *Cluster) patiently(x *wire.Exchange, get func(ctx context.Context) error) error {
	ctx, cancel := context.WithCancel(For(context.Background(), x.Peer))
	defer cancel()
	if !x.Deadline.IsZero() {
		var stop context.CancelFunc
		ctx, stop = context.WithDeadline(ctx, x.Deadline)
		defer stop()
	}
	if err := x.OnAbort(canceler(cancel)); err != nil {
		return wire.Aborted(err)
	}
	defer x.OnAbort(nil) //nolint:errcheck // taken back, whatever happened meanwhile
	defer watchLater(x)()
	err := get(ctx)
	if err == nil {
		return nil
	}
	if reason := x.Aborted(); reason != nil {
		c.answers.cancelled.Add(1)
		return wire.Aborted(reason)
	}
	if expired(x) {
		c.answers.cancelled.Add(1)
		return &wire.Fault{
			Status: http.StatusGatewayTimeout, Flag: wire.FlagUpstreamTimeout, Repeat: wire.RepeatAny,
			Text: "upstream request timeout", Err: err,
		}
	}
	if fault, ok := errors.AsType[*wire.Fault](err); ok {
		return fault
	}
	return &wire.Fault{
		Status: http.StatusServiceUnavailable, Flag: wire.FlagUpstreamConnect, Repeat: wire.RepeatAny,
		Text: "upstream connect error", Err: err,
	}
}

// watchAfter is how long a dial may take before the client is watched.
const watchAfter = 50 * time.Millisecond

// watchLater watches the client of x after a while, unless stop is called before.
func watchLater(x *wire.Exchange) (stop func()) {
	var mu sync.Mutex // held by Watch, so that stop waits for it
	stopped := false
	timer := time.AfterFunc(watchAfter, func() {
		mu.Lock()
		defer mu.Unlock()
		if !stopped {
			x.Watch()
		}
	})
	return func() {
		timer.Stop()
		mu.Lock()
		defer mu.Unlock()
		stopped = true
	}
}

type canceler context.CancelFunc

func (f canceler) Cancel() { f() }
