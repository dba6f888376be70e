package telemetry_test

import (
	"bytes"
	"errors"
	"io"
	"iter"
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/connect/listen"
	"github.com/serai-net/serai/connect/upstream"
	"github.com/serai-net/serai/connect/wire/http1"
	"github.com/serai-net/serai/connect/wire/http2"
)

// scrape reads m as Prometheus does, and parses it.
func scrape(t *testing.T, m *telemetry.Metrics) map[string]*dto.MetricFamily {
	t.Helper()
	handler, err := telemetry.Handler(m, "v1", discard())
	if err != nil {
		t.Fatal(err)
	}
	w := httptest.NewRecorder()
	handler.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/metrics", http.NoBody))
	if w.Code != http.StatusOK {
		t.Fatalf("status %d: %s", w.Code, w.Body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	families, err := parser.TextToMetricFamilies(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	return families
}

// values are those of a family by its labels' values, in the order of names; of
// a histogram, how many were observed.
func values(t *testing.T, m *telemetry.Metrics, name string, labels ...string) map[string]float64 {
	t.Helper()
	got := map[string]float64{}
	family := scrape(t, m)[name]
	for _, one := range family.GetMetric() {
		by := map[string]string{}
		for _, l := range one.GetLabel() {
			by[l.GetName()] = l.GetValue()
		}
		key := ""
		for i, l := range labels {
			if i > 0 {
				key += " "
			}
			key += by[l]
		}
		switch family.GetType() {
		case dto.MetricType_COUNTER:
			got[key] += one.GetCounter().GetValue()
		case dto.MetricType_GAUGE:
			got[key] += one.GetGauge().GetValue()
		default:
			got[key] += float64(one.GetHistogram().GetSampleCount())
		}
	}
	return got
}

// All that is shown has the names that Prometheus wants, in both of its formats.
func TestExposition(t *testing.T) {
	t.Parallel()
	m, o := observer(nil)
	pass(t, o, *edge(), exchange())
	o.TCP(*edge())(exchange())
	var h1 http1.Stats
	var h2 http2.Stats
	h1.Rejected.Add(1)
	h2.Rejected.Add(1)
	codec := func() (*http1.Stats, *http2.Stats) { return &h1, &h2 }
	status := maps.All(map[string]int64{ // those of an xds.Status
		"connected": 1, "snapshot_version": 3, "updates": 4, "restored": 1, "saves": 2, "unsaved": 1, "save_failures": 1, "refusals": 0, "unread": 5,
		"rejected": 0, "failed": 0, "held": 0, "reconnects": 0, "secrets_changed": 0, "secrets_rejected": 0, "secrets_broken": 0, "secrets_waiting": 0,
	})
	for _, source := range []iter.Seq[telemetry.Sample]{
		telemetry.Ready(func() error { return errors.New("not yet") }),
		telemetry.Listeners([]listen.Stats{{Name: "a", Bound: true, Accepted: 3}, {Name: "b"}}),
		telemetry.Codecs([]telemetry.Codec{{Listener: "a", Stats: codec}, {Listener: "a", Stats: codec}}),
		telemetry.Clusters([]upstream.Stats{{Name: "c", Hosts: 2, Repeats: 1}}),
		telemetry.ControlPlane(status), o.AccessLog().Lines(),
	} {
		m.Add(source)
	}
	for key, want := range map[[2]string]float64{
		{"serai_ready", ""}: 0,
		{"serai_listener_downstream_cx_total", "listener"}:      3,
		{"serai_listener_http_rejected_total", "listener"}:      4,
		{"serai_cluster_membership", "cluster"}:                 2,
		{"serai_cluster_upstream_rq_repeated_total", "cluster"}: 1,
		{"serai_xds_connected", ""}:                             1,
		{"serai_xds_snapshot_version", ""}:                      3,
		{"serai_xds_updates_total", ""}:                         4,
		{"serai_xds_restored", ""}:                              1,
		{"serai_xds_unsaved", ""}:                               1,
		{"serai_xds_unread", ""}:                                5,
		{"serai_xds_save_failures_total", ""}:                   1,
		{"serai_access_log_written_total", ""}:                  0,
	} {
		sum := 0.0
		found := values(t, m, key[0], key[1])
		for _, value := range found {
			sum += value
		}
		if len(found) == 0 || sum != want {
			t.Errorf("%s is %v, want %v", key[0], found, want)
		}
	}
	handler, err := telemetry.Handler(m, "v1", discard())
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(handler)
	defer server.Close()
	for accept, want := range map[string]string{
		"": "text/plain; version=0.0.4", "application/openmetrics-text; version=1.0.0": "application/openmetrics-text; version=1.0.0",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, server.URL, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Accept", accept)
		resp, err := server.Client().Do(req) // it asks for gzip, and takes it off
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		if got := resp.Header.Get("Content-Type"); !strings.HasPrefix(got, want) || !resp.Uncompressed {
			t.Errorf("accept %q: content type %q, compressed %v", accept, got, resp.Uncompressed)
		}
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if accept != "" {
			if !strings.HasSuffix(string(text), "# EOF\n") {
				t.Error("it breaks off")
			}
			continue
		}
		problems, err := promlint.New(bytes.NewReader(text)).Lint()
		if err != nil {
			t.Error(err)
		}
		for _, p := range problems {
			if strings.HasPrefix(p.Metric, "serai_") {
				t.Errorf("%s: %s", p.Metric, p.Text)
			}
		}
	}
}
