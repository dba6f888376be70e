package telemetry_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/wire"
)

func TestObserveAllocatesNothing(t *testing.T) {
	_, o := observer(nil)
	service := o.HTTP(*edge())(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return nil, nil }))
	x := exchange()
	y := wire.Peer{Addr: x.Peer.Addr, ID: x.Peer.ID}
	cluster, attempt := x.Cluster, x.Attempts[0]
	n := testing.AllocsPerRun(1000, func() {
		x.Reset(nil, &y, attempt.Begin)
		x.Cluster, x.API, x.Route, x.Consumer, x.Status = cluster, "orders", "list", "acme", 200
		*x.NewAttempt(cluster, attempt.Begin) = attempt
		service.Serve(x, nil) //nolint:errcheck // it serves nothing
		x.Done(attempt.Head)
	})
	if n != 0 {
		t.Errorf("%v allocations an exchange", n)
	}
}

// BenchmarkObserve is what counting costs an exchange.
func BenchmarkObserve(b *testing.B) {
	_, o := observer(nil)
	x := with(b, "/ns/default/dc/dc1/svc/edge", nil)
	for _, p := range []telemetry.Place{*edge(), {Direction: telemetry.Inbound, Service: "web"}} {
		service := o.HTTP(p)(wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return nil, nil }))
		b.Run(string(p.Direction), func(b *testing.B) {
			attempt := x.Attempts[0]
			peer := x.Peer
			b.ReportAllocs()
			for b.Loop() {
				x.Reset(nil, peer, attempt.Begin)
				x.Cluster, x.API, x.Route, x.Consumer, x.Status = attempt.Cluster, "orders", "list", "acme", 200
				x.BytesIn, x.BytesOut = 3, 512
				*x.NewAttempt(attempt.Cluster, attempt.Begin) = attempt
				service.Serve(x, nil) //nolint:errcheck // it serves nothing
				x.Done(attempt.Head)
			}
		})
	}
	b.Run("reset alone", func(b *testing.B) {
		attempt := x.Attempts[0]
		peer := x.Peer
		for b.Loop() {
			x.Reset(nil, peer, attempt.Begin)
			x.Cluster, x.API, x.Route, x.Consumer, x.Status = attempt.Cluster, "orders", "list", "acme", 200
			x.BytesIn, x.BytesOut = 3, 512
			*x.NewAttempt(attempt.Cluster, attempt.Begin) = attempt
			x.Done(attempt.Head)
		}
	})
}

// BenchmarkScrape shows as many series as there may be.
func BenchmarkScrape(b *testing.B) {
	m, o := observer(nil)
	for i := range 10000 {
		pass(b, o, *edge(), with(b, "", func(x *wire.Exchange) {
			x.Route, x.Consumer = fmt.Sprint(i%1000), fmt.Sprint(i/1000)
		}))
	}
	handler, err := telemetry.Handler(m, "v1", discard())
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		w := httptest.NewRecorder()
		handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
		b.ReportMetric(float64(w.Body.Len())/1e6, "MB")
	}
}
