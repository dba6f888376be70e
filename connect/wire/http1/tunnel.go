package http1

import (
	"errors"
	"net/http"
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
	var expired <-chan time.Time
	if d := c.srv.cfg.TunnelTimeout; d > 0 {
		timer := time.NewTimer(d)
		defer timer.Stop()
		expired = timer.C
	}
	select {
	case <-ended:
	case <-expired:
	}
}

// touch notes that a tunnel has moved bytes.
func (c *conn) touch() { c.active.Store(int64(time.Since(c.start))) }

// broken is the fault of an upstream's body that broke.
func broken(err error) *wire.Fault {
	if fault, ok := errors.AsType[*wire.Fault](err); ok {
		return fault
	}
	return &wire.Fault{Status: http.StatusBadGateway, Flag: wire.FlagUpstreamReset, Text: "upstream response broke off", Err: err}
}
