package trace_test

import (
	"context"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/trace"
	"github.com/serai-net/serai/connect/wire"
)

// A collector that takes its time does not hold up the end, and what waits for it
// is bounded, whatever clients write.
func TestSlowCollector(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ts := trace.New(nil, "web-1", "web", func(string) wire.Service {
			return wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
				<-x.Context().Done()
				return nil, wire.Aborted(context.Cause(x.Context()))
			})
		}, slog.New(slog.DiscardHandler))
		config := always()
		config.Provider = &mesh.TraceProvider{Kind: mesh.Zipkin, Cluster: "collector", Path: "/"}
		service := wire.Stack(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return &wire.Response{Status: 200}, nil
		}), ts.Compile(&config, false).Layer())
		request := func() {
			x := &wire.Exchange{}
			x.Reset(nil, &wire.Peer{}, time.Now())
			req := &wire.Request{Method: "GET", Header: *header(uuid, "user-agent: "+strings.Repeat("x", 60<<10))}
			x.Request = req
			if _, err := service.Serve(x, req); err != nil {
				t.Error(err)
			}
			x.Done(time.Now())
		}
		request()
		time.Sleep(1500 * time.Millisecond) //nolint:forbidigo // of a bubble: it is being sent
		for range 200 {
			request()
		}
		if got := ts.Stats(mesh.Zipkin); got.Dropped == 0 {
			t.Errorf("12 MB wait: %+v", got)
		}
		began := time.Now()
		ts.Close()
		if took := time.Since(began); took > time.Second {
			t.Errorf("it took %s", took)
		}
		config.Provider = &mesh.TraceProvider{Kind: mesh.Zipkin, Cluster: "late", Path: "/"}
		if ts.Compile(&config, false) != nil {
			t.Error("traced after the end")
		}
	})
}

// What is under way when a configuration names another collector is still told to the
// one where it began, and counted; then that one ends, and what begins later is dropped.
func TestCollectorIsLeft(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ts := trace.New(nil, "web-1", "web", func(string) wire.Service {
			return wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return &wire.Response{Status: 202}, nil })
		}, slog.New(slog.DiscardHandler))
		config := always()
		config.Provider = &mesh.TraceProvider{Kind: mesh.Zipkin, Cluster: "collector", Path: "/"}
		service := wire.Stack(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) {
			return &wire.Response{Status: 200}, nil
		}), ts.Compile(&config, false).Layer())
		begin := func() *wire.Exchange {
			x := &wire.Exchange{}
			x.Reset(nil, &wire.Peer{}, time.Now())
			req := &wire.Request{Method: "GET", Header: *header(strings.Replace(uuid, "-4c5e", "-ac5e", 1))}
			x.Request = req
			if _, err := service.Serve(x, req); err != nil {
				t.Fatal(err)
			}
			return x
		}
		x := begin()
		if !x.TraceForced {
			t.Error("nobody has forced it")
		}
		ts.Begin()
		ts.Sweep()
		time.Sleep(time.Minute) //nolint:forbidigo // of a bubble
		x.Done(time.Now())
		time.Sleep(time.Minute) //nolint:forbidigo // as above
		if got := ts.Stats(mesh.Zipkin); got.Sent != 1 {
			t.Errorf("%+v", got)
		}
		begin().Done(time.Now()) // on a chain that still drains
		if got := ts.Stats(mesh.Zipkin); got.Sent != 1 || got.Dropped != 1 {
			t.Errorf("%+v", got)
		}
		ts.Close() // which waits for none
	})
}

// Texts of an exchange that are no UTF-8 cost no batch.
func TestSpansAreUTF8(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ts := trace.New(nil, "web-1", "web", func(string) wire.Service {
			return wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return &wire.Response{Status: 202}, nil })
		}, slog.New(slog.DiscardHandler))
		config := always()
		config.Spawn = true
		config.Provider = &mesh.TraceProvider{Kind: mesh.OpenTelemetry, Cluster: "collector", Path: "/"}
		service := wire.Stack(wire.ServiceFunc(func(x *wire.Exchange, _ *wire.Request) (*wire.Response, error) {
			x.Cluster, x.Observed, x.Authority = "c\xff", "o\xff", "a\xff"
			x.NewAttempt("c\xff", time.Now()).Endpoint = "e\xff"
			return &wire.Response{Status: 200}, nil
		}), ts.Compile(&config, true).Layer())
		x := &wire.Exchange{}
		x.Reset(nil, &wire.Peer{}, time.Now())
		req := &wire.Request{Method: "GET", Header: *header(uuid)}
		x.Request = req
		if _, err := service.Serve(x, req); err != nil {
			t.Fatal(err)
		}
		x.Done(time.Now())
		ts.Close()
		if got := ts.Stats(mesh.OpenTelemetry); got.Sent != 2 || got.Failed != 0 {
			t.Errorf("%+v", got)
		}
	})
}
