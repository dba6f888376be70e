package stack

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// TCP is a living chain of network filters that ends in tcp_proxy: intentions,
// connection limit, upstream. Its configuration is swapped by Update while its
// connections live. It is safe for concurrent use.
type TCP struct {
	clusters *upstream.Set
	observe  Observe
	log      *slog.Logger
	config   atomic.Pointer[tcpConfig]

	accepted, active, denied, failed, bytesIn, bytesOut atomic.Int64
}

type tcpConfig struct {
	policy *rbac.Policy
	proxy  *mesh.TCPProxy
	max    uint64
}

// TCPStats are the counters of a TCP chain since it began.
type TCPStats struct {
	// Accepted connections; Active of them live; Denied by intentions or limit;
	// Failed for want of an upstream. Bytes are those from and to downstream.
	Accepted, Active, Denied, Failed, BytesIn, BytesOut int64
}

// Observe sees the connections of a chain. It is called once for each, as an
// exchange without a method, when its cluster is known or that it has none; what
// it registers with OnEnd runs when the connection has ended. Bytes from and to
// downstream are added to in and out meanwhile.
type Observe func(x *wire.Exchange) (in, out *atomic.Int64)

// NewTCP returns a chain that refuses everything until Update. observe may be nil.
func NewTCP(clusters *upstream.Set, observe Observe, log *slog.Logger) *TCP {
	if observe == nil {
		observe = func(*wire.Exchange) (in, out *atomic.Int64) { return &atomic.Int64{}, &atomic.Int64{} }
	}
	return &TCP{clusters: clusters, observe: observe, log: log}
}

// Prepare compiles what chain says; commit puts it in force and closes living
// connections in drain that the new intentions do not allow any more.
func (t *TCP) Prepare(chain *mesh.FilterChain, drain *wire.Drain) (commit func(), err error) {
	policy, err := rbac.Compile(chain.Intentions)
	if err != nil {
		return nil, err
	}
	next := &tcpConfig{policy: policy, proxy: chain.TCP, max: chain.MaxConnections}
	return func() {
		t.config.Store(next)
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
	return TCPStats{
		Accepted: t.accepted.Load(), Active: t.active.Load(), Denied: t.denied.Load(),
		Failed: t.failed.Load(), BytesIn: t.bytesIn.Load(), BytesOut: t.bytesOut.Load(),
	}
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
	active := t.active.Add(1)
	r := newRelay(conn, peer)
	defer r.done()
	// Registered before the decision, so that a change of intentions between
	// the two does not miss this connection.
	drain.Add(r)
	defer drain.Remove(r)
	cfg := t.config.Load()
	if flag := cfg.refuses(peer, active); flag != wire.FlagNone {
		t.denied.Add(1)
		r.because(flag, nil)
		t.see(r)
		return
	}
	defer r.expire(cfg.proxy.MaxDuration)()
	up, err := t.dial(r, cfg)
	if err != nil {
		t.failed.Add(1)
		r.because(wire.AsFault(err).Flag, err)
		t.log.Debug("tcp upstream", "peer", peer.ID.String(), "err", err)
		return
	}
	defer up.Close()
	t.pipe(r, up, cfg.proxy.IdleTimeout)
}

// refuses tells why a connection is closed at once: the chain is not configured
// yet, the intentions do not allow it, or there are too many.
func (c *tcpConfig) refuses(peer *wire.Peer, active int64) wire.Flag {
	switch {
	case c == nil:
		return wire.FlagNoRoute
	case !allows(c.policy, peer):
		return wire.FlagDenied
	case c.max > 0 && uint64(active) > c.max:
		return wire.FlagLimited
	default:
		return wire.FlagNone
	}
}

// see shows a connection to the observer.
func (t *TCP) see(r *relay) { r.in, r.out = t.observe(&r.x) }

func (t *TCP) dial(r *relay, cfg *tcpConfig) (net.Conn, error) {
	target := mesh.Choose(cfg.proxy.Targets)
	if target == nil {
		t.see(r)
		return nil, &wire.Fault{Flag: wire.FlagNoCluster, Err: errors.New("tcp_proxy names no cluster")}
	}
	r.x.Cluster = target.Cluster
	t.see(r)
	cluster := t.clusters.Cluster(target.Cluster)
	if cluster == nil {
		return nil, &wire.Fault{Flag: wire.FlagNoCluster, Err: fmt.Errorf("cluster %q is not known", target.Cluster)}
	}
	for n := uint32(1); ; n++ {
		up, err := r.connect(cluster, target.Cluster)
		if err == nil || n >= cfg.proxy.ConnectAttempts || r.ctx.Err() != nil || wire.AsFault(err).Flag != wire.FlagUpstreamConnect {
			return up, err
		}
	}
}

// connect makes one attempt, in which the cluster may try several endpoints.
func (r *relay) connect(cluster *upstream.Cluster, name string) (net.Conn, error) {
	a := r.x.NewAttempt(name, time.Now())
	up, host, err := cluster.Dial(r.ctx)
	if err != nil {
		a.End, a.Flag = time.Now(), wire.AsFault(err).Flag
		return nil, err
	}
	a.Endpoint, a.Connected = host.Address(), time.Now()
	a.Head, r.x.HeadSent = a.Connected, a.Connected
	return up, nil
}
