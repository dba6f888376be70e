package stack

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// Admission decides on a connection before the end of its chain is reached, after
// its intentions and its limit: a network filter such as ext_authz. It must be safe
// for concurrent use.
type Admission interface {
	// Admit returns why the connection is to be closed, nil if it may go on. It ends
	// with ctx at the latest.
	Admit(ctx context.Context, peer *wire.Peer) error
}

// entrance is what the connections of a chain pass: the limit, and what is to admit
// them. What it counts outlives its configuration. It is safe for concurrent use.
type entrance struct {
	config atomic.Pointer[entry]

	// active are those that count for the limit, limited were over it, unadmitted
	// were not let in.
	active, limited, unadmitted atomic.Int64
	// allowed and denied are what intentions have decided, where there are any, and what
	// their shadow would have.
	allowed, denied, shadowAllowed, shadowDenied atomic.Int64
}

// entry is the configuration of an entrance.
type entry struct {
	policy     *rbac.Policy
	limit      *mesh.ConnectionLimit // nil for none
	admissions []Admission
	// intentions is the stat_prefix of the RBAC filter.
	intentions string
	// shadow decides without a consequence; nil for none. shadowPrefix stands before the
	// names of what it counts.
	shadow       *rbac.Policy
	shadowPrefix string
	// delay is how long a connection that intentions deny is kept.
	delay time.Duration
}

// entryOf compiles what stands before the end of a chain.
func entryOf(chain *mesh.FilterChain, admissions []Admission) (entry, error) {
	policy, err := rbac.Compile(chain.Intentions)
	e := entry{policy: policy, limit: chain.Limit, admissions: admissions, intentions: prefixOf(chain)}
	for _, in := range chain.Intentions {
		e.delay = max(e.delay, in.DelayDeny)
		if in.Shadow != nil && e.shadow == nil && err == nil {
			e.shadowPrefix = dotted(in.Shadow.StatPrefix)
			e.shadow, err = rbac.Compile([]*mesh.Intention{in.Shadow})
		}
	}
	return e, err
}

// decide tells whether intentions allow who comes, and counts what they and shadow rules
// say.
func (e *entrance) decide(c *entry, peer *wire.Peer) bool {
	switch {
	case c.shadow == nil:
	case allows(c.shadow, peer):
		e.shadowAllowed.Add(1)
	default:
		e.shadowDenied.Add(1)
	}
	if !allows(c.policy, peer) {
		e.denied.Add(1)
		return false
	}
	e.allowed.Add(1)
	return true
}

// pass tells whether a connection may go on, and else why not; if counted it must
// leave when it has ended.
//
// What is to admit the connection is asked until ctx ends, or the connection does.
func (e *entrance) pass(ctx context.Context, c *entry, conn net.Conn, peer *wire.Peer) (counted bool, flag wire.Flag, err error) {
	if c.limit != nil && c.limit.First {
		if counted = e.count(c.limit); !counted {
			return false, wire.FlagLimited, nil
		}
	}
	if !e.decide(c, peer) {
		return counted, wire.FlagDenied, nil
	}
	if c.limit != nil && !c.limit.First {
		if counted = e.count(c.limit); !counted {
			return false, wire.FlagLimited, nil
		}
	}
	if len(c.admissions) == 0 {
		return counted, wire.FlagNone, nil
	}
	ctx, stop := untilLeft(ctx, conn)
	defer stop()
	for _, a := range c.admissions {
		err := a.Admit(ctx, peer)
		switch {
		case ctx.Err() != nil: // whatever it says: nobody was asked to the end
			cause := context.Cause(ctx)
			if errors.Is(cause, errLeft) {
				return counted, wire.FlagDownstreamReset, cause
			}
			return counted, wire.FlagDraining, cause
		case err != nil:
			e.unadmitted.Add(1)
			return counted, wire.FlagDenied, err
		}
	}
	return counted, wire.FlagNone, nil
}

func (e *entrance) count(limit *mesh.ConnectionLimit) bool {
	if uint64(e.active.Add(1)) <= limit.Max {
		return true
	}
	e.active.Add(-1)
	e.limited.Add(1)
	return false
}

func (e *entrance) leave(counted bool) {
	if counted {
		e.active.Add(-1)
	}
}

// hold keeps a connection that is over the limit open for a while, in which nothing
// is done with what it sends.
func hold(conn net.Conn, delay time.Duration) {
	if delay > 0 && conn.SetReadDeadline(time.Now().Add(delay)) == nil {
		io.Copy(io.Discard, struct{ io.Reader }{conn}) //nolint:errcheck // until the deadline, or until it ends
	}
}

// LimitStats are the counters of a connection limit, by Envoy's names.
type LimitStats struct {
	// StatPrefix is the filter's, "" if the chain has no limit.
	StatPrefix      string
	Active, Limited int64
}

// Each yields them by Envoy's names, below connection_limit.<stat_prefix>., and tells
// whether to go on.
func (s *LimitStats) Each(yield func(stats.Stat) bool) (more bool) {
	return yield(stats.Stat{Name: "limited_connections", Value: s.Limited}) &&
		yield(stats.Stat{Name: "active_connections", Kind: stats.KindGauge, Value: s.Active})
}

func (e *entrance) limitStats() LimitStats {
	s := LimitStats{Active: e.active.Load(), Limited: e.limited.Load()}
	if c := e.config.Load(); c != nil && c.limit != nil {
		s.StatPrefix = c.limit.StatPrefix
	}
	return s
}

// EntranceStats are what network filters before the last have counted.
type EntranceStats struct {
	// Intentions is the stat_prefix of the RBAC filter, "" without one; Allowed and
	// Denied are its decisions on connections.
	Intentions      string
	Allowed, Denied int64
	// ShadowAllowed and ShadowDenied are those of shadow rules, whose names begin with
	// ShadowPrefix.
	ShadowAllowed, ShadowDenied int64
	ShadowPrefix                string
	Limit                       LimitStats
}

// EachDecision yields those of intentions by Envoy's names, below <stat_prefix>rbac.,
// and tells whether to go on.
func (s *EntranceStats) EachDecision(yield func(stats.Stat) bool) (more bool) {
	return yield(stats.Stat{Name: "allowed", Value: s.Allowed}) && yield(stats.Stat{Name: "denied", Value: s.Denied}) &&
		yield(stats.Stat{Name: s.ShadowPrefix + "shadow_allowed", Value: s.ShadowAllowed}) &&
		yield(stats.Stat{Name: s.ShadowPrefix + "shadow_denied", Value: s.ShadowDenied})
}

func (e *entrance) stats() EntranceStats {
	s := EntranceStats{
		Allowed: e.allowed.Load(), Denied: e.denied.Load(), Limit: e.limitStats(),
		ShadowAllowed: e.shadowAllowed.Load(), ShadowDenied: e.shadowDenied.Load(),
	}
	if c := e.config.Load(); c != nil {
		s.Intentions, s.ShadowPrefix = c.intentions, c.shadowPrefix
	}
	return s
}

// Entrance returns what was counted before the connections were served.
func (t *TCP) Entrance() EntranceStats { return t.entrance.stats() }

// Entrance returns what was counted before the connections were served.
func (g *Guarded) Entrance() EntranceStats { return g.entrance.stats() }

// prefixOf is the stat_prefix of the first RBAC filter.
func prefixOf(chain *mesh.FilterChain) string {
	for _, in := range chain.Intentions {
		return in.StatPrefix
	}
	return ""
}

// Handler serves the connections of a chain, as listen.Handler does.
type Handler interface {
	Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain)
}

// Guarded is the handler of an HTTP chain with what stands before it. Intentions are
// decided on for each request behind it. Where there is more before the chain's end
// than they, a connection that they deny is closed, as with Envoy: were it kept until
// they allow it, it would have passed neither the limit nor what is to admit it.
type Guarded struct {
	// Next serves what may go on.
	Next Handler
	// Observe sees connections that may not; nil if nobody does.
	Observe Observe

	entrance entrance
}

// Prepare compiles what chain says; commit puts it in force for new connections.
func (g *Guarded) Prepare(chain *mesh.FilterChain, admissions ...Admission) (commit func(), err error) {
	next, err := entryOf(chain, admissions)
	if err != nil {
		return nil, err
	}
	return func() { g.entrance.config.Store(&next) }, nil
}

// Limit returns the counters of the connection limit.
func (g *Guarded) Limit() LimitStats { return g.entrance.limitStats() }

// Serve implements listen.Handler.
func (g *Guarded) Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain) {
	c := g.entrance.config.Load()
	if c == nil {
		g.Next.Serve(conn, peer, drain)
		return
	}
	if c.limit == nil && len(c.admissions) == 0 && c.delay == 0 {
		g.entrance.decide(c, peer) // only counted: requests are decided on, not the connection
		g.Next.Serve(conn, peer, drain)
		return
	}
	ctx, cancel := context.WithCancelCause(context.Background())
	waits := &waiting{cancel}
	drain.Add(waits)
	counted, flag, err := g.entrance.pass(ctx, c, conn, peer)
	drain.Remove(waits)
	cancel(nil)
	defer g.entrance.leave(counted)
	if flag == wire.FlagNone {
		g.Next.Serve(conn, peer, drain)
		return
	}
	defer conn.Close()
	switch {
	case flag == wire.FlagLimited:
		hold(conn, c.limit.Delay)
	case flag == wire.FlagDenied && err == nil:
		hold(conn, c.delay)
	}
	if g.Observe != nil {
		x := &wire.Exchange{}
		x.Reset(nil, peer, time.Now())
		x.Flag, x.Err = flag, err
		g.Observe(x)
		x.Done(time.Now())
	}
}
