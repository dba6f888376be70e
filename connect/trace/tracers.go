package trace

import (
	"encoding/json"
	"log/slog"
	"sync"

	"github.com/serai-net/serai/connect/call"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stats"
)

// Tracers make tracers of chains, and keep the exporters that they share. A nil
// Tracers traces nothing. It is safe for concurrent use.
type Tracers struct {
	// set by New
	fallback *mesh.TraceProvider
	node     string // ID of ours
	service  string // its cluster
	find     call.Find
	log      *slog.Logger

	mu sync.Mutex // guards:
	// exporters by what their providers say; running are also those that only what is
	// under way holds. counts are by kind. told are refusals that were told.
	exporters map[string]*exporter
	running   map[*exporter]struct{}
	// providers are the exporters by what they were made of, as long as that is in use;
	// round counts calls of Begin.
	providers map[*mesh.TraceProvider]use
	round     uint64
	told      map[string]bool
	counts    map[mesh.TraceKind]*counters
	closed    bool
	group     sync.WaitGroup
}

// New returns Tracers. fallback is the bootstrap file's provider, nil for none; node
// and service say who we are; find gives the clusters of collectors.
func New(fallback *mesh.TraceProvider, node, service string, find call.Find, log *slog.Logger) *Tracers {
	return &Tracers{
		fallback: fallback, node: node, service: service, find: find, log: log, exporters: map[string]*exporter{}, running: map[*exporter]struct{}{},
		providers: map[*mesh.TraceProvider]use{}, told: map[string]bool{}, counts: map[mesh.TraceKind]*counters{},
	}
}

// Begin begins a new configuration: exporters that it does not ask for until Sweep
// end then.
func (t *Tracers) Begin() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.round++
	for _, e := range t.exporters {
		e.used = false
	}
}

// Sweep ends the exporters that the configuration does not ask for, once nothing is
// under way that they will be told of.
func (t *Tracers) Sweep() {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	for key, e := range t.exporters {
		if !e.used {
			delete(t.exporters, key)
			e.leave()
		}
	}
	for p, u := range t.providers {
		if u.round != t.round {
			delete(t.providers, p)
		}
	}
}

// use is an exporter that was asked for, and in which round that was last.
type use struct {
	exporter *exporter
	round    uint64
}

// Keep asks for the exporter of a tracer that Compile has made, as Compile would,
// without making it. It is false if there is none.
func (t *Tracers) Keep(c *mesh.Tracing) bool {
	if t == nil || c == nil {
		return true
	}
	provider := t.provider(c)
	if provider == nil || provider.Refusal != "" {
		return true
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.providers[provider].exporter
	if e == nil {
		return false
	}
	t.providers[provider] = use{e, t.round}
	e.used = true
	return true
}

// provider is where the spans of a chain go; nil for nowhere.
func (t *Tracers) provider(c *mesh.Tracing) *mesh.TraceProvider {
	if c.Provider != nil {
		return c.Provider
	}
	return t.fallback
}

// Compile makes the tracer of a chain; nil if it does not trace. egress says that
// the chain is the outbound side. What is refused is told, and traces nothing.
func (t *Tracers) Compile(c *mesh.Tracing, egress bool) *Tracer {
	if t == nil || c == nil {
		return nil
	}
	provider := t.provider(c)
	if provider == nil {
		return nil
	}
	if provider.Refusal != "" {
		t.tell(provider.Refusal)
		return nil
	}
	out := t.exporter(provider)
	if out == nil {
		return nil // we are about to end
	}
	tracer, err := newTracer(c, provider, out, egress, t.node)
	if err != nil {
		t.tell(err.Error())
		return nil
	}
	return tracer
}

func (t *Tracers) tell(reason string) {
	t.mu.Lock()
	told := t.told[reason]
	if !told && len(t.told) < 1024 {
		t.told[reason] = true
	}
	t.mu.Unlock()
	if !told {
		t.log.Error("tracing refused: nothing is traced", "reason", reason)
	}
}

// exporter finds or makes that of a provider; nil after Close.
func (t *Tracers) exporter(p *mesh.TraceProvider) *exporter {
	key, err := json.Marshal(p)
	if err != nil {
		key = []byte(p.Cluster)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.exporters[string(key)]
	if e == nil {
		if t.closed {
			return nil
		}
		counts := t.counts[p.Kind]
		if counts == nil {
			counts = &counters{}
			t.counts[p.Kind] = counts
		}
		e = newExporter(p, t.service, t.find, t.log, counts)
		t.exporters[string(key)] = e
		t.running[e] = struct{}{}
		t.group.Go(func() {
			e.spans.Run()
			t.mu.Lock()
			defer t.mu.Unlock()
			delete(t.running, e)
		})
	}
	e.used = true
	t.providers[p] = use{e, t.round}
	return e
}

// Stats are what all exporters of a kind count.
func (t *Tracers) Stats(kind mesh.TraceKind) Stats {
	if t == nil {
		return Stats{}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.counts[kind]
	if c == nil {
		return Stats{}
	}
	return Stats{
		Sent: c.sent.Load(), Dropped: c.dropped.Load(), Failed: c.failed.Load(),
		Reports: c.reports.Load(), ReportsFailed: c.reportsFailed.Load(), Skipped: c.skipped.Load(), TimerFlushed: c.timerFlushed.Load(),
	}
}

// Each yields what is counted, by Envoy's names; those of a kind that was never asked for are
// left out. spans_dropped and spans_failed are our own: Envoy does not count spans that are lost.
func (t *Tracers) Each(yield func(stats.Stat) bool) {
	for _, kind := range []struct {
		kind            mesh.TraceKind
		name, sent, not string
	}{
		{mesh.Zipkin, "tracing.zipkin.", "spans_sent", "reports_dropped"},
		{mesh.OpenTelemetry, "tracing.opentelemetry.", "spans_sent", ""},
		{mesh.Datadog, "tracing.datadog.", "traces_sent", "reports_dropped"},
	} {
		if !t.asked(kind.kind) {
			continue
		}
		s := t.Stats(kind.kind)
		for _, one := range []stats.Stat{
			{Name: kind.sent, Value: s.Sent},
			{Name: "timer_flushed", Value: s.TimerFlushed},
			{Name: "reports_sent", Value: s.Reports},
			{Name: "reports_failed", Value: s.ReportsFailed},
			{Name: "reports_skipped_no_cluster", Value: s.Skipped},
			{Name: "spans_dropped", Value: s.Dropped},
			{Name: "spans_failed", Value: s.Failed},
		} {
			one.Name = kind.name + one.Name
			if !yield(one) {
				return
			}
		}
		if !stats.Zeros(kind.name, kind.not, yield) { // a status that is no success is a failure here
			return
		}
	}
}

// asked tells whether there is, or was, an exporter of a kind.
func (t *Tracers) asked(kind mesh.TraceKind) bool {
	if t == nil {
		return false
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.counts[kind] != nil
}

// Close sends what waits, as far as it is taken in a short while, and ends all
// exporters. Clusters must still be there.
func (t *Tracers) Close() {
	if t == nil {
		return
	}
	t.mu.Lock()
	t.closed = true
	for e := range t.running {
		e.spans.Close()
	}
	t.mu.Unlock()
	t.group.Wait()
}
