package telemetry

import (
	"context"
	"sync/atomic"

	"github.com/serai-net/serai/connect/wire"
)

// Observer sees what passes listeners, counts it and logs it. A nil Observer
// sees nothing.
type Observer struct {
	metrics *Metrics
	log     *AccessLog
	taps    taps
}

// NewObserver returns an Observer that counts in m and logs in l.
func NewObserver(m *Metrics, l *AccessLog) *Observer { return &Observer{metrics: m, log: l} }

// Metrics are those that it counts in; nil for a nil Observer.
func (o *Observer) Metrics() *Metrics {
	if o == nil {
		return nil
	}
	return o.metrics
}

// AccessLog is the one that it logs in; nil for a nil Observer.
func (o *Observer) AccessLog() *AccessLog {
	if o == nil {
		return nil
	}
	return o.log
}

// Run writes the access log until ctx ends, which should be when the last
// exchange has. It is called once.
func (o *Observer) Run(ctx context.Context) error {
	if o == nil {
		return nil
	}
	return o.log.Run(ctx)
}

// HTTP sees each exchange at p. The layer stands outermost, or nearly so: what
// stands before it is seen only in its effects.
func (o *Observer) HTTP(p Place) wire.Layer {
	if o == nil {
		return nil
	}
	w := &watch{place: p, site: o.metrics.site(&p, false), log: o.log, taps: &o.taps}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			x.OnEnd(w)
			return next.Serve(x, req)
		})
	}
}

// Route finds what is counted of one route without looking it up by its names:
// the layer that finds the route sets [wire.Exchange.Counted] to its Route. The
// zero value is ready for use. A Route must not be copied once it is used.
type Route struct{ path atomic.Pointer[path] }

// watch sees the end of exchanges at one place.
type watch struct {
	place Place
	site  *site
	log   *AccessLog
	taps  *taps
}

var _ wire.End = (*watch)(nil)

// End implements [wire.End].
func (w *watch) End(x *wire.Exchange) {
	w.site.request(&w.place, x)
	w.log.Log(&w.place, x)
	w.taps.see(&w.place, x)
}

// TCP sees each connection at p: what it returns is called once for each, when
// its peer is known and so is its cluster, or that it will have none. The
// connection counts as active until x is done, and its bytes are added to in and
// out while it lives.
func (o *Observer) TCP(p Place) func(x *wire.Exchange) (in, out *atomic.Int64) {
	if o == nil {
		return nil
	}
	w := watch{place: p, site: o.metrics.site(&p, true), log: o.log, taps: &o.taps}
	return func(x *wire.Exchange) (in, out *atomic.Int64) {
		c := &connection{watch: &w, path: w.site.pathOf(&w.place, x)}
		c.path.active.Add(1)
		x.OnEnd(c)
		return &c.path.in, &c.path.out
	}
}

// connection is one that lives.
type connection struct {
	*watch
	path *path
}

// End implements [wire.End].
func (c *connection) End(x *wire.Exchange) {
	c.path.active.Add(-1)
	c.site.count(c.path, x)
	c.path.times.observe(inAll, c.site.bounds, duration(x))
	c.log.Log(&c.place, x)
	c.taps.see(&c.place, x)
}
