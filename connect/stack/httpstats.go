package stack

import (
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/http2"
)

// HTTPStats counts what passes HTTP connection managers of one stat prefix, by
// Envoy's names below http.<stat_prefix>. The zero value is ready for use.
type HTTPStats struct {
	requests, http1, http2, routed, direct, noRoute, noCluster, resets, upgrades stats.Counter
	// idle are those in which nothing has moved for too long.
	idle stats.Counter
	// cut are responses that broke off, cutGRPC those of them whose calls had no status
	// yet, lasted exchanges that took longer than they may.
	cut, cutGRPC, lasted stats.Counter
	codes                classes
	active, upgraded     stats.Gauge
	times, lifetimes     stats.Histogram

	connections, secured stats.Counter
	second               secondConns
	open, openSecured    stats.Gauge
	// bytes of bodies
	in, out stats.Counter

	// codec1 and codec2 are what codecs count of what is no exchange.
	codec1 http1.Stats
	codec2 http2.Stats
}

// classes counts responses by the first digit of their status, less one.
type classes [5]stats.Counter

func (c *classes) count(status int) {
	if class := status/100 - 1; class >= 0 && class < len(c) {
		c[class].Add(1)
	}
}

func (c *classes) each(prefix string, yield func(stats.Stat) bool) (more bool) {
	completed := int64(0)
	for i, name := range [...]string{"downstream_rq_1xx", "downstream_rq_2xx", "downstream_rq_3xx", "downstream_rq_4xx", "downstream_rq_5xx"} {
		n := c[i].Load()
		completed += n
		if !yield(stats.Stat{Name: prefix + name, Value: n}) {
			return false
		}
	}
	return yield(stats.Stat{Name: prefix + "downstream_rq_completed", Value: completed})
}

// never are Envoy's counters of a connection manager for what does not happen
// here, or is not told apart.
const never = "downstream_cx_http1_soft_drain downstream_cx_http3_total" +
	" downstream_cx_max_requests_reached downstream_cx_overload_disable_keepalive" +
	" downstream_flow_control_paused_reading_total downstream_flow_control_resumed_reading_total" +
	" downstream_rq_failed_path_normalization downstream_rq_http3_total" +
	" downstream_rq_non_relative_path downstream_rq_overload_close downstream_rq_redirected_with_normalized_path" +
	" downstream_rq_rejected_via_ip_detection downstream_rq_too_large" +
	" downstream_rq_too_many_premature_resets downstream_rq_ws_on_non_ws_route" +
	" passthrough_internal_redirect_bad_location passthrough_internal_redirect_no_route passthrough_internal_redirect_predicate" +
	" passthrough_internal_redirect_too_many_redirects passthrough_internal_redirect_unsafe_scheme rq_overload_local_reply" +
	" rq_redirect rs_too_large rbac.shadow_allowed rbac.shadow_denied"

// Each yields all that it counts.
func (s *HTTPStats) Each(yield func(stats.Stat) bool) {
	total, open := s.connections.Load(), s.open.Load()
	for _, one := range []struct {
		name  string
		value int64
	}{
		{"downstream_cx_total", total},
		{"downstream_cx_ssl_total", s.secured.Load()},
		{"downstream_cx_http1_total", max(0, total-s.second.total.Load())},
		{"downstream_cx_http2_total", s.second.total.Load()},
		{"downstream_cx_rx_bytes_total", s.in.Load()},
		{"downstream_cx_tx_bytes_total", s.out.Load()},
		{"downstream_rq_total", s.requests.Load()},
		{"downstream_rq_http1_total", s.http1.Load()},
		{"downstream_rq_http2_total", s.http2.Load()},
		{"downstream_rq_rx_reset", s.resets.Load() + int64(s.codec1.Unfinished.Load()+s.codec2.Unfinished.Load())},
		{"downstream_rq_tx_reset", s.cut.Load()},
		{"downstream_rq_max_duration_reached", s.lasted.Load()},
		{"rq_reset_after_downstream_response_started", s.cutGRPC.Load()},
		{"downstream_cx_upgrades_total", s.upgrades.Load()},
		{"rq_total", s.routed.Load()},
		{"rq_direct_response", s.direct.Load()},
		{"no_route", s.noRoute.Load()},
		{"no_cluster", s.noCluster.Load()},
	} {
		if !yield(stats.Stat{Name: one.name, Value: one.value}) {
			return
		}
	}
	for _, one := range []struct {
		name  string
		value int64
	}{
		{"downstream_cx_active", open},
		{"downstream_cx_ssl_active", s.openSecured.Load()},
		{"downstream_rq_active", s.active.Load()},
		{"downstream_cx_http1_active", max(0, open-s.second.open.Load())},
		{"downstream_cx_http2_active", s.second.open.Load()},
		{"downstream_cx_upgrades_active", s.upgraded.Load()},
		{"downstream_cx_rx_bytes_buffered", 0},
		{"downstream_cx_tx_bytes_buffered", 0},
		{"downstream_cx_http3_active", 0},
	} {
		if !yield(stats.Stat{Name: one.name, Kind: stats.KindGauge, Value: one.value}) {
			return
		}
	}
	_ = s.codecs(yield) && s.endings(yield) && s.codes.each("", yield) &&
		yield(stats.Stat{Name: "downstream_rq_time", Kind: stats.KindHistogram, Histogram: s.times.Read()}) &&
		yield(stats.Stat{Name: "downstream_cx_length_ms", Kind: stats.KindHistogram, Histogram: s.lifetimes.Read()}) &&
		stats.Zeros("", never, yield)
}

// codecs yields what codecs count of connections and of what is no exchange.
func (s *HTTPStats) codecs(yield func(stats.Stat) bool) (more bool) {
	a, b := &s.codec1, &s.codec2
	for _, one := range []struct {
		name  string
		value uint64
	}{
		// A flood is a matter of its own, as in Envoy.
		{"downstream_cx_protocol_error", a.Malformed.Load() + b.Malformed.Load() + b.Broken.Load() - min(b.Floods.Load(), b.Broken.Load())},
		{"downstream_cx_idle_timeout", a.IdleTimeouts.Load() + b.IdleTimeouts.Load()},
		{"downstream_cx_max_duration_reached", a.Aged.Load() + b.Aged.Load()},
		{"downstream_rq_header_timeout", a.HeaderTimeouts.Load() + b.HeaderTimeouts.Load()},
		{"downstream_rq_idle_timeout", a.BodyTimeouts.Load() + b.BodyTimeouts.Load() + uint64(s.idle.Load())},
		{"downstream_rq_timeout", a.RequestTimeouts.Load() + b.RequestTimeouts.Load()},
	} {
		if !yield(stats.Stat{Name: one.name, Value: int64(one.value)}) {
			return false
		}
	}
	return true
}

// endings yields how connections ended.
func (s *HTTPStats) endings(yield func(stats.Stat) bool) (more bool) {
	a, b := &s.codec1, &s.codec2
	ours, theirs := a.Ended.Ours.Load()+b.Ended.Ours.Load(), a.Ended.Theirs.Load()+b.Ended.Theirs.Load()
	oursBusy, theirsBusy := a.Ended.OursBusy.Load()+b.Ended.OursBusy.Load(), a.Ended.TheirsBusy.Load()+b.Ended.TheirsBusy.Load()
	for _, one := range []struct {
		name  string
		value int64
	}{
		{"downstream_cx_destroy", ours + theirs},
		{"downstream_cx_destroy_local", ours},
		{"downstream_cx_destroy_remote", theirs},
		{"downstream_cx_destroy_active_rq", oursBusy + theirsBusy},
		{"downstream_cx_destroy_local_active_rq", oursBusy},
		{"downstream_cx_destroy_remote_active_rq", theirsBusy},
		{"downstream_cx_delayed_close_timeout", int64(a.Lingered.Load() + b.Lingered.Load())},
		{"downstream_cx_drain_close", int64(a.Drained.Load() + b.Drained.Load())},
		{"downstream_rq_response_before_rq_complete", int64(a.Early.Load() + b.Early.Load())},
	} {
		if !yield(stats.Stat{Name: one.name, Value: one.value}) {
			return false
		}
	}
	return true
}

// codecStats are what the HTTP/2 codecs of all connection managers count, below
// http2., as Envoy has it.
type codecStats struct {
	mu  sync.Mutex // guards:
	all map[*HTTPStats]bool
	// kept is what those have counted that are gone.
	kept upstream.Codec
}

func (c *codecStats) add(s *HTTPStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all == nil {
		c.all = map[*HTTPStats]bool{}
	}
	c.all[s] = true
}

// drop forgets one that nobody counts in any more, but for its numbers.
func (c *codecStats) drop(s *HTTPStats) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.all[s] {
		delete(c.all, s)
		fold(&c.kept, s)
	}
}

func fold(sum *upstream.Codec, s *HTTPStats) {
	b := &s.codec2
	sum.Errors += b.Malformed.Load() + b.Broken.Load() - min(b.Floods.Load(), b.Broken.Load())
	sum.TooLarge += b.TooLarge.Load()
	sum.Unanswered += b.KeepaliveTimeouts.Load()
	sum.Refused += b.Refused.Load()
	sum.Add(&b.Frames)
}

// each yields the sums.
func (c *codecStats) each(yield func(stats.Stat) bool) {
	c.mu.Lock()
	sum := c.kept
	for s := range c.all {
		fold(&sum, s)
	}
	c.mu.Unlock()
	sum.Each(func(one stats.Stat) bool {
		one.Name = strings.TrimPrefix(one.Name, "http2.")
		return yield(one)
	})
}

// ListenerHTTPStats is what of HTTPStats is counted for each listener besides.
type ListenerHTTPStats struct{ codes classes }

// Each yields all that it counts.
func (s *ListenerHTTPStats) Each(yield func(stats.Stat) bool) { s.codes.each("", yield) }

// HTTPCounter counts for one connection manager of one listener.
type HTTPCounter struct {
	all  *HTTPStats
	here *ListenerHTTPStats
	// scope and place are what its numbers are below.
	scope, place string
	codecs       *codecStats
}

// Scopes are what the numbers are below: those of all connection managers of the prefix,
// and those of the listener besides.
func (c *HTTPCounter) Scopes() (all, here string) { return c.scope, c.place }

// Busy tells whether there are connections of the prefix.
func (c *HTTPCounter) Busy() bool { return c.all.open.Load() > 0 }

// Drop is called when nobody has the prefix any more. What codecs of all prefixes have
// counted together stays.
func (c *HTTPCounter) Drop() { c.codecs.drop(c.all) }

// CountHTTP returns what counts for a connection manager: below http.<prefix>.,
// and below listener.<listener>.http.<prefix>. What was counted before counts on.
func CountHTTP(r *stats.Registry, prefix, listener string) *HTTPCounter {
	name := "http." + stats.Name(prefix) + "."
	all := stats.Own(r.Scope(name), (*HTTPStats).Each)
	codecs := stats.Own(r.Scope("http2."), (*codecStats).each)
	codecs.add(all)
	place := "listener." + stats.Name(listener) + "." + name
	return &HTTPCounter{
		all: all, here: stats.Own(r.Scope(place), (*ListenerHTTPStats).Each), scope: name, place: place, codecs: codecs,
	}
}

var _ wire.End = (*HTTPCounter)(nil)

// Layer counts exchanges; it stands outermost. Counting takes no memory.
func (c *HTTPCounter) Layer(next wire.Service) wire.Service {
	return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
		c.all.requests.Add(1)
		c.all.active.Add(1)
		if req.Proto == 2 {
			c.all.http2.Add(1)
		} else {
			c.all.http1.Add(1)
		}
		x.OnEnd(c)
		resp, err := next.Serve(x, req)
		if err == nil && resp != nil && resp.Status == http.StatusSwitchingProtocols {
			c.all.upgrades.Add(1)
			c.all.upgraded.Add(1)
			x.OnEnd((*upgrade)(c.all))
		}
		return resp, err
	})
}

// upgrade is the end of a tunnel.
type upgrade HTTPStats

// End implements [wire.End].
func (u *upgrade) End(*wire.Exchange) { u.upgraded.Add(-1) }

// End implements [wire.End].
func (c *HTTPCounter) End(x *wire.Exchange) {
	all := c.all
	all.active.Add(-1)
	all.codes.count(x.Status)
	c.here.codes.count(x.Status)
	all.times.Observe(x.Finish.Sub(x.Start))
	if x.BytesIn > 0 {
		all.in.Add(x.BytesIn)
	}
	if x.BytesOut > 0 {
		all.out.Add(x.BytesOut)
	}
	if x.Cut {
		all.cut.Add(1)
		all.resets.Add(1) // as Envoy counts those of its own, too
		if x.GRPC && x.Response != nil && !x.Response.Header.Has("grpc-status") {
			all.cutGRPC.Add(1)
		}
	}
	switch x.Flag {
	case wire.FlagDuration:
		all.lasted.Add(1)
	case wire.FlagDenied, wire.FlagUnauthenticated, wire.FlagLimited:
		return // it did not come to the router
	case wire.FlagDownstreamProtocol:
		if len(x.Attempts) == 0 {
			return
		}
	case wire.FlagNoRoute:
		all.noRoute.Add(1)
	case wire.FlagNoCluster:
		all.noCluster.Add(1)
	case wire.FlagDownstreamReset:
		all.resets.Add(1)
	case wire.FlagStreamIdle:
		all.idle.Add(1)
	case wire.FlagNone:
		switch {
		case x.Details == directResponse:
			all.direct.Add(1)
		case len(x.Attempts) == 0:
			return // a filter has answered
		}
	default:
	}
	all.routed.Add(1)
}

// Connections counts the connections that h serves.
func (c *HTTPCounter) Connections(h Handler) Handler {
	if server, ok := h.(*Server); ok {
		server.second = &c.all.second
		server.h1.Also, server.h2.Also = &c.all.codec1, &c.all.codec2
	}
	return countedHandler{c.all, h}
}

type countedHandler struct {
	all  *HTTPStats
	next Handler
}

// Serve implements listen.Handler.
func (h countedHandler) Serve(conn net.Conn, peer *wire.Peer, drain *wire.Drain) {
	h.all.connections.Add(1)
	h.all.open.Add(1)
	begin := time.Now()
	defer func() {
		h.all.open.Add(-1)
		h.all.lifetimes.Observe(time.Since(begin))
	}()
	if peer.TLS {
		h.all.secured.Add(1)
		h.all.openSecured.Add(1)
		defer h.all.openSecured.Add(-1)
	}
	h.next.Serve(conn, peer, drain)
}
