package upstream

import (
	"cmp"
	"container/list"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"slices"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/mtls"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
)

const (
	// firstPause is how long a host that refused a connection is passed over
	// where there is another; it doubles up to lastPause.
	//
	// A pause only ranks hosts that the control plane and outlier detection leave:
	// it is no ejection, counts for neither panic nor ejection percentages, and an
	// ejection that ends takes it back.
	firstPause, lastPause = 500 * time.Millisecond, 15 * time.Second
	// keepalive and probes are TCP's where nothing else is said.
	keepalive, probes = 15 * time.Second, 9
)

// Host is one endpoint of a cluster with what we know of it. It lives as long
// as endpoint sets name its address.
type Host struct {
	cluster  *Cluster
	text     string // its address
	endpoint atomic.Pointer[mesh.Endpoint]
	metadata atomic.Pointer[wire.Metadata] // of endpoint
	pool     pool                          // of HTTP/1
	shared   shared                        // of HTTP/2

	answers hostAnswers

	// active counts the exchanges under way.
	active atomic.Int32
	// conns counts the connections, those being made included: those of HTTP/1 and
	// raw bytes, and those of HTTP/2.
	conns [2]atomic.Int32
	// since is when the host came or became healthy; guarded by Set.mu.
	since time.Time
	// outlier is nil without outlier detection, and before the first exchange.
	outlier atomic.Pointer[outlier]
	// names keep connections where each is for one name, and are guarded by the lock of
	// named; byName counts those connections. One of them has a parent and a name, and
	// asked counts the tries that are about to use it.
	names  map[string]*list.Element
	byName atomic.Int32
	parent *Host
	name   string
	asked  atomic.Int32
	// spoken is what TLS agreed on last where that is up to it: 2 for HTTP/2.
	spoken atomic.Uint32
	// check asks for its health; nil if nobody does. What it has found is verdict.
	check   atomic.Pointer[check]
	verdict atomic.Uint32
	gone    atomic.Bool
	// raw are the connections that end when the host turns out to be unhealthy.
	raw living

	// pausedUntil is a time in Unix nanoseconds until which the host is passed
	// over; pause is the length of that pause in nanoseconds.
	pausedUntil, pause atomic.Int64
}

// Address is the host's address as text.
func (h *Host) Address() string { return h.text }

// address is that of its endpoint, which stays as long as the host does.
func (h *Host) address() mesh.Address { return h.endpoint.Load().Address }

// Name is the endpoint's host name; "" if it has none.
func (h *Host) Name() string { return h.endpoint.Load().Hostname }

// connsOf is the count of connections that are shared, or not.
func (h *Host) connsOf(shared bool) *atomic.Int32 {
	if shared {
		return &h.conns[1]
	}
	return &h.conns[0]
}

// allConns is how many connections there are.
func (h *Host) allConns() int {
	return int(h.conns[0].Load() + h.conns[1].Load() + h.byName.Load())
}

// counted counts connections of a host by one of its names for the host itself, too.
func (h *Host) counted(n int32) {
	if h.parent != nil {
		h.parent.byName.Add(n)
	}
}

func (h *Host) paused(now time.Time) bool {
	until := h.pausedUntil.Load()
	return until != 0 && now.UnixNano() < until
}

func (h *Host) failed(now time.Time) {
	pause := min(max(2*h.pause.Load(), int64(firstPause)), int64(lastPause))
	h.pause.Store(pause)
	h.pausedUntil.Store(now.UnixNano() + pause)
}

func (h *Host) succeeded() {
	if h.pausedUntil.Load() != 0 {
		h.pause.Store(0)
		h.pausedUntil.Store(0)
	}
}

// healthy tells whether the control plane says so and the host is not ejected.
func (h *Host) healthy() bool { return h.is(mesh.Healthy) }

// degraded tells the same of one that is to be used only if there are too few others.
func (h *Host) degraded() bool { return h.is(mesh.Degraded) }

func (h *Host) is(health mesh.Health) bool {
	if verdict(h.verdict.Load()).of(h.endpoint.Load().Health) != health {
		return false
	}
	o := h.outlier.Load()
	return o == nil || !o.ejected.Load()
}

// triedIn tells whether one of tried was made on this host.
func (h *Host) triedIn(tried []wire.Attempt) bool {
	return slices.ContainsFunc(tried, func(a wire.Attempt) bool { return a.Endpoint == h.text })
}

// close closes idle connections, and the others when they become so.
func (h *Host) close() {
	h.gone.Store(true)
	if k := h.check.Load(); k != nil {
		k.stop()
	}
	h.pool.close()
	h.shared.close()
	h.cluster.named.close(h)
}

// tlsName is the name by which TLS knows the host.
func (h *Host) tlsName() string {
	if name := h.Name(); name != "" {
		return name
	}
	address := h.address()
	if address.Socket != "" {
		return ""
	}
	return address.AddrPort.Addr().String()
}

// secured is secure for the connections to h.
func (h *Host) secured(secure *tls.Config, c *config) *tls.Config {
	if h.parent != nil {
		return mtls.ForName(secure, c.TLS, c.secure.Signed, h.name)
	}
	return mtls.ForHost(secure, c.TLS, h.tlsName())
}

// dial connects and does the TLS handshake by secure, nil for none. The peer's
// identity is verified before it returns.
func (h *Host) dial(ctx context.Context, c *config, secure *tls.Config, buffers *bulk.Buffers) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, c.connectTimeout())
	defer cancel()
	k := c.Pool.Keepalive
	dialer := net.Dialer{KeepAliveConfig: net.KeepAliveConfig{
		Enable: true, Idle: cmp.Or(k.Idle, keepalive), Interval: cmp.Or(k.Interval, keepalive), Count: cmp.Or(k.Probes, probes),
	}}
	var conn net.Conn
	var err error
	address := h.address()
	if address.Socket != "" {
		conn, err = dialer.DialContext(ctx, "unix", h.text)
	} else {
		if c.Pool.Bind.IsValid() {
			dialer.LocalAddr = net.TCPAddrFromAddrPort(c.Pool.Bind)
		}
		conn, err = race(ctx, &dialer, address.AddrPort, h.endpoint.Load().Others, c.Pool.Race)
	}
	if err != nil {
		return nil, fmt.Errorf("connect: %w", err)
	}
	if c.ProxyProtocol != 0 {
		if err := introduce(ctx, conn, c.ProxyProtocol); err != nil {
			conn.Close()
			return nil, err
		}
	}
	if secure == nil {
		return conn, nil
	}
	secured := tls.Client(bulk.Under(conn, buffers), h.secured(secure, c))
	if err := secured.HandshakeContext(ctx); err != nil {
		conn.Close()
		return nil, &handshakeError{h.text, err}
	}
	return secured, nil
}
