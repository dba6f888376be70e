package telemetry_test

import (
	"fmt"
	"math"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/wire"
)

const trust = "11111111-2222-3333-4444-555555555555.consul"

func all() []string {
	return []string{"direction", "source", "destination", "route", "consumer", "code", "flag"}
}

// pass lets x pass an observer.
func pass(tb testing.TB, o *telemetry.Observer, p telemetry.Place, x *wire.Exchange) {
	tb.Helper()
	end := o.HTTP(p)(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return &wire.Response{}, nil }))
	if _, err := end.Serve(x, &wire.Request{}); err != nil {
		tb.Fatal(err)
	}
	x.Done(x.Finish)
}

func observer(c *telemetry.MetricsConfig) (*telemetry.Metrics, *telemetry.Observer) {
	m := telemetry.NewMetrics(c)
	return m, telemetry.NewObserver(m, telemetry.NewAccessLog(nil, discard()))
}

// with is an exchange from a peer, changed.
func with(tb testing.TB, peer string, change func(x *wire.Exchange)) *wire.Exchange {
	tb.Helper()
	x := exchange()
	p := wire.Peer{Addr: x.Peer.Addr, ID: x.Peer.ID}
	if peer != "" {
		id, err := spiffe.Parse("spiffe://" + trust + peer)
		if err != nil {
			tb.Fatal(err)
		}
		p.ID = id
	}
	x.Peer = &p
	if change != nil {
		change(x)
	}
	return x
}

func TestMetricsLabels(t *testing.T) {
	t.Parallel()
	inbound := telemetry.Place{Direction: telemetry.Inbound, Service: "web"}
	outbound := telemetry.Place{Direction: telemetry.Outbound, Service: "web"}
	m, o := observer(nil)
	sidecar := func(cluster string, status int, flag wire.Flag) func(*wire.Exchange) {
		return func(x *wire.Exchange) {
			x.API, x.Route, x.Consumer = "", "r", ""
			x.Cluster, x.Status, x.Flag = cluster, status, flag
		}
	}
	for _, one := range []struct {
		place  telemetry.Place
		peer   string
		change func(x *wire.Exchange)
	}{
		{*edge(), "", nil},
		{*edge(), "", nil},
		{*edge(), "", func(x *wire.Exchange) {
			x.Reset(nil, x.Peer, x.Start)
			x.Status, x.Flag = 404, wire.FlagNoRoute
		}},
		{*edge(), "", func(x *wire.Exchange) { x.Cluster = "catalog/legacy/tag=a" }},
		{*edge(), "", func(x *wire.Exchange) { x.Cluster = "static/orders/list" }},
		{inbound, "/ns/default/dc/dc1/svc/edge", sidecar("local_app", 200, wire.FlagNone)},
		{inbound, "/ns/default/dc/dc2/svc/edge", sidecar("local_app", 200, wire.FlagNone)},
		{inbound, "/ns/default/dc/dc1/svc/api", sidecar("", 403, wire.FlagDenied)},
		{inbound, "/gateway/mesh/dc/dc1", sidecar("local_app", 200, wire.FlagNone)},
		{inbound, "", sidecar("local_app", 0, wire.FlagDownstreamReset)},
		{outbound, "", sidecar("v1.api.default.dc1.internal."+trust, 200, wire.FlagNone)},
		{outbound, "", sidecar("v2.api.default.dc1.internal."+trust, 200, wire.FlagNone)},
		{outbound, "", sidecar("failover-target~1~a236e964~api.default.dc2.internal."+trust, 503, wire.FlagUpstreamConnect)},
		{outbound, "", sidecar("api.default.ap1.dc1.internal-v1."+trust, 200, wire.FlagNone)},
		{outbound, "", sidecar("api.default.cluster-02.external."+trust, 200, wire.FlagNone)},
		{outbound, "", sidecar(".internal.", 200, wire.FlagNone)},
		{outbound, "", sidecar("x.internal.y", 200, wire.FlagNone)},
	} {
		pass(t, o, one.place, with(t, one.peer, one.change))
	}
	want := map[string]float64{
		"edge edge web orders/list acme 200 -":                2,
		"edge edge - - - 404 NR":                              1,
		"edge edge legacy orders/list acme 200 -":             1,
		"edge edge static/orders/list orders/list acme 200 -": 1,
		"inbound edge web r - 200 -":                          2,
		"inbound api web r - 403 UAEX":                        1,
		"inbound mesh-gateway web r - 200 -":                  1,
		"inbound - web r - 0 DC":                              1,
		"outbound web api r - 200 -":                          4,
		"outbound web api r - 503 UF":                         1,
		"outbound web .internal. r - 200 -":                   1,
		"outbound web x.internal.y r - 200 -":                 1,
	}
	if diff := cmp.Diff(want, values(t, m, "serai_requests_total", all()...)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMetricsNumbers(t *testing.T) {
	t.Parallel()
	m, o := observer(nil)
	retried := func(x *wire.Exchange) {
		x.NewAttempt(x.Cluster, x.Start).Head = x.Start.Add(20 * time.Second)
		x.HeadSent = x.Start.Add(30 * time.Second)
		x.Finish = x.Start.Add(2 * time.Minute)
		x.Status = 504
	}
	pass(t, o, *edge(), exchange())
	pass(t, o, *edge(), with(t, "", retried))
	path := []string{"direction", "source", "destination", "route", "consumer"}
	key, whole := "edge edge web orders/list", "edge edge web orders/list acme"
	for _, row := range []struct {
		name, key string
		labels    []string
		want      float64
	}{
		{"serai_request_bytes_total", whole, path, 6},
		{"serai_response_bytes_total", whole, path, 1024},
		{"serai_request_retries_total", key, path[:4], 1},
		{"serai_request_proxy_seconds", key, path[:4], 2},
		{"serai_request_upstream_seconds", key, path[:4], 2},
		{"serai_request_duration_seconds", key, path[:4], 2},
		{"serai_metrics_series", "", nil, 2},
		{"serai_metrics_collapsed_total", "", nil, 0},
		{"serai_build_info", "v1", []string{"version"}, 1},
	} {
		if diff := cmp.Diff(map[string]float64{row.key: row.want}, values(t, m, row.name, row.labels...)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", row.name, diff)
		}
	}
	// 12 ms and 2 minutes in all; 1.5 ms and 0.01 s less than 30 s in the proxy
	h := scrape(t, m)["serai_request_duration_seconds"].GetMetric()[0].GetHistogram()
	if got := h.GetSampleSum(); math.Abs(got-120.012) > 1e-9 {
		t.Errorf("sum %v", got)
	}
	for _, b := range h.GetBucket() {
		want := uint64(0)
		if b.GetUpperBound() >= 0.012 {
			want = 1
		}
		if math.IsInf(b.GetUpperBound(), 1) {
			want = 2
		}
		if b.GetCumulativeCount() != want {
			t.Errorf("bucket %v: %d, want %d", b.GetUpperBound(), b.GetCumulativeCount(), want)
		}
	}
	for _, name := range []string{"go_goroutines", "process_open_fds"} {
		if scrape(t, m)[name] == nil {
			t.Errorf("no %s", name)
		}
	}
}

// Too many combinations are counted together, and nothing is lost.
func TestMetricsBounds(t *testing.T) {
	t.Parallel()
	m, o := observer(&telemetry.MetricsConfig{MaxSeries: 100})
	const many = 1000
	for i := range many {
		pass(t, o, *edge(), with(t, "", func(x *wire.Exchange) { x.Consumer = fmt.Sprint("c", i) }))
		pass(t, o, *edge(), with(t, "", func(x *wire.Exchange) { x.Route = fmt.Sprint("r", i) }))
		pass(t, o, *edge(), with(t, "", func(x *wire.Exchange) { x.Cluster = fmt.Sprint("cluster", i) }))
		pass(t, o, *edge(), with(t, "", func(x *wire.Exchange) { x.Status = 100 + i%900 }))
		pass(t, o, telemetry.Place{Direction: telemetry.Inbound, Service: "web"},
			with(t, fmt.Sprint("/ns/default/dc/dc1/svc/s", i), nil))
	}
	got := values(t, m, "serai_requests_total", all()...)
	sum := 0.0
	for _, value := range got {
		sum += value
	}
	if sum != 5*many {
		t.Errorf("%v requests counted, of %d", sum, 5*many)
	}
	if len(got) > 300 {
		t.Errorf("%d series", len(got))
	}
	if n := len(values(t, m, "serai_request_duration_seconds", all()[:4]...)); n > 20 {
		t.Errorf("%d histograms", n)
	}
	collapsed := values(t, m, "serai_metrics_collapsed_total")[""]
	if collapsed < 3*many || collapsed > 5*many {
		t.Errorf("%v collapsed", collapsed)
	}
	// what was there before goes on to be told apart
	first := values(t, m, "serai_requests_total", "consumer")["c0"]
	pass(t, o, *edge(), with(t, "", func(x *wire.Exchange) { x.Consumer = "c0" }))
	if now := values(t, m, "serai_requests_total", "consumer")["c0"]; now != first+1 {
		t.Errorf("c0 was %v, is %v", first, now)
	}
}

// Labels that are no UTF-8, or alike when they are shown, are no trouble.
func TestMetricsOddLabels(t *testing.T) {
	t.Parallel()
	m, o := observer(nil)
	inbound := telemetry.Place{Direction: telemetry.Inbound, Service: "web"}
	for _, peer := range []string{"%ff", "%fe", "%EF%BF%BD", "-"} {
		pass(t, o, inbound, with(t, "/ns/default/dc/dc1/svc/"+peer, func(x *wire.Exchange) { x.Consumer = "\xff" }))
		pass(t, o, inbound, with(t, "/ns/default/dc/dc1/svc/"+peer, func(x *wire.Exchange) { x.Consumer = "\xfe" }))
		pass(t, o, inbound, with(t, "/ns/default/dc/dc1/svc/"+peer, func(x *wire.Exchange) { x.Consumer = "" }))
		pass(t, o, inbound, with(t, "/ns/default/dc/dc1/svc/"+peer, func(x *wire.Exchange) { x.Consumer = "-" }))
	}
	want := map[string]float64{"\ufffd \ufffd": 6, "\ufffd -": 6, "- \ufffd": 2, "- -": 2}
	if diff := cmp.Diff(want, values(t, m, "serai_requests_total", "source", "consumer")); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

func TestMetricsConnections(t *testing.T) {
	t.Parallel()
	m, o := observer(nil)
	begin := o.TCP(telemetry.Place{Direction: telemetry.Outbound, Service: "web"})
	open := func() *wire.Exchange {
		x := with(t, "", func(x *wire.Exchange) {
			x.Reset(nil, x.Peer, x.Start)
			x.Cluster = "db.default.dc1.internal." + trust
		})
		in, out := begin(x)
		in.Add(10)
		out.Add(20)
		return x
	}
	first, second := open(), open()
	path := all()[:4]
	check := func(name string, labels []string, want map[string]float64) {
		t.Helper()
		if diff := cmp.Diff(want, values(t, m, name, labels...)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", name, diff)
		}
	}
	check("serai_connections_active", path, map[string]float64{"outbound web db -": 2})
	check("serai_connection_received_bytes_total", path, map[string]float64{"outbound web db -": 20})
	check("serai_connection_sent_bytes_total", path, map[string]float64{"outbound web db -": 40})
	check("serai_connections_total", all(), map[string]float64{})
	first.Done(first.Start.Add(time.Hour))
	second.Flag = wire.FlagDownstreamReset
	second.Done(second.Start.Add(time.Second))
	check("serai_connections_active", path, map[string]float64{"outbound web db -": 0})
	check("serai_connections_total", all(), map[string]float64{"outbound web db - - - -": 1, "outbound web db - - - DC": 1})
	check("serai_connection_duration_seconds", path, map[string]float64{"outbound web db -": 2})
}

// Scrapes and exchanges do not get in each other's way, and all are counted.
func TestMetricsConcurrently(t *testing.T) {
	t.Parallel()
	m, o := observer(&telemetry.MetricsConfig{MaxSeries: 100})
	const workers, each = 4, 2000
	var working sync.WaitGroup
	for w := range workers {
		working.Go(func() {
			for i := range each {
				pass(t, o, *edge(), with(t, "", func(x *wire.Exchange) {
					x.Consumer = fmt.Sprint((i + w) % 150)
					x.Route = fmt.Sprint(i % 7)
				}))
			}
		})
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		working.Wait()
	}()
	for last := 0.0; ; {
		sum := 0.0
		for _, value := range values(t, m, "serai_requests_total", "consumer") {
			sum += value
		}
		if sum < last {
			t.Errorf("a counter has gone from %v to %v", last, sum)
		}
		last = sum
		select {
		case <-done:
			if last == workers*each {
				return
			}
			if last > workers*each {
				t.Fatalf("%v", last)
			}
		default:
		}
	}
}

func TestMetricsConfig(t *testing.T) {
	t.Parallel()
	for n, want := range map[int]string{
		0: "", 100: "", 99: "a.hcl:1: metrics: max_series is 99; it can be 100 to 1000000",
		-1: "a.hcl:1: metrics: max_series is -1; it can be 100 to 1000000",
	} {
		got := ""
		if err := (&telemetry.MetricsConfig{MaxSeries: n, Pos: "a.hcl:1"}).Validate(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%d: %q, want %q", n, got, want)
		}
	}
}
