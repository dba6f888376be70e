// Package healthcheck answers requests that ask for a proxy's health, from what it
// knows or has learnt of the application (xDS: filters.http.health_check.v3).
package healthcheck

import (
	"net/http"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/match"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const (
	clusterField = "x-envoy-upstream-healthchecked-cluster"
	failedField  = "x-envoy-immediate-health-check-fail"
)

// Place is where a filter stands.
type Place struct {
	// Name is our own cluster's, told in answers.
	Name string
	// Failed tells whether an operator has declared us unhealthy; may be nil.
	Failed func() bool
	// Count returns how many endpoints a cluster has, and how many are healthy; ok is
	// false for one that is not known.
	Count func(cluster string) (all, healthy int, ok bool)
	// Cache is what was learnt last; it outlives the filter.
	Cache *Cache
}

// Cache is the last answer of an application. The zero Cache is empty. It is safe
// for concurrent use.
type Cache struct {
	last atomic.Pointer[learnt]
}

type learnt struct {
	status int
	at     time.Time
}

// Filter is a compiled [mesh.HealthCheck]. It is safe for concurrent use.
type Filter struct {
	*mesh.HealthCheck
	place   Place
	headers []*match.HeaderMatcher
}

// New compiles c.
func New(c *mesh.HealthCheck, place Place) (*Filter, error) {
	f := &Filter{HealthCheck: c, place: place}
	for _, m := range c.Headers {
		h, err := match.Header(m)
		if err != nil {
			return nil, err
		}
		f.headers = append(f.headers, h)
	}
	return f, nil
}

// Layer is the filter in a chain.
func (f *Filter) Layer(next wire.Service) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		return f.serve(x, req, next)
	})
}

// Encodes tells that responses matter to the filter.
func (f *Filter) Encodes() bool { return true }

// Encode tells whoever gets a response that we are not to be asked any more.
func (f *Filter) Encode(_ *wire.Exchange, _ *wire.Request, resp *wire.Response) (*wire.Response, error) {
	if f.failed() {
		resp.Header.Set(failedField, "true")
	}
	return resp, nil
}

func (f *Filter) failed() bool { return f.place.Failed != nil && f.place.Failed() }

func (f *Filter) asks(req *wire.Request) bool {
	for _, h := range f.headers {
		if !h.Match(req) {
			return false
		}
	}
	return !req.Raw()
}

func (f *Filter) serve(x *wire.Exchange, req *wire.Request, next wire.Service) (*wire.Response, error) {
	if !f.asks(req) {
		resp, err := next.Serve(x, req)
		if !f.failed() || x.Gone() {
			return resp, err
		}
		if err != nil {
			resp = wire.Reply(x, err)
		}
		return f.Encode(x, req, resp)
	}
	x.HealthCheck = true
	known := f.known()
	if !f.PassThrough || f.failed() || known != 0 {
		return f.answer(x, known), nil
	}
	resp, err := next.Serve(x, req)
	if err != nil {
		if f.CacheTime > 0 && x.Aborted() == nil {
			f.place.Cache.last.Store(&learnt{http.StatusServiceUnavailable, time.Now()})
		}
		return nil, err
	}
	if f.CacheTime > 0 {
		f.place.Cache.last.Store(&learnt{resp.Status, time.Now()})
	}
	f.tell(&resp.Header)
	return resp, nil
}

// known is the status that was learnt not long ago; 0 for none.
func (f *Filter) known() int {
	if f.CacheTime <= 0 || !f.PassThrough {
		return 0
	}
	if last := f.place.Cache.last.Load(); last != nil && time.Since(last.at) < f.CacheTime {
		return last.status
	}
	return 0
}

// answer is our own, without a body.
func (f *Filter) answer(x *wire.Exchange, known int) *wire.Response {
	status := http.StatusOK
	switch {
	case f.failed():
		status, x.Details = http.StatusServiceUnavailable, "health_check_failed"
	case known != 0:
		status, x.Details = known, "health_check_cached"
	case !f.healthy():
		status, x.Details = http.StatusServiceUnavailable, "health_check_cluster_unhealthy"
	default:
		x.Details = "health_check_ok"
	}
	return wire.Answer(x, status, "", func(h *wire.Header) {
		if f.failed() {
			h.Set(failedField, "true")
		}
		f.tell(h)
	})
}

func (f *Filter) tell(h *wire.Header) {
	if f.place.Name != "" {
		h.Set(clusterField, f.place.Name)
	}
}

// healthy tells whether enough endpoints are.
func (f *Filter) healthy() bool {
	for name, least := range f.Clusters {
		all, healthy, ok := f.place.Count(name)
		switch {
		case !ok:
			return false
		case all == 0 && least == 0:
		case all == 0, 100*float64(healthy) < float64(all)*least:
			return false
		}
	}
	return true
}
