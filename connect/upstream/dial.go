package upstream

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// Dial returns a connection to a host for raw bytes, as choice asks for it. Hosts
// that refuse are passed over for others. For whom it is made is in ctx (see For).
// With an error the host is the last that refused, nil if none was asked.
func (c *Cluster) Dial(ctx context.Context, choice wire.Choice) (net.Conn, *Host, error) {
	return c.dialFor(ctx, preference{Choice: choice, peer: peerOf(ctx)}, false)
}

// DialHTTP2 returns a connection to a host on which the caller speaks HTTP/2 by
// himself: with TLS it is offered by ALPN, where the cluster has any.
func (c *Cluster) DialHTTP2(ctx context.Context) (net.Conn, error) {
	conn, _, err := c.dialFor(ctx, preference{peer: peerOf(ctx)}, true)
	return conn, err
}

func (c *Cluster) dialFor(ctx context.Context, p preference, http2 bool) (net.Conn, *Host, error) {
	if m := c.member(p); m != nil && m != c {
		return m.dialFor(ctx, p, http2)
	}
	c.requests.Add(1)
	cfg := c.config.Load()
	if err := cfg.check(); err != nil {
		return nil, nil, err
	}
	c.active.Add(1)
	conn, peer, host, err := c.dialAny(ctx, p, http2)
	if err != nil {
		c.active.Add(-1)
		return nil, host, err
	}
	host.active.Add(1)
	c.answers.requests.Add(1)
	host.answers.begun()
	counted := &countedConn{Conn: conn, host: host, peer: peer}
	if c.config.Load().Pool.CloseUnhealthy {
		counted.tracked = true
		host.raw.add(counted)
	}
	return counted, host, nil
}

func (c *Cluster) dialAny(ctx context.Context, p preference, http2 bool) (net.Conn, *wire.Peer, *Host, error) {
	var tried [maxTries]*Host
	var last error
	var asked *Host
	for n := range maxTries {
		among := c.hosts.Load()
		host := c.pick(time.Now(), p, tried[:n])
		if host == nil && n == 0 && c.awaitHosts(ctx) == nil {
			host = c.pickSince(p, among)
		}
		if host == nil {
			break
		}
		// Envoy's tcp_proxy does not wait for a place either.
		if l := &c.config.Load().Limits; c.conns.Load() >= limit(l.MaxConnections, l.HasConnections) || !c.reserve(host, false) {
			c.cxOverflow.Add(1)
			c.overflow.Add(1)
			return nil, nil, nil, &wire.Fault{Flag: wire.FlagUpstreamOverflow, Text: "too many connections"}
		}
		c.pendingTotal.Add(1)
		cfg := c.config.Load()
		purpose := rawTLS
		if http2 {
			purpose = http2TLS
		}
		conn, peer, err := c.dial(ctx, cfg, host, cfg.secure.by(purpose))
		if err == nil {
			c.connected(host)
			return conn, peer, host, nil
		}
		c.freed(host, false)
		if ctx.Err() == nil {
			c.faulted(host, &wire.Fault{Flag: wire.FlagUpstreamConnect})
			c.answers.ejected.Add(1)
		} else {
			c.answers.cancelled.Add(1)
		}
		last, tried[n], asked = err, host, host
		if ctx.Err() != nil {
			break
		}
	}
	if last == nil {
		return nil, nil, nil, c.without(nil)
	}
	return nil, nil, asked, &wire.Fault{Flag: wire.FlagUpstreamConnect, Err: fmt.Errorf("cluster %q: %w", c.name, last)}
}

// dial makes a connection by cfg, which was loaded after host was picked, and by secure of
// it: hosts of other peers are never older than the configuration that named these.
func (c *Cluster) dial(ctx context.Context, cfg *config, host *Host, secure *tls.Config) (net.Conn, *wire.Peer, error) {
	c.connects.Add(1)
	root := host.root()
	root.answers.connects.Add(1)
	began := time.Now()
	conn, err := host.dial(ctx, cfg, secure, &c.set.bulk)
	if err != nil {
		c.answers.ended.Count(wire.Ending{Ours: ctx.Err() != nil || isTimeout(err)})
		c.connectFails.Add(1)
		root.answers.connectFails.Add(1)
		if isTimeout(err) {
			c.answers.connectTimeouts.Add(1)
		}
		if secure != nil && wasTLS(err) && ctx.Err() == nil && !isTimeout(err) {
			c.answers.handshakes.Failed(err)
		}
		switch {
		case isLate(ctx):
			return nil, nil, fmt.Errorf("%w: %w", errWaited, err)
		case ctx.Err() == nil || errors.Is(ctx.Err(), context.DeadlineExceeded):
			root.failed(time.Now())
		}
		return nil, nil, err
	}
	root.succeeded()
	c.answers.connected.Observe(time.Since(began))
	return conn, c.endOf(conn, secure), nil
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// countedConn is an active connection of its cluster.
type countedConn struct {
	net.Conn
	host    *Host
	peer    *wire.Peer
	tracked bool // among host.raw
	closed  atomic.Bool
	// theirs says that the other side has ended it.
	theirs atomic.Bool
}

func (c *countedConn) Close() error {
	if c.closed.CompareAndSwap(false, true) {
		if c.tracked {
			c.host.raw.remove(c)
		}
		c.host.active.Add(-1)
		c.host.cluster.active.Add(-1)
		c.host.cluster.answers.ended.Count(wire.Ending{Ours: !c.theirs.Load(), Busy: true})
		defer c.host.cluster.freed(c.host, false)
	}
	return c.Conn.Close()
}

// PlainConn implements bulk.Plain.
func (c *countedConn) PlainConn() net.Conn { return c.Conn }

// CloseWrite ends our direction and leaves the other open.
func (c *countedConn) CloseWrite() error {
	if half, ok := c.Conn.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return c.Close()
}
