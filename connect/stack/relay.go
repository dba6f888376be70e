package stack

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/accesslog"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/bulk"
)

// relay is a living connection with its upstream, or on its way to one.
type relay struct {
	// set by newRelay
	down   net.Conn
	peer   *wire.Peer
	ctx    context.Context //nolint:containedctx // ends the dial when the connection is killed
	cancel context.CancelFunc

	// x is what is known of the connection. It belongs to the goroutine that
	// serves it.
	x wire.Exchange
	// in and out are the observer's.
	in, out *atomic.Int64

	// reason is why the connection ends, if it does not end by itself.
	reason atomic.Pointer[reason]
}

type reason struct {
	flag wire.Flag
	err  error
}

func newRelay(down net.Conn, peer *wire.Peer) *relay {
	r := &relay{down: down, peer: peer}
	r.ctx, r.cancel = context.WithCancel(upstream.For(context.Background(), peer))
	r.x.Reset(nil, peer, time.Now())
	return r
}

// done ends the connection for its observer.
func (r *relay) done() {
	r.cancel()
	if reason := r.reason.Load(); reason != nil {
		r.x.Flag, r.x.Err = reason.flag, reason.err
	}
	r.x.Done(time.Now())
}

// expire ends the connection after most (0: never), whatever it does then.
func (r *relay) expire(most time.Duration) (stop func() bool) {
	if most == 0 {
		return func() bool { return false }
	}
	return time.AfterFunc(most, func() {
		r.because(wire.FlagNone, errTooOld)
		r.Kill()
	}).Stop
}

// wait waits, but not longer than the connection lives.
func (r *relay) wait(pause time.Duration) {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-r.ctx.Done():
	}
}

// because tells why the connection ends; what is told first counts.
func (r *relay) because(flag wire.Flag, err error) {
	r.reason.CompareAndSwap(nil, &reason{flag, err})
}

// CloseIdle does nothing: nobody can tell when a raw connection is idle.
func (r *relay) CloseIdle() {}

// Kill closes the connection. Closing TLS would wait for a peer that does not
// read, so what is below it is closed.
func (r *relay) Kill() {
	r.because(wire.FlagDraining, nil)
	r.cancel()
	if t, ok := r.down.(*tls.Conn); ok {
		t.NetConn().Close()
		return
	}
	r.down.Close()
}

// pipe moves bytes both ways until both directions have ended, or nothing has
// moved for the idle timeout (0: for ever).
func (t *TCP) pipe(r *relay, up net.Conn, proxy *mesh.TCPProxy) {
	idle := proxy.IdleTimeout
	var last atomic.Int64
	last.Store(time.Now().UnixNano())
	buffers := t.clusters.Buffers()
	in := half{
		relay: r, dst: up, src: r.down, dstLost: wire.FlagUpstreamReset, srcLost: wire.FlagDownstreamReset,
		idle: idle, last: &last, counts: [2]*atomic.Int64{&t.bytesIn, r.in}, moving: bulk.NewPipe(up, r.down, buffers),
	}
	out := half{
		relay: r, dst: r.down, src: up, dstLost: wire.FlagDownstreamReset, srcLost: wire.FlagUpstreamReset,
		idle: idle, last: &last, counts: [2]*atomic.Int64{&t.bytesOut, r.out}, moving: bulk.NewPipe(r.down, up, buffers),
	}
	telling := t.tellEvery(proxy.LogMoments.Every, r, &in, &out)
	var both sync.WaitGroup
	both.Go(in.run)
	out.run()
	both.Wait()
	telling()
	r.x.BytesIn, r.x.BytesOut = in.moved.Load(), out.moved.Load()
	if counted, ok := up.(interface {
		Moved(sent, received int64, ours bool)
	}); ok {
		ended := r.reason.Load()
		counted.Moved(r.x.BytesIn, r.x.BytesOut, ended != nil && ended.flag != wire.FlagUpstreamReset)
	}
}

// tellEvery writes of the connection now and then (0: never), until stop has returned. The
// exchange is its own as long as bytes move.
func (t *TCP) tellEvery(every time.Duration, r *relay, in, out *half) (stop func()) {
	if every == 0 {
		return func() {}
	}
	ended := make(chan struct{})
	var telling sync.WaitGroup
	telling.Go(func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-tick.C:
				r.x.BytesIn, r.x.BytesOut = in.moved.Load(), out.moved.Load()
				t.tell(&r.x, accesslog.Periodic)
			case <-ended:
				return
			}
		}
	})
	return func() { close(ended); telling.Wait() }
}

// half is one direction of a connection.
type half struct {
	relay    *relay
	dst, src net.Conn
	moving   *bulk.Pipe
	// dstLost and srcLost are the flags of a connection that breaks.
	dstLost, srcLost wire.Flag
	idle             time.Duration
	last             *atomic.Int64 // when a byte last moved, in Unix nanoseconds
	counts           [2]*atomic.Int64
	moved            atomic.Int64
	// takeBy is the deadline of writes to dst; it is moved only now and then.
	takeBy time.Time
}

// run moves bytes from src to dst and passes the end on as a half-close. Any error
// ends both directions, and so does a dst that takes nothing for idle.
func (h *half) run() {
	defer h.moving.Close()
	h.await()
	for {
		n, err := h.moving.Take()
		switch {
		case err == nil:
			h.count(n)
			if err := h.moving.Give(); err != nil {
				h.lost(h.dstLost, err)
				return
			}
		case errors.Is(err, io.EOF):
			if end, ok := h.dst.(interface{ CloseWrite() error }); !ok || end.CloseWrite() != nil {
				h.dst.Close()
			}
			return
		case errors.Is(err, os.ErrDeadlineExceeded) && time.Since(h.moment()) < h.idle:
			h.await() // something has moved since the deadline was set
		default:
			h.lost(h.srcLost, err)
			return
		}
	}
}

// moment is when a byte last moved, either way.
func (h *half) moment() time.Time { return time.Unix(0, h.last.Load()) }

// await sets how long src may be silent.
func (h *half) await() {
	if h.idle > 0 {
		h.src.SetReadDeadline(h.moment().Add(h.idle)) //nolint:errcheck // the read will tell
	}
}

// count notes that n bytes are on their way to dst, and sets how long it may take
// for them.
func (h *half) count(n int) {
	now := time.Now()
	h.last.Store(now.UnixNano())
	h.moved.Add(int64(n))
	for _, count := range h.counts {
		count.Add(int64(n))
	}
	if h.idle > 0 && h.takeBy.Sub(now) < h.idle {
		h.takeBy = now.Add(h.idle + h.idle/8)
		h.dst.SetWriteDeadline(h.takeBy) //nolint:errcheck // the write will tell
	}
}

// Why a connection ends by itself.
var (
	errIdle   = errors.New("idle for too long")
	errTooOld = errors.New("open for as long as it may be")
)

// lost ends both directions. A connection that was idle for too long is not lost
// by anybody.
func (h *half) lost(flag wire.Flag, err error) {
	if errors.Is(err, os.ErrDeadlineExceeded) {
		flag, err = wire.FlagNone, errIdle
	}
	h.relay.because(flag, err)
	h.dst.Close()
	h.src.Close()
}
