package telemetry

import (
	"fmt"
	"iter"
	"log/slog"
	"net/http"
	"runtime"
	"slices"
	"strings"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// maxScrapes bounds the scrapes at one time; what is beyond gets 503.
const maxScrapes = 4

// Handler serves m in Prometheus's formats, together with the metrics of Go and
// of the process. version is our own, as build information.
func Handler(m *Metrics, version string, log *slog.Logger) (http.Handler, error) {
	registry := prometheus.NewRegistry()
	build := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "serai_build_info", Help: "Always 1.",
		ConstLabels: prometheus.Labels{"version": version, "go_version": runtime.Version()},
	}, func() float64 { return 1 })
	for _, c := range []prometheus.Collector{
		build, collector{m}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	} {
		if err := registry.Register(c); err != nil {
			return nil, err
		}
	}
	return promhttp.HandlerFor(registry, promhttp.HandlerOpts{
		EnableOpenMetrics: true, MaxRequestsInFlight: maxScrapes,
		// What can be shown is shown, whatever a part of it is like.
		ErrorHandling: promhttp.ContinueOnError, ErrorLog: scrapeLog{log},
	}), nil
}

// scrapeLog tells what promhttp has to say: what is wrong with a metric, and at
// level debug that a scraper has left, which it says once for each metric.
type scrapeLog struct{ log *slog.Logger }

// Println implements promhttp.Logger.
func (l scrapeLog) Println(v ...any) {
	text := fmt.Sprint(v...)
	if strings.HasPrefix(text, "error gathering") {
		l.log.Error("metrics are not complete", "err", text)
		return
	}
	l.log.Debug("scrape of metrics", "err", text)
}

// collector reads Metrics for one scrape after the other. It describes nothing:
// which metrics there are changes.
type collector struct{ metrics *Metrics }

// Describe implements prometheus.Collector.
func (collector) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	m := c.metrics
	m.mu.Lock()
	var paths []reading
	for _, s := range m.sites {
		for _, p := range s.paths {
			paths = append(paths, reading{s, p})
		}
	}
	sources := slices.Clone(m.sources)
	m.mu.Unlock()
	d := describe()
	for _, r := range paths {
		if r.site.tcp {
			d.connections(out, r)
		} else {
			d.requests(out, r)
		}
	}
	samples(out, joined(append(sources, m.own())))
}

// own are the samples on what is counted itself.
func (m *Metrics) own() iter.Seq[Sample] {
	return func(yield func(Sample) bool) {
		_ = yield(Sample{
			Name: "serai_metrics_series", Help: "Combinations of labels that requests and connections are told apart by.",
			Kind: Gauge, Value: number(m.series.count.Load() + m.otherSeries.count.Load()),
		}) && yield(Sample{
			Name: "serai_metrics_collapsed_total", Value: number(m.collapsed.Load()),
			Help: "Requests and connections counted with labels \"other\", since there were too many combinations.",
		})
	}
}

// reading is a path that is read.
type reading struct {
	site *site
	path *path
}

// labels are those of the path, with more behind them.
func (r reading) labels(more ...string) []string {
	l := &r.path.labels
	return append([]string{string(r.site.direction), l.source, l.destination, l.route}, more...)
}

// descriptions are those of all that paths count.
type descriptions struct {
	requestsTotal, requestBytes, responseBytes, retries, proxy, upstream, duration *prometheus.Desc

	connectionsTotal, active, received, sent, lifetime *prometheus.Desc
}

func describe() *descriptions {
	one := func(name, help string, more ...string) *prometheus.Desc {
		return prometheus.NewDesc(name, help, append([]string{"direction", "source", "destination", "route"}, more...), nil)
	}
	return &descriptions{
		requestsTotal: one("serai_requests_total", "Requests that have ended.", "consumer", "code", "flag"),
		requestBytes:  one("serai_request_bytes_total", "Bytes of request bodies.", "consumer"),
		responseBytes: one("serai_response_bytes_total", "Bytes of response bodies.", "consumer"),
		retries:       one("serai_request_retries_total", "Tries upstream after the first."),
		proxy:         one("serai_request_proxy_seconds", "Time until the head of the response was sent that the proxy itself has spent."),
		upstream:      one("serai_request_upstream_seconds", "Time spent waiting for upstreams, until the head of the response was there."),
		duration:      one("serai_request_duration_seconds", "Time from the first byte of a request to the last of its response."),

		connectionsTotal: one("serai_connections_total", "TCP connections that have ended.", "consumer", "code", "flag"),
		active:           one("serai_connections_active", "TCP connections that live."),
		received:         one("serai_connection_received_bytes_total", "Bytes received from downstream on TCP connections."),
		sent:             one("serai_connection_sent_bytes_total", "Bytes sent downstream on TCP connections."),
		lifetime:         one("serai_connection_duration_seconds", "Time from when a TCP connection was there, its TLS handshake done, to its end."),
	}
}

// requests shows what a path of requests counts. Bytes are not told apart by
// code and flag.
func (d *descriptions) requests(out chan<- prometheus.Metric, r reading) {
	type bytes struct{ in, out int64 }
	byConsumer := map[string]bytes{}
	for key, one := range *r.path.series.Load() {
		counter(out, d.requestsTotal, one.count.Load(), r.labels(key.consumer, codeText(key.code, false), key.flag.String()))
		b := byConsumer[key.consumer]
		byConsumer[key.consumer] = bytes{b.in + one.in.Load(), b.out + one.out.Load()}
	}
	for consumer, b := range byConsumer {
		counter(out, d.requestBytes, b.in, r.labels(consumer))
		counter(out, d.responseBytes, b.out, r.labels(consumer))
	}
	counter(out, d.retries, r.path.retries.Load(), r.labels())
	r.histogram(out, d.proxy, inProxy)
	if r.path.times.sums[inUpstream].Load() > 0 {
		r.histogram(out, d.upstream, inUpstream)
	}
	r.histogram(out, d.duration, inAll)
}

// connections shows what a path of connections counts.
func (d *descriptions) connections(out chan<- prometheus.Metric, r reading) {
	for key, one := range *r.path.series.Load() {
		counter(out, d.connectionsTotal, one.count.Load(), r.labels(key.consumer, codeText(key.code, true), key.flag.String()))
	}
	gauge(out, d.active, r.path.active.Load(), r.labels())
	counter(out, d.received, r.path.in.Load(), r.labels())
	counter(out, d.sent, r.path.out.Load(), r.labels())
	r.histogram(out, d.lifetime, inAll)
}

func counter(out chan<- prometheus.Metric, d *prometheus.Desc, value int64, labels []string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(value), labels...)
}

func gauge(out chan<- prometheus.Metric, d *prometheus.Desc, value int64, labels []string) {
	out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, float64(value), labels...)
}

func (r reading) histogram(out chan<- prometheus.Metric, d *prometheus.Desc, k kind) {
	cumulative, count, sum := r.path.times.read(k, r.site.bounds)
	out <- prometheus.MustNewConstHistogram(d, count, sum, cumulative, r.labels()...)
}

// samples shows what owners count. A sample that is no metric is told as an
// error of the scrape and does not hinder the others.
func samples(out chan<- prometheus.Metric, all iter.Seq[Sample]) {
	known := map[string]*prometheus.Desc{}
	for s := range all {
		d := known[s.Name]
		if d == nil {
			names := make([]string, len(s.Labels))
			for i, l := range s.Labels {
				names[i] = l.Name
			}
			d = prometheus.NewDesc(s.Name, s.Help, names, nil)
			known[s.Name] = d
		}
		values := make([]string, len(s.Labels))
		for i, l := range s.Labels {
			values[i] = valid(l.Value)
		}
		kind := prometheus.CounterValue
		if s.Kind == Gauge {
			kind = prometheus.GaugeValue
		}
		metric, err := prometheus.NewConstMetric(d, kind, s.Value, values...)
		if err != nil {
			metric = prometheus.NewInvalidMetric(d, err)
		}
		out <- metric
	}
}
