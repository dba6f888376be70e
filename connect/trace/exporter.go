package trace

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

const (
	// maxSpans bounds the spans that wait for a collector, batch how many are sent at
	// a time.
	maxSpans, batch = 4096, 256
	// maxText bounds their texts, which clients write, in bytes.
	maxText = 8 << 20
	// flushEvery is how long a span waits for others.
	flushEvery = time.Second
	// exportTimeout is how long a collector may take for a batch, lastExport for the
	// last ones.
	exportTimeout = 5 * time.Second
	lastExport    = 500 * time.Millisecond
)

// Stats are counters of spans since the start.
type Stats struct {
	// Sent spans; Dropped ones found the queue full, Failed ones were not taken.
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
	wake     chan struct{}
	end      chan struct{}
	once     sync.Once
	used     bool // guarded by Tracers.mu

	sent, dropped, failed                         atomic.Int64
	reports, reportsFailed, skipped, timerFlushed atomic.Int64

	mu sync.Mutex // guards:
	// spans wait, which have size bytes of text.
	spans []*span
	size  int
}

func newExporter(p *mesh.TraceProvider, node string, find call.Find, log *slog.Logger) *exporter {
	return &exporter{
		provider: p, service: cmp.Or(p.Service, node), find: find, log: log, wake: make(chan struct{}, 1), end: make(chan struct{}),
	}
}

// size is how many bytes of text there are.
func (s *span) size() int {
	n := len(s.name) + len(s.host)
	for _, t := range s.tags {
		n += len(t.name) + len(t.value)
	}
	return n
}

func (e *exporter) add(s *span) {
	size := s.size()
	e.mu.Lock()
	fits := len(e.spans) < maxSpans && e.size+size <= maxText
	if fits {
		e.spans = append(e.spans, s)
		e.size += size
	}
	full := len(e.spans) >= batch
	e.mu.Unlock()
	if !fits {
		e.dropped.Add(1)
	}
	if full {
		select {
		case e.wake <- struct{}{}:
		default:
		}
	}
}

// run sends batches until close, and then what is left.
func (e *exporter) run() {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	go func() {
		select {
		case <-e.end: // what is under way then must not hold up the end of the process
		case <-ctx.Done():
			return
		}
		select {
		case <-time.After(lastExport):
			cancel()
		case <-ctx.Done():
		}
	}()
	tick := time.NewTicker(flushEvery)
	defer tick.Stop()
	for {
		select {
		case <-e.wake:
		case <-tick.C:
			if e.waiting() {
				e.timerFlushed.Add(1)
			}
		case <-e.end:
			e.flush(ctx, lastExport)
			return
		}
		e.flush(ctx, exportTimeout)
	}
}

func (e *exporter) waiting() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return len(e.spans) > 0
}

func (e *exporter) close() { e.once.Do(func() { close(e.end) }) }

// flush sends all that waits. What is not taken is lost.
func (e *exporter) flush(ctx context.Context, timeout time.Duration) {
	e.mu.Lock()
	spans := e.spans
	e.spans, e.size = nil, 0
	e.mu.Unlock()
	if len(spans) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for len(spans) > 0 {
		n := min(batch, len(spans))
		if err := e.send(ctx, spans[:n]); err != nil {
			e.failed.Add(int64(n))
			if e.find(e.provider.Cluster) == nil {
				e.skipped.Add(1)
			} else {
				e.reportsFailed.Add(1)
			}
			e.log.Warn("spans not taken by their collector", "cluster", e.provider.Cluster, "spans", n, "err", err)
		} else {
			e.sent.Add(int64(n))
			e.reports.Add(1)
		}
		spans = spans[n:]
	}
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
