package stack_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/stats"
	"github.com/serai-net/serai/connect/wire"
)

// ends is a service that answers as told: by itself if it says why.
type ends struct {
	status  int
	flag    wire.Flag
	details string
}

func (e *ends) Serve(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
	x.Status, x.Flag, x.Details = e.status, e.flag, e.details
	if e.flag == wire.FlagNone && e.details == "" {
		x.NewAttempt("a", time.Now())
	}
	return nil, nil //nolint:nilnil // nobody looks
}

func TestHTTPCounter(t *testing.T) {
	r := &stats.Registry{}
	counter := stack.CountHTTP(r, "public_listener", "127.0.0.1:80")
	again := stack.CountHTTP(r, "public_listener", "127.0.0.1:81") // counts on
	e := &ends{}
	peer := &wire.Peer{}
	x := &wire.Exchange{}
	run := func(c *stack.HTTPCounter, proto int) {
		x.Reset(nil, peer, time.Unix(0, 0))
		c.Layer(e).Serve(x, &wire.Request{Proto: proto}) //nolint:errcheck // nobody looks
		x.BytesIn, x.BytesOut = 2, 3
		x.Done(time.Unix(0, int64(7*time.Millisecond)))
	}
	for _, one := range []ends{
		{200, wire.FlagNone, ""},
		{404, wire.FlagNoRoute, ""},
		{403, wire.FlagDenied, ""},
		{503, wire.FlagNoCluster, ""},
		{301, wire.FlagNone, "direct_response"},
		{200, wire.FlagNone, "health_check_ok"},
		{400, wire.FlagDownstreamProtocol, "path_normalization_failed"}, // which are not the router's
	} {
		*e = one
		run(counter, 1)
	}
	*e = ends{200, wire.FlagNone, ""}
	run(again, 2)
	got := map[string]int64{}
	for s := range r.All() {
		if s.Value != 0 {
			got[s.Name] = s.Value
		}
		if s.Name == "http.public_listener.downstream_rq_time" {
			got[s.Name] = s.Histogram.Sum
		}
	}
	const h, l = "http.public_listener.", "listener.127.0.0.1_80.http.public_listener."
	want := map[string]int64{
		h + "downstream_rq_total": 8, h + "downstream_rq_http1_total": 7, h + "downstream_rq_http2_total": 1, h + "downstream_rq_completed": 8,
		h + "downstream_rq_2xx": 3, h + "downstream_rq_3xx": 1, h + "downstream_rq_4xx": 3, h + "downstream_rq_5xx": 1,
		h + "rq_total": 5, h + "rq_direct_response": 1, h + "no_route": 1, h + "no_cluster": 1,
		h + "downstream_cx_rx_bytes_total": 16, h + "downstream_cx_tx_bytes_total": 24, h + "downstream_rq_time": 56,
		l + "downstream_rq_2xx": 2, l + "downstream_rq_3xx": 1, l + "downstream_rq_4xx": 3, l + "downstream_rq_5xx": 1, l + "downstream_rq_completed": 7,
		"listener.127.0.0.1_81.http.public_listener.downstream_rq_2xx": 1, "listener.127.0.0.1_81.http.public_listener.downstream_rq_completed": 1,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	layer, req := counter.Layer(e), &wire.Request{Proto: 1}
	if n := testing.AllocsPerRun(100, func() {
		x.Reset(nil, peer, time.Unix(0, 0))
		layer.Serve(x, req) //nolint:errcheck // nobody looks
		x.Done(time.Unix(0, 1))
	}); n != 0 {
		t.Errorf("counting allocates %v times", n)
	}
}
