package stack

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
)

// copyBuffer is the memory that each direction of a connection holds.
const copyBuffer = 32 << 10

// TCP is a living chain of network filters that ends in tcp_proxy: intentions,
// connection limit, upstream. Its configuration is swapped by Update while its
// connections live. It is safe for concurrent use.
type TCP struct {
	clusters *upstream.Set
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

// NewTCP returns a chain that refuses everything until Update.
func NewTCP(clusters *upstream.Set, log *slog.Logger) *TCP {
	return &TCP{clusters: clusters, log: log}
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
	r := &relay{down: conn, peer: peer}
	r.ctx, r.cancel = context.WithCancel(context.Background())
	defer r.cancel()
	// Registered before the decision, so that a change of intentions between
	// the two does not miss this connection.
	drain.Add(r)
	defer drain.Remove(r)
	cfg := t.config.Load()
	if cfg == nil || !allows(cfg.policy, peer) || (cfg.max > 0 && uint64(active) > cfg.max) {
		t.denied.Add(1)
		return
	}
	up, err := t.dial(r.ctx, cfg)
	if err != nil {
		t.failed.Add(1)
		t.log.Debug("tcp upstream", "peer", peer.ID.String(), "err", err)
		return
	}
	defer up.Close()
	t.pipe(conn, up, cfg.proxy.IdleTimeout)
}

func (t *TCP) dial(ctx context.Context, cfg *tcpConfig) (net.Conn, error) {
	target := mesh.Choose(cfg.proxy.Targets)
	if target == nil {
		return nil, errors.New("tcp_proxy names no cluster")
	}
	cluster := t.clusters.Cluster(target.Cluster)
	if cluster == nil {
		return nil, fmt.Errorf("cluster %q is not known", target.Cluster)
	}
	up, _, err := cluster.Dial(ctx)
	return up, err
}

// relay is a living connection with its upstream, or on its way to one.
type relay struct {
	down   net.Conn
	peer   *wire.Peer
	ctx    context.Context //nolint:containedctx // ends the dial when the connection is killed
	cancel context.CancelFunc
}

// CloseIdle does nothing: nobody can tell when a raw connection is idle.
func (r *relay) CloseIdle() {}

// Kill closes the connection. Closing TLS would wait for a peer that does not
// read, so what is below it is closed.
func (r *relay) Kill() {
	r.cancel()
	if t, ok := r.down.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	r.down.Close()
}

// pipe copies both ways until both directions have ended, or nothing has moved
// for idle (0: for ever).
func (t *TCP) pipe(down, up net.Conn, idle time.Duration) {
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	var both sync.WaitGroup
	both.Go(func() { copyHalf(up, down, idle, &last, &t.bytesIn) })
	copyHalf(down, up, idle, &last, &t.bytesOut)
	both.Wait()
}

// copyHalf copies src to dst and passes the end on as a half-close. Any error
// ends both directions, and so does a dst that takes nothing for idle.
func copyHalf(dst, src net.Conn, idle time.Duration, last, count *atomic.Int64) {
	buffer := make([]byte, copyBuffer)
	for {
		if idle > 0 {
			src.SetReadDeadline(time.Unix(0, last.Load()).Add(idle)) //nolint:errcheck // the read will tell
		}
		n, err := src.Read(buffer)
		if n > 0 {
			last.Store(time.Now().UnixNano())
			count.Add(int64(n))
			if idle > 0 {
				dst.SetWriteDeadline(time.Now().Add(idle)) //nolint:errcheck // the write will tell
			}
			if _, werr := dst.Write(buffer[:n]); werr != nil {
				break
			}
		}
		switch {
		case err == nil:
			continue
		case errors.Is(err, io.EOF):
			if half, ok := dst.(interface{ CloseWrite() error }); !ok || half.CloseWrite() != nil {
				dst.Close()
			}
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(time.Unix(0, last.Load())) < idle:
			continue // the other direction has moved since
		}
		break
	}
	dst.Close()
	src.Close()
}
