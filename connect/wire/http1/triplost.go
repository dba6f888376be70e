package http1

import (
	"errors"
	"net/http"
	"os"

	"github.com/serai-net/serai/connect/wire"
)

// lost ends a trip that has no response and tells why.
func (t *trip) lost(err error) *wire.Fault {
	t.unhold()
	t.noteUpload(true)
	_, cause := t.endPump()
	var p problem
	fault := &wire.Fault{Repeat: wire.RepeatNever, Err: err}
	if !t.answered {
		fault.Repeat = wire.RepeatIdempotent
	}
	if !t.wrote {
		fault.Repeat = wire.RepeatAny
	}
	reason := t.x.Aborted()
	switch {
	case reason != nil:
		fault = wire.Aborted(reason)
	case cause != nil:
		fault = wire.AsFault(cause)
	case errors.As(err, &p):
		fault.Status, fault.Flag, fault.Repeat = http.StatusBadGateway, wire.FlagUpstreamProtocol, wire.RepeatNever
		fault.Text = "upstream sent a malformed response"
	case errors.Is(err, os.ErrDeadlineExceeded):
		fault.TimeOut(t.x)
	case t.answered:
		t.left = true
		fault.Status, fault.Flag = http.StatusBadGateway, wire.FlagUpstreamReset
		fault.Text = "upstream response broke off"
	default:
		t.left = true
		fault.Status, fault.Flag = http.StatusServiceUnavailable, wire.FlagUpstreamReset
		fault.Text = "upstream connection was lost"
	}
	return t.fail(fault, false)
}

// fail ends a trip with fault.
func (t *trip) fail(fault *wire.Fault, reusable bool) *wire.Fault {
	t.a.Flag = fault.Flag
	t.body.err = errClosedBody
	t.finish(reusable)
	return fault
}
