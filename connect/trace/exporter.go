package trace

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxWaiting bounds the spans that wait for a collector, in bytes: of their texts,
	// which clients write, and of what each has besides.
	maxWaiting, each = 8 << 20, 2 << 10
	// batch is how many are sent at a time.
	batch = 256
	// flushEvery is how long a span waits for others.
	flushEvery = time.Second
	// exportTimeout is how long a collector may take for all that wait.
	exportTimeout = 5 * time.Second
	// lastHold is how long an exporter that no configuration names is kept for who has
	// found it just before, and is about to hold it.
	lastHold = time.Second
)

// Stats are counters of spans since the start.
type Stats struct {
	// Sent spans; Dropped ones found the queue full, or that nobody sends any more, Failed
	// ones were not taken.
	Sent, Dropped, Failed int64
	// Reports that were taken, and that were not; Skipped ones had no cluster to go
	// to. TimerFlushed are those that did not wait to be full.
	Reports, ReportsFailed, Skipped, TimerFlushed int64
}

// exporter sends spans to one collector, in batches.
type exporter struct {
	// set by newExporter
	provider *mesh.TraceProvider
	service  string // ours
	find     call.Find
	log      *slog.Logger
	spans    *call.Batches[*span]
	used     bool // guarded by Tracers.mu
	told     bool // owned by flush
	// holders are what is under way, and the configuration.
	holders atomic.Int64
	*counters
}

// counters are Stats in the making: those of all exporters of a kind, also of those that
// have ended.
type counters struct {
	sent, dropped, failed                         atomic.Int64
	reports, reportsFailed, skipped, timerFlushed atomic.Int64
}

func newExporter(p *mesh.TraceProvider, node string, find call.Find, log *slog.Logger, counts *counters) *exporter {
	e := &exporter{provider: p, service: cmp.Or(p.Service, node), find: find, log: log, counters: counts}
	e.holders.Store(1)
	e.spans = call.NewBatches(call.Batching[*span]{
		Enough: batch * each, Most: maxWaiting, Wait: flushEvery, Timeout: exportTimeout, Send: e.flush,
	})
	return e
}

// size is about how many bytes there are.
func (s *span) size() int {
	n := each + len(s.name) + len(s.host)
	for _, t := range s.tags {
		n += len(t.name) + len(t.value)
	}
	return n
}

func (e *exporter) hold() { e.holders.Add(1) }

func (e *exporter) release() {
	if e.holders.Add(-1) == 0 {
		e.spans.Close()
	}
}

// leave is told that no configuration names the exporter any more.
func (e *exporter) leave() { time.AfterFunc(lastHold, e.release) }

func (e *exporter) add(s *span) {
	if !e.spans.Add(s, s.size()) {
		e.dropped.Add(1)
	}
}

// flush sends spans.
func (e *exporter) flush(ctx context.Context, spans []*span, timer bool) {
	if timer {
		e.timerFlushed.Add(1)
	}
	for some := range slices.Chunk(spans, batch) {
		n := int64(len(some))
		if err := e.send(ctx, some); err != nil {
			e.failed.Add(n)
			if e.find(e.provider.Cluster) == nil {
				e.skipped.Add(1)
			} else {
				e.reportsFailed.Add(1)
			}
			e.tell(ctx, n, err)
		} else {
			e.sent.Add(n)
			e.reports.Add(1)
			e.told = false
		}
	}
}

// tell says once that a collector takes nothing, until it does.
func (e *exporter) tell(ctx context.Context, spans int64, err error) {
	level := slog.LevelWarn
	if e.told {
		level = slog.LevelDebug
	}
	e.told = true
	e.log.Log(ctx, level, "spans are lost as long as their collector does not take them: look at its cluster",
		"cluster", e.provider.Cluster, "spans", spans, "err", err)
}

func (e *exporter) send(ctx context.Context, spans []*span) error {
	p := e.provider
	to, authority := e.find(p.Cluster), cmp.Or(p.Authority, p.Cluster)
	r := call.Request{Method: http.MethodPost, Authority: authority, Path: p.Path, MaxBody: -1}
	kind := "application/json"
	switch {
	case p.Kind == mesh.Zipkin && p.Protobuf:
		r.Body, kind = appendZipkinProto(nil, e.service, spans), "application/x-protobuf"
	case p.Kind == mesh.Zipkin:
		var err error
		if r.Body, err = zipkinJSON(e.service, spans); err != nil {
			return err
		}
	case p.Kind == mesh.Datadog:
		r.Path = cmp.Or(p.Path, "/v0.4/traces")
		r.Body, kind = appendDatadog(nil, e.service, spans), "application/msgpack"
		r.Header.Add("x-datadog-trace-count", strconv.Itoa(len(traces(spans))))
		r.Header.Add("datadog-meta-lang", "go")
	default:
		message, err := otlp(p, e.service, spans)
		if err != nil {
			return err
		}
		if p.GRPC {
			_, err := call.Unary(ctx, to, authority, "/opentelemetry.proto.collector.trace.v1.TraceService/Export", fields(p.Metadata), message)
			return err
		}
		r.Body, kind = message, "application/x-protobuf"
	}
	r.Header.Add("content-type", kind)
	for _, m := range p.Metadata {
		r.Header.Set(m.Name, m.Value)
	}
	resp, err := call.Do(ctx, to, r)
	if err == nil && resp.Status/100 != 2 {
		err = fmt.Errorf("status %d", resp.Status)
	}
	return err
}

func fields(pairs []mesh.Pair) []wire.Field {
	var all []wire.Field
	for _, p := range pairs {
		all = append(all, wire.Field{Name: p.Name, Value: p.Value})
	}
	return all
}
