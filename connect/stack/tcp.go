package stack

import (
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"strings"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/socket"
)

// TCP is a living chain of network filters that ends in tcp_proxy: intentions,
// connection limit, upstream. Its configuration is swapped by Update while its
// connections live. It is safe for concurrent use.
type TCP struct {
	clusters *upstream.Set
	observe  Observe
	tell     func(x *wire.Exchange, kind string)
	log      *slog.Logger
	config   atomic.Pointer[tcpConfig]
	quiet    time.Duration
	entrance entrance

	accepted, active, denied, failed, noRoute, idled, aged, bytesIn, bytesOut atomic.Int64
}

type tcpConfig struct {
	entry
	proxy *mesh.TCPProxy
}

// TCPConfig is what a TCP chain keeps all its life.
type TCPConfig struct {
	Clusters *upstream.Set
	// Observe sees connections; nil if nobody does.
	Observe Observe
	// Tell writes of a connection that lives, if its chain's LogMoments ask for it: with
	// the kind of line that the access log calls it. Nil writes nothing.
	Tell func(x *wire.Exchange, kind string)
	// Quiet is how long a connection may be silent before the upstream is dialled: a
	// bare TCP check that connects and leaves makes no connection to the application
	// then, and no line in a log. 0 dials at once.
	Quiet time.Duration
	Log   *slog.Logger
}

// TCPStats are the counters of a TCP chain since it began.
type TCPStats struct {
	// Accepted connections; Active of them live; Denied by intentions or limit;
	// Failed for want of an upstream, NoRoute of those since no cluster was named or
	// known. Idled ended since nothing moved, Aged since they had lived for as long as
	// they may. Bytes are those from and to downstream.
	Accepted, Active, Denied, Failed, NoRoute, Idled, Aged, BytesIn, BytesOut int64
	// StatPrefix is that of tcp_proxy, Limit the connection limit.
	StatPrefix string
	Limit      LimitStats
}

// All yields the counters by Envoy's names, which stand behind "tcp.<stat_prefix>.".
func (s *TCPStats) All() iter.Seq2[string, int64] {
	return func(yield func(string, int64) bool) {
		_ = yield("downstream_cx_total", s.Accepted) &&
			yield("downstream_cx_no_route", s.NoRoute) &&
			yield("idle_timeout", s.Idled) &&
			yield("max_downstream_connection_duration", s.Aged) &&
			yield("downstream_cx_rx_bytes_total", s.BytesIn) &&
			yield("downstream_cx_tx_bytes_total", s.BytesOut)
	}
}

// Observe sees the connections of a chain. It is called once for each, as an
// exchange without a method, when its cluster is known or that it has none; what
// it registers with OnEnd runs when the connection has ended. Bytes from and to
// downstream are added to in and out meanwhile.
type Observe func(x *wire.Exchange) (in, out *atomic.Int64)

// NewTCP returns a chain that refuses everything until Prepare.
func NewTCP(c TCPConfig) *TCP {
	if c.Observe == nil {
		c.Observe = func(*wire.Exchange) (in, out *atomic.Int64) { return &atomic.Int64{}, &atomic.Int64{} }
	}
	if c.Tell == nil {
		c.Tell = func(*wire.Exchange, string) {}
	}
	return &TCP{clusters: c.Clusters, observe: c.Observe, tell: c.Tell, quiet: c.Quiet, log: c.Log}
}

// Prepare compiles what chain says, with what is to admit connections besides;
// commit puts it in force and closes living connections in drain that the new
// intentions do not allow any more.
func (t *TCP) Prepare(chain *mesh.FilterChain, drain *wire.Drain, admissions ...Admission) (commit func(), err error) {
	entry, err := entryOf(chain, admissions)
	if err != nil {
		return nil, err
	}
	policy, next := entry.policy, &tcpConfig{entry: entry, proxy: chain.TCP}
	return func() {
		t.config.Store(next)
		t.entrance.config.Store(&next.entry)
		drain.Each(func(d wire.Drainable) {
			if r, ok := d.(*relay); ok && !allows(policy, r.peer) {
				t.denied.Add(1)
				r.because(wire.FlagDenied, nil)
				r.Kill()
			}
		})
	}, nil
}

// Stats returns the counters.
func (t *TCP) Stats() TCPStats {
	s := TCPStats{
		Accepted: t.accepted.Load(), Active: t.active.Load(), Denied: t.denied.Load(),
		Failed: t.failed.Load(), NoRoute: t.noRoute.Load(), Idled: t.idled.Load(), Aged: t.aged.Load(), BytesIn: t.bytesIn.Load(), BytesOut: t.bytesOut.Load(),
		Limit: t.entrance.limitStats(),
	}
	if c := t.config.Load(); c != nil {
		s.StatPrefix = c.proxy.StatPrefix
	}
	return s
}

func allows(policy *rbac.Policy, peer *wire.Peer) bool {
	allowed, _ := policy.Decide(rbac.Input{Peer: peer})
	return allowed
}

// Serve implements listen.Handler.
func (t *TCP) Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain) {
	defer conn.Close()
	t.accepted.Add(1)
	defer t.active.Add(-1)
	t.active.Add(1)
	same := t.speaks(conn)
	if same == nil {
		return
	}
	r := newRelay(same, peer)
	// Registered before the decision, so that a change of intentions between
	// the two does not miss this connection.
	drain.Add(r)
	defer drain.Remove(r)
	defer r.done()
	cfg := t.config.Load()
	if cfg == nil {
		t.refuse(r, wire.FlagNoRoute, nil)
		return
	}
	counted, flag, err := t.entrance.pass(r.ctx, &cfg.entry, same, peer)
	defer t.entrance.leave(counted)
	if flag != wire.FlagNone {
		if flag == wire.FlagDenied && err == nil {
			_, name := cfg.policy.Decide(rbac.Input{Peer: peer})
			r.x.Termination = deniedBy(name)
		}
		t.refuse(r, flag, err)
		switch {
		case flag == wire.FlagLimited:
			hold(conn, cfg.limit.Delay)
		case flag == wire.FlagDenied && err == nil:
			hold(conn, cfg.delay)
		}
		return
	}
	defer r.expire(longest(cfg.proxy))()
	if cfg.proxy.LogMoments.Start {
		t.tell(&r.x, accesslog.Accepted)
	}
	up, err := t.dial(r, cfg)
	if err != nil {
		t.failed.Add(1)
		r.because(wire.AsFault(err).Flag, err)
		t.log.Debug("tcp upstream", "peer", peer.ID.String(), "err", err)
		return
	}
	defer up.Close()
	if cfg.proxy.LogMoments.Connected {
		t.tell(&r.x, accesslog.Connected)
	}
	t.pipe(r, up, cfg.proxy)
	if ended := r.reason.Load(); ended != nil {
		switch {
		case errors.Is(ended.err, errIdle):
			t.idled.Add(1)
		case errors.Is(ended.err, errTooOld):
			t.aged.Add(1)
		}
	}
}

// speaks waits for the first byte, but not for long: some wait for the server to
// begin. It returns the connection as it was before that byte, nil if the peer has
// left without one.
func (t *TCP) speaks(conn net.Conn) net.Conn {
	if t.quiet <= 0 || conn.SetReadDeadline(time.Now().Add(t.quiet)) != nil {
		return conn
	}
	var one [1]byte
	same, err := socket.Look(conn, one[:], len(one), func([]byte) bool { return true })
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) || same.SetReadDeadline(time.Time{}) != nil {
		return nil
	}
	return same
}

// refuse notes why a connection is closed at once: the chain is not configured yet,
// the intentions do not allow it, there are too many, or it is over.
func (t *TCP) refuse(r *relay, flag wire.Flag, err error) {
	if flag != wire.FlagDownstreamReset && flag != wire.FlagDraining {
		t.denied.Add(1)
	}
	r.because(flag, err)
	t.see(r)
}

// see shows a connection to the observer.
func (t *TCP) see(r *relay) { r.in, r.out = t.observe(&r.x) }

func (t *TCP) dial(r *relay, cfg *tcpConfig) (net.Conn, error) {
	name := clusterOf(cfg.proxy, r.peer)
	r.x.Cluster = name
	t.see(r)
	cluster := t.clusters.Cluster(name)
	if cluster == nil {
		t.noRoute.Add(1)
		return nil, &wire.Fault{Flag: wire.FlagNoCluster, Err: fmt.Errorf("cluster %q is not known", name)}
	}
	cluster.Note(&r.x)
	if cfg.proxy.HashSource {
		r.x.Choice.Hash, r.x.Choice.Hashed = sourceHash(r.peer)
	}
	pauses := backOff{interval: cfg.proxy.BackOff, most: cfg.proxy.MaxBackOff}
	for n := uint32(1); ; n++ {
		up, err := r.connect(cluster, name)
		if err == nil || n >= cfg.proxy.ConnectAttempts || r.ctx.Err() != nil || wire.AsFault(err).Flag != wire.FlagUpstreamConnect {
			if r.x.Exhausted = err != nil && wire.AsFault(err).Flag == wire.FlagUpstreamConnect; r.x.Exhausted {
				cluster.Exhausted()
			}
			return up, err
		}
		if cfg.proxy.BackOff > 0 {
			pause, _ := pauses.next(nil)
			r.wait(pause)
		}
	}
}

// longest is how long a connection may live; 0 means for ever.
func longest(proxy *mesh.TCPProxy) time.Duration {
	most := proxy.MaxDuration
	if jitter := time.Duration(float64(most) * proxy.DurationJitter / 100); jitter > 0 {
		most += rand.N(jitter)
	}
	return most
}

// clusterOf is the name of the cluster for a connection; "" if there is none. Every
// mesh name that a server name can be has a dot: without one it might be a cluster
// that is not meant for everybody, such as our own admin interface.
func clusterOf(proxy *mesh.TCPProxy, peer *wire.Peer) string {
	if name := peer.ServerName; proxy.ServerName && strings.Contains(name, ".") {
		return name
	}
	if target := mesh.Choose(proxy.Targets); target != nil {
		return target.Cluster
	}
	return ""
}

// connect makes one attempt, in which the cluster may try several endpoints.
func (r *relay) connect(cluster *upstream.Cluster, name string) (net.Conn, error) {
	a := r.x.NewAttempt(name, time.Now())
	up, host, err := cluster.Dial(r.ctx, r.x.Choice)
	if err != nil {
		a.End, a.Flag = time.Now(), wire.AsFault(err).Flag
		a.Fail(err)
		if host != nil {
			host.Note(a, nil)
			r.x.Tries++
		}
		return nil, err
	}
	r.x.Tries++
	host.Note(a, up)
	a.Connected = time.Now()
	a.Head, r.x.HeadSent = a.Connected, a.Connected
	return up, nil
}
