package telemetry_test

import (
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/wire"
)

// passTapped lets an exchange of these properties pass an observer.
func passTapped(t *testing.T, o *telemetry.Observer, change func(x *wire.Exchange)) {
	t.Helper()
	service := wire.Stack(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
		return wire.Text(http.StatusOK, ""), nil
	}), o.HTTP(telemetry.Place{Direction: telemetry.Outbound, Service: "web", Listener: "api:127.0.0.1:1"}))
	x, now := &wire.Exchange{}, time.Now()
	x.Reset(nil, &wire.Peer{Addr: netip.MustParseAddrPort("10.0.0.9:1")}, now)
	x.Method, x.Path, x.Status, x.Cluster = "GET", "/a/b?secret", 200, "api.default.dc1"
	if _, err := service.Serve(x, &wire.Request{}); err != nil {
		t.Fatal(err)
	}
	change(x)
	x.Done(now.Add(5 * time.Millisecond))
}

func tappable() *telemetry.Observer {
	log := slog.New(slog.DiscardHandler)
	return telemetry.NewObserver(telemetry.NewMetrics(nil), telemetry.NewAccessLog(io.Discard, log))
}

func TestTapFilters(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		filter telemetry.TapFilter
		want   bool
	}{
		"all":              {telemetry.TapFilter{}, true},
		"listener":         {telemetry.TapFilter{Listener: "api"}, true},
		"whole listener":   {telemetry.TapFilter{Listener: "api:127.0.0.1:1"}, true},
		"other listener":   {telemetry.TapFilter{Listener: "ap"}, false},
		"cluster":          {telemetry.TapFilter{Cluster: "api"}, true},
		"other cluster":    {telemetry.TapFilter{Cluster: "api2"}, false},
		"method":           {telemetry.TapFilter{Method: "GET"}, true},
		"other method":     {telemetry.TapFilter{Method: "POST"}, false},
		"path":             {telemetry.TapFilter{PathPrefix: "/a/"}, true},
		"other path":       {telemetry.TapFilter{PathPrefix: "/b"}, false},
		"status":           {telemetry.TapFilter{Status: "200"}, true},
		"class":            {telemetry.TapFilter{Status: "2xx"}, true},
		"other class":      {telemetry.TapFilter{Status: "5xx"}, false},
		"nonsense":         {telemetry.TapFilter{Status: "20"}, false},
		"address":          {telemetry.TapFilter{Peer: "10.0.0.9"}, true},
		"consumer":         {telemetry.TapFilter{Peer: "acme"}, true},
		"other peer":       {telemetry.TapFilter{Peer: "web"}, false},
		"long enough":      {telemetry.TapFilter{MinDuration: 5 * time.Millisecond}, true},
		"not long enough":  {telemetry.TapFilter{MinDuration: 6 * time.Millisecond}, false},
		"nothing sampled":  {telemetry.TapFilter{Sample: 1e-12}, false},
		"everything there": {telemetry.TapFilter{Sample: 100}, true},
	} {
		o := tappable()
		tap := o.Tap(row.filter)
		passTapped(t, o, func(x *wire.Exchange) { x.Consumer = "acme" })
		if got := len(tap.Seen()) == 1; got != row.want {
			t.Errorf("%s: seen is %t", name, got)
		}
	}
}

func TestTapTells(t *testing.T) {
	t.Parallel()
	o := tappable()
	tap := o.Tap(telemetry.TapFilter{})
	passTapped(t, o, func(x *wire.Exchange) {
		x.NewAttempt("api.default.dc1", time.Now()).Endpoint = "10.0.0.1:80"
		x.Flag, x.Err, x.Status, x.BytesOut = wire.FlagUpstreamConnect, io.EOF, 503, 9
	})
	got := <-tap.Seen()
	got.Time = time.Time{}
	want := telemetry.Tapped{
		Listener: "api:127.0.0.1:1", Direction: telemetry.Outbound, Address: "10.0.0.9", Method: "GET", Path: "/a/b", Status: 503,
		Flag: wire.FlagUpstreamConnect.String(), Error: "EOF", Cluster: "api.default.dc1", Endpoint: "10.0.0.1:80", Tries: 1, Millis: 5, BytesOut: 9,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTapsAreBounded(t *testing.T) {
	t.Parallel()
	o := tappable()
	var all []*telemetry.Tap
	for {
		tap := o.Tap(telemetry.TapFilter{})
		if tap == nil {
			break
		}
		all = append(all, tap)
	}
	if len(all) != 8 {
		t.Errorf("%d taps", len(all))
	}
	for range 1000 { // nobody reads
		passTapped(t, o, func(*wire.Exchange) {})
	}
	if got := all[0].Dropped(); got != 1000-512 {
		t.Errorf("%d dropped", got)
	}
	for _, tap := range all {
		tap.Close()
		tap.Close()
	}
	if o.Tap(telemetry.TapFilter{}) == nil {
		t.Error("no room though all have closed")
	}
	if (*telemetry.Observer)(nil).Tap(telemetry.TapFilter{}) != nil {
		t.Error("nobody observes, and yet")
	}
}

// Without a tap, or behind one again, an exchange allocates nothing for it.
func TestTapCostsNothing(t *testing.T) { //nolint:paralleltest // it counts allocations
	o := tappable()
	service := o.HTTP(telemetry.Place{Direction: telemetry.Outbound, Service: "web", Listener: "l"})(wire.ServiceFunc(
		func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return nil, nil })) //nolint:nilnil // nobody looks
	x, peer, now, req := &wire.Exchange{}, &wire.Peer{}, time.Now(), &wire.Request{}
	run := func() {
		x.Reset(nil, peer, now)
		service.Serve(x, req) //nolint:errcheck // there is none
		x.Done(now)
	}
	run()
	o.Tap(telemetry.TapFilter{}).Close()
	if per := testing.AllocsPerRun(100, run); per > 0 {
		t.Errorf("%.1f allocations", per)
	}
}
