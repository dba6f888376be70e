package upstream

import (
	"math"
	"net/http"
	"strconv"
	"sync/atomic"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// outlier is what outlier detection knows of one host, from the first exchange with it on
// for as long as there is detection: of many hosts few are called.
type outlier struct {
	// failures in a row: answers with 5xx, those of them with 502 to 504, and what
	// went wrong on our side of the host where that is told apart.
	fives, gateway, local atomic.Uint32
	// external and localOrigin count exchanges of this interval.
	external, localOrigin volume
	ejected               atomic.Bool

	spell // of being ejected; guarded by ejections.mu
}

// volume counts exchanges, and those that went well, in one number.
type volume struct {
	both atomic.Uint64
	// rate is the share that went well in the last interval in which there were enough.
	rate rate
}

// rate is a share in percent, for who looks; the zero rate is not known.
type rate struct{ bits atomic.Uint64 }

func (r *rate) set(percent float64) { r.bits.Store(math.Float64bits(percent + 1)) }
func (r *rate) forget()             { r.bits.Store(0) }

// load is -1 if it is not known.
func (r *rate) load() float64 { return math.Float64frombits(r.bits.Load()) - 1 }

func (v *volume) add(well bool) {
	if well {
		v.both.Add(1<<32 | 1)
	} else {
		v.both.Add(1 << 32)
	}
}

// take returns the numbers and begins anew.
func (v *volume) take() (all, well uint32) {
	both := v.both.Swap(0)
	return uint32(both >> 32), uint32(both)
}

// watched is what detection knows of a host, and by what it goes; both nil if it is off, or
// the host is none any more. Nor are original destinations watched: there is no other host
// to go to.
func (c *Cluster) watched(h *Host) (*outlier, *mesh.Outlier) {
	cfg, e := c.config.Load(), c.ejections.Load()
	d := cfg.Outlier
	if d == nil || e == nil || cfg.Kind == mesh.ClusterOriginalDst {
		return nil, nil
	}
	if o := h.outlier.Load(); o != nil {
		return o, d
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	// Whoever has it forgotten has said why before, and waits for the lock.
	if h.gone.Load() || c.config.Load().Outlier == nil {
		return nil, nil
	}
	h.outlier.CompareAndSwap(nil, &outlier{})
	return h.outlier.Load(), d
}

// answered notes the answer of a host.
func (c *Cluster) answered(h *Host, grpc bool, resp *wire.Response) {
	o, d := c.watched(h)
	if o == nil {
		return
	}
	if d.SplitLocalOrigin {
		o.connected()
	}
	status := resp.Status
	if grpc {
		if code := resp.Header.Get("grpc-status"); code != "" {
			status = statusOfGRPC(code)
		}
	}
	c.came(h, o, d, status)
}

// connected notes that nothing is wrong on our side of a host.
func (o *outlier) connected() {
	o.localOrigin.add(true)
	if o.local.Load() != 0 {
		o.local.Store(0)
	}
}

// connected notes that a host takes connections, of one for raw bytes.
func (c *Cluster) connected(h *Host) {
	o, d := c.watched(h)
	switch {
	case o == nil:
	case d.SplitLocalOrigin:
		o.connected()
	default:
		c.came(h, o, d, http.StatusOK)
	}
}

// faulted notes that a host did not answer. Where detection does not tell the
// two apart, it counts as the answer that the client gets for it.
func (c *Cluster) faulted(h *Host, err error) {
	o, d := c.watched(h)
	if o == nil || Waited(err) {
		return
	}
	status := http.StatusServiceUnavailable
	switch wire.AsFault(err).Flag {
	case wire.FlagUpstreamConnect, wire.FlagUpstreamReset, wire.FlagUpstreamProtocol:
	case wire.FlagUpstreamTimeout:
		status = http.StatusGatewayTimeout
	default:
		return // it is the client's, or a limit's
	}
	if !d.SplitLocalOrigin {
		c.came(h, o, d, status)
		return
	}
	o.localOrigin.add(false)
	if n := o.local.Add(1); d.ConsecutiveLocalOriginFailure > 0 && n >= d.ConsecutiveLocalOriginFailure {
		c.eject(h, o, d, consecutiveLocalOrigin)
	}
}

// came counts an answer.
func (c *Cluster) came(h *Host, o *outlier, d *mesh.Outlier, status int) {
	o.external.add(status < 500)
	switch {
	case status >= 502 && status <= 504:
		if n := o.gateway.Add(1); d.ConsecutiveGatewayFailure > 0 && n >= d.ConsecutiveGatewayFailure {
			c.eject(h, o, d, consecutiveGateway)
		}
	case o.gateway.Load() != 0:
		o.gateway.Store(0)
	}
	switch {
	case status >= 500:
		if n := o.fives.Add(1); d.Consecutive5xx > 0 && n >= d.Consecutive5xx {
			c.eject(h, o, d, consecutive5xx)
		}
	case o.fives.Load() != 0:
		o.fives.Store(0)
	}
}

// statusOfGRPC is a status of gRPC as one of HTTP, as Envoy maps it
// (google/rpc/code.proto).
func statusOfGRPC(code string) int {
	n, err := strconv.Atoi(code)
	if err != nil {
		return http.StatusInternalServerError
	}
	switch n {
	case 0:
		return http.StatusOK
	case 1: // cancelled
		return 499
	case 3, 9, 11: // invalid argument, failed precondition, out of range
		return http.StatusBadRequest
	case 4: // deadline exceeded
		return http.StatusGatewayTimeout
	case 5:
		return http.StatusNotFound
	case 6, 10: // already exists, aborted
		return http.StatusConflict
	case 7:
		return http.StatusForbidden
	case 8: // resource exhausted
		return http.StatusTooManyRequests
	case 12:
		return http.StatusNotImplemented
	case 14:
		return http.StatusServiceUnavailable
	case 16:
		return http.StatusUnauthorized
	default:
		return http.StatusInternalServerError
	}
}
