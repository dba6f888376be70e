package stack

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/wire/socket"
)

// Why a connection ends before it was decided whether it is served.
var (
	errLeft     = errors.New("the client has left before it was admitted")
	errDraining = errors.New("we drain before the client was admitted")
)

// waiting is a connection that is not yet served since something is to admit it. A
// drain does not wait for that: no request of it has been read.
type waiting struct{ cancel context.CancelCauseFunc }

func (w *waiting) CloseIdle() { w.cancel(errDraining) }
func (w *waiting) Kill()      { w.cancel(errDraining) } // the listener closes its connections

// untilLeft is a context that also ends when the peer of conn leaves. stop ends the
// watch, after which conn may be read.
func untilLeft(ctx context.Context, conn net.Conn) (until context.Context, stop func()) {
	until, cancel := context.WithCancelCause(ctx)
	halves := true
	for secured, ok := conn.(interface{ NetConn() net.Conn }); ok; secured, ok = conn.(interface{ NetConn() net.Conn }) {
		if _, ok := conn.(*tls.Conn); ok {
			halves = false // the end of one direction is said inside
		}
		conn = secured.NetConn()
	}
	var watching sync.WaitGroup
	watching.Go(func() {
		if socket.Left(conn, halves) {
			cancel(errLeft)
		}
	})
	return until, func() {
		// A deadline that is over wakes who watches; it is not there when we read.
		conn.SetReadDeadline(time.Unix(1, 0)) //nolint:errcheck // of a connection that is closed: it is awake
		watching.Wait()
		conn.SetReadDeadline(time.Time{}) //nolint:errcheck // the read will tell
		cancel(nil)
	}
}
