package harness_test

import (
	"context"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

// TestLoad counts what a server did, and loses nothing when it is stopped.
func TestLoad(t *testing.T) {
	t.Parallel()
	var served atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch n := served.Add(1); {
		case r.Host != "api.example" || r.Header.Get("X-Key") != "k":
			w.WriteHeader(http.StatusBadRequest)
		case n == 3:
			w.WriteHeader(http.StatusServiceUnavailable)
			_, _ = w.Write([]byte("no healthy upstream"))
		case n == 5:
			panic(http.ErrAbortHandler)
		}
	}))
	defer server.Close()
	load := harness.StartLoad(t.Context(), harness.LoadConfig{
		URL: server.URL, Workers: 2, Pause: time.Millisecond,
		Header: http.Header{"Host": {"api.example"}, "X-Key": {"k"}},
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err := harness.Until(ctx, "some load", func(context.Context) error {
		if served.Load() < 20 {
			return context.DeadlineExceeded
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	report := load.Stop()
	// The client may ask again by itself what broke off on a reused connection.
	if got := int(served.Load()); report.Requests > got || report.Requests < got-1 {
		t.Errorf("%d requests counted, %d served", report.Requests, got)
	}
	if report.Status[http.StatusServiceUnavailable] != 1 || report.Status[http.StatusBadRequest] != 0 {
		t.Errorf("status: %v", report.Status)
	}
	if report.OK()+report.Failed() != report.Requests || report.Failed() < 1 || report.Failed() > 2 {
		t.Errorf("%d good and %d failed of %d", report.OK(), report.Failed(), report.Requests)
	}
	if text := report.String(); !strings.Contains(text, "no healthy upstream") {
		t.Errorf("report: %s", text)
	}
}
