package integration_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/serai-net/serai/integration/harness"
)

// meter is what a process of ours tells: metrics at its admin interface, and an access log.
type meter struct {
	process *harness.Process
	name    string
	admin   string // host:port
	log     string // file with JSON lines
}

// callers are the labels, and the access log's fields, by which requests and connections are compared.
func callers() []string {
	return []string{"direction", "source", "destination", "consumer", "code", "flag"}
}

// meteredSidecar starts an instance with a sidecar that writes an access log.
func (w *world) meteredSidecar(t *testing.T, id, service string, upstreams ...string) (*instance, *meter) {
	t.Helper()
	i := w.register(t, id, service, upstreams...)
	m := &meter{name: id, admin: local(i.admin), log: filepath.Join(w.env.Dir(), id+".log")}
	var err error
	i.sidecar, err = w.env.Serai([]string{
		"connect", "-sidecar-for", i.id, "-admin-bind", m.admin, "-access-log", m.log, "-access-log-format", "json",
	}, w.consul.Environ(w.token(t, i.service))...)
	must(t, err)
	m.process = i.sidecar
	return i, m
}

// scrape reads the metrics as Prometheus does.
func (m *meter) scrape(ctx context.Context, client *http.Client) (map[string]*dto.MetricFamily, error) {
	got, err := fetch(ctx, client, "http://"+m.admin+"/metrics")
	if err != nil {
		return nil, err
	}
	if got.status != http.StatusOK {
		return nil, fmt.Errorf("metrics: status %d: %s", got.status, got.body)
	}
	parser := expfmt.NewTextParser(model.UTF8Validation)
	return parser.TextToMetricFamilies(strings.NewReader(got.body))
}

// settled is read when nothing has been counted for a while.
func (m *meter) settled(t *testing.T, name string, labels ...string) map[string]float64 {
	t.Helper()
	return standsStill(t, name+" of "+m.name, func() map[string]float64 { return m.read(t, name, labels...) })
}

// standsStill reads numbers until they have been the same for a while: of what is over some may be counted later.
func standsStill[V comparable](t *testing.T, what string, read func() map[string]V) map[string]V {
	t.Helper()
	var last map[string]V
	same := 0
	eventually(t, what+" to stand still", func(context.Context) error {
		now := read()
		if !maps.Equal(now, last) {
			last, same = now, 0
		}
		if same++; same < 10 {
			return errNotYet
		}
		return nil
	})
	return last
}

// read returns a family's values by labels.
func (m *meter) read(t *testing.T, name string, labels ...string) map[string]float64 {
	t.Helper()
	families, err := m.scrape(t.Context(), strict(t))
	must(t, err)
	return byLabels(families[name], labels...)
}

// byLabels sums values, or counts of histograms, up by labels; zeros are left out.
func byLabels(family *dto.MetricFamily, labels ...string) map[string]float64 {
	sums := map[string]float64{}
	for _, one := range family.GetMetric() {
		values := map[string]string{}
		for _, l := range one.GetLabel() {
			values[l.GetName()] = l.GetValue()
		}
		var key []string
		for _, l := range labels {
			key = append(key, values[l])
		}
		value := one.GetCounter().GetValue() + one.GetGauge().GetValue() + float64(one.GetHistogram().GetSampleCount())
		if value != 0 {
			sums[strings.Join(key, " ")] += value
		}
	}
	return sums
}

// wants waits until the family has grown since before by what is wanted: so much, and nothing else. What a client has
// seen the end of is counted a moment later.
func (m *meter) wants(t *testing.T, name string, before, want map[string]float64, labels ...string) {
	t.Helper()
	client := strict(t)
	eventually(t, name+" of "+m.name, func(ctx context.Context) error {
		families, err := m.scrape(ctx, client)
		if err != nil {
			return err
		}
		grown := byLabels(families[name], labels...)
		for key, value := range before {
			if grown[key] -= value; grown[key] == 0 {
				delete(grown, key)
			}
		}
		if diff := cmp.Diff(want, grown); diff != "" {
			return fmt.Errorf("-want +got:\n%s", diff)
		}
		return nil
	})
}

// line is a line of the access log.
type line struct {
	Protocol, Direction, Source, Destination, Consumer, Flag, Route, Path, Error string

	Status     int
	BytesIn    int64   `json:"bytes_in"`
	BytesOut   int64   `json:"bytes_out"`
	DurationMS float64 `json:"duration_ms"`
	ProxyMS    float64 `json:"proxy_ms"`
	UpstreamMS float64 `json:"upstream_ms"`
}

// lines parses the access log; each line must be JSON.
func (m *meter) lines(t *testing.T) []line {
	t.Helper()
	text, err := os.ReadFile(m.log)
	must(t, err)
	var all []line
	for one := range strings.Lines(string(text)) {
		var l line
		if err := json.Unmarshal([]byte(one), &l); err != nil {
			t.Fatalf("%s: %v: %s", m.log, err, one)
		}
		all = append(all, l)
	}
	return all
}

// key is what callers() names.
func (l *line) key() string {
	code := fmt.Sprint(l.Status)
	if l.Protocol == "tcp" {
		code = "-"
	}
	fields := []string{l.Direction, l.Source, l.Destination, l.Consumer, code, l.Flag}
	for i, field := range fields {
		if field == "" {
			fields[i] = "-"
		}
	}
	return strings.Join(fields, " ")
}

// agrees holds the whole access log to the whole of the metrics.
func (m *meter) agrees(t *testing.T) {
	t.Helper()
	eventually(t, "the access log and metrics of "+m.name+" to agree", func(context.Context) error {
		logged := map[string]map[string]float64{"": {}, "tcp": {}}
		var times []string
		for _, l := range m.lines(t) {
			logged[l.Protocol][l.key()]++
			if l.ProxyMS < 0 || l.UpstreamMS < 0 || l.ProxyMS+l.UpstreamMS > l.DurationMS+0.002 {
				times = append(times, fmt.Sprintf("%+v", l))
			}
		}
		if len(times) > 0 {
			return fmt.Errorf("times do not add up: %s", times[0])
		}
		diff := cmp.Diff(logged[""], m.read(t, "serai_requests_total", callers()...)) +
			cmp.Diff(logged["tcp"], m.read(t, "serai_connections_total", callers()...))
		if diff != "" {
			return fmt.Errorf("-log +metrics:\n%s", diff)
		}
		return nil
	})
	lost := m.read(t, "serai_access_log_dropped_total")[""] + m.read(t, "serai_access_log_failed_total")[""]
	if lost != 0 {
		t.Errorf("%v lines lost", lost)
	}
}

// counts are the answers of loads by status.
func counts(report harness.Report) map[int]float64 {
	out := map[int]float64{}
	for status, n := range report.Status {
		out[status] = float64(n)
	}
	return out
}
