package http1

import (
	"time"

	"github.com/serai-net/serai/connect/wire"
)

// tunnel sends the head in out, then moves bytes both ways until both sides have
// ended: this goroutine from resp.Body to the client, and whoever reads the
// request's body the other way.
func (c *conn) tunnel(ex *exchange, resp *wire.Response, out *outflow) {
	if err := out.flush(0, out.head); err != nil {
		c.cut(ex, frameClose, nil, err)
		return
	}
	ended := ex.body.switchOver()
	c.tunnels(&ex.x)
	defer c.tunnels(nil)
	c.snk.after = c.touch
	readErr, writeErr := out.copy(resp.Body)
	ex.x.BytesOut = out.sent
	if readErr != nil || writeErr != nil {
		c.cut(ex, frameClose, readErr, writeErr)
		return
	}
	if !closeWrite(c.nc) {
		return
	}
	// The upstream has ended its side; the client may go on with its own.
	c.awaitOther(ended, ex.x.Pause(c.srv.cfg.TunnelTimeout))
}

// awaitOther waits for the end of the client's side of a tunnel, which may pause for
// most; 0 is for ever.
func (c *conn) awaitOther(ended <-chan struct{}, most time.Duration) {
	if most <= 0 {
		<-ended
		return
	}
	timer := time.NewTimer(most)
	defer timer.Stop()
	for {
		select {
		case <-ended:
			return
		case <-timer.C:
			left := time.Until(c.start.Add(time.Duration(c.active.Load())).Add(most))
			if left <= 0 {
				return
			}
			timer.Reset(left)
		}
	}
}

// tunnels notes what Kill has to end besides the connection, whose upstream may be
// all that is read.
func (c *conn) tunnels(x *wire.Exchange) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tunnelled = x
}

// touch notes that a tunnel has moved bytes.
func (c *conn) touch() { c.active.Store(int64(time.Since(c.start))) }
