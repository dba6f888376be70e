package trace

import (
	"cmp"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/serai-net/serai/connect/format"
	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// span is what a collector is told. It is its own memory: the exchange dies.
type span struct {
	Context
	// client says that it is the span of who calls, server that of who is called;
	// shared that the caller's own span has the same identifier.
	client, shared bool
	name           string
	begin          time.Time
	took           time.Duration
	port           uint16
	host           string // our address
	failed         bool
	tags           []tag
	notes          []note
}

// note is something that happened.
type note struct {
	at   time.Time
	what string
}

type tag struct{ name, value string }

// Tracer traces the exchanges of one chain. It is safe for concurrent use.
type Tracer struct {
	config   *mesh.Tracing
	provider *mesh.TraceProvider
	counts   *Counts // nil for nobody
	out      *exporter
	egress   bool
	node     string
	tags     []customTag
	// operation and upstream name spans; nil for Envoy's names.
	operation, upstream *format.Text
}

// customTag is a compiled tag.
type customTag struct {
	mesh.TraceTag
	text *format.Text // nil unless Text is set
	env  string
}

func newTracer(t *mesh.Tracing, p *mesh.TraceProvider, out *exporter, egress bool, node string) (*Tracer, error) {
	tr := &Tracer{config: t, provider: p, out: out, egress: egress, node: node}
	var err error
	if tr.operation, err = naming(t.Operation); err != nil {
		return nil, err
	}
	if tr.upstream, err = naming(t.UpstreamOperation); err != nil {
		return nil, err
	}
	for _, one := range t.Tags {
		c := customTag{TraceTag: one}
		var err error
		switch {
		case one.Env != "":
			c.env = cmp.Or(os.Getenv(one.Env), one.Default)
		case one.Text != "":
			c.text, err = format.Compile(one.Text)
		}
		if err != nil {
			return nil, err
		}
		tr.tags = append(tr.tags, c)
	}
	return tr, nil
}

// naming compiles the name of spans; nil if there is none.
func naming(text string) (*format.Text, error) {
	if text == "" {
		return nil, nil //nolint:nilnil // Envoy's name
	}
	return format.Compile(text)
}

// named is what a text says of x, or otherwise where there is none.
func named(text *format.Text, x *wire.Exchange, otherwise string) string {
	if text == nil {
		return kept(otherwise)
	}
	return kept(string(text.AppendKnown(nil, &format.Input{Exchange: x})))
}

// kept is a text of an exchange in memory of its own, and as UTF-8: a collector would
// take nothing of a batch for one that is none.
func kept(text string) string { return strings.ToValidUTF8(strings.Clone(text), "\ufffd") }

// Layer traces each exchange. It stands within what makes x-request-id. A nil Tracer
// does nothing.
func (t *Tracer) Layer() wire.Layer {
	if t == nil {
		return nil
	}
	return func(next wire.Service) wire.Service {
		return wire.ServiceFunc(func(x *wire.Exchange, req *wire.Request) (*wire.Response, error) {
			s := t.begin(x, req)
			x.TraceID = s.own.id()
			if s.own.Sampled {
				t.out.hold()
				x.OnEnd(s)
			}
			return next.Serve(x, req)
		})
	}
}

// active is an exchange that is traced. upstream is what the upstream is told to be
// part of: a span of its own if the chain spawns one, else ours.
type active struct {
	tracer        *Tracer
	own, upstream Context
	shared        bool
}

var _ wire.End = (*active)(nil)

// begin makes the span of a request and hands it on.
func (t *Tracer) begin(x *wire.Exchange, req *wire.Request) *active {
	traced := decide(t.config, x, &req.Header) || t.provider.AlwaysOn
	reason := reasonOf(&req.Header)
	t.counts.count(reason)
	x.TraceForced = reason == forced
	from, asked := t.extract(&req.Header)
	s := &active{tracer: t, shared: t.shares()}
	s.own = from
	switch {
	case from.Root():
		s.own = Context{Sampled: traced, Span: newID()}
		if asked {
			s.own.Sampled = from.Sampled
		}
		high := uint64(0)
		if t.provider.Kind != mesh.Zipkin || t.provider.Wide {
			high = newID()
		}
		low := newID()
		if t.provider.Kind == mesh.Zipkin {
			low = s.own.Span // as Zipkin has it: a root's span is called as its trace
		}
		s.own.setTrace(high, low)
	case t.shares(): // the caller's span is ours
	default:
		s.own.Span, s.own.Parent = newID(), from.Span
	}
	if !asked && !from.Root() {
		s.own.Sampled = traced
	}
	s.upstream = s.own
	if t.config.Spawn {
		s.upstream.Span, s.upstream.Parent = newID(), s.own.Span
	}
	if t.config.Alone {
		return s
	}
	switch t.provider.Kind {
	case mesh.Zipkin:
		injectB3(&s.upstream, &req.Header)
		if t.provider.W3C {
			injectTraceparent(&s.upstream, &req.Header)
		}
	case mesh.OpenTelemetry:
		injectTraceparent(&s.upstream, &req.Header)
	case mesh.Datadog:
		injectDatadog(&s.upstream, from.Root(), &req.Header)
	}
	return s
}

// shares tells whether a span is one of two sides, of which ours is the server's.
func (t *Tracer) shares() bool {
	return t.provider.Kind == mesh.Zipkin && !t.egress && !t.provider.Alone
}

// extract reads the caller's span. asked tells whether it has decided on sampling.
func (t *Tracer) extract(h *wire.Header) (c Context, asked bool) {
	var ok bool
	switch t.provider.Kind {
	case mesh.OpenTelemetry:
		c, ok = Traceparent(h)
		return c, ok
	case mesh.Datadog:
		if c, asked, ok = DatadogFields(h); ok {
			return c, asked
		}
		c, ok = Traceparent(h)
		return c, ok
	case mesh.Zipkin:
		if c, asked = B3(h); c.Root() && t.provider.W3C {
			if from, ok := Traceparent(h); ok {
				return from, true
			}
		}
		return c, asked
	}
	return B3(h)
}

// End implements [wire.End]: it tells the collector.
func (s *active) End(x *wire.Exchange) {
	t := s.tracer
	defer t.out.release()
	if x.HealthCheck {
		return
	}
	out := &span{
		Context: s.own, client: t.egress, shared: s.shared, name: x.Authority, begin: x.Start, took: x.Finish.Sub(x.Start),
		failed: x.Status == 0 || x.Status >= 500, tags: t.tagsOf(x),
	}
	if t.provider.Kind != mesh.Zipkin {
		out.name = "ingress"
		if t.egress {
			out.name = "egress " + x.Authority
		}
	}
	out.name = named(t.operation, x, out.name)
	if t.config.Verbose {
		out.notes = notesOf(x)
	}
	if local := x.Peer.Local; local.IsValid() {
		out.host, out.port = local.Addr().String(), local.Port()
	}
	t.out.add(out)
	if !t.config.Spawn || len(x.Attempts) == 0 {
		return
	}
	last := &x.Attempts[len(x.Attempts)-1]
	child := *out
	child.Context, child.client, child.shared, child.begin = s.upstream, true, false, last.Begin
	child.took = x.Finish.Sub(last.Begin)
	child.name, child.notes = named(t.upstream, x, "router "+x.Cluster+" egress"), nil
	child.tags = append([]tag{{"upstream_address", kept(last.Endpoint)}}, t.outcome(x, nil)...)
	t.out.add(&child)
}

// notesOf are what happened to x, and when.
func notesOf(x *wire.Exchange) []note {
	all := []note{{x.Received(), "last_downstream_rx_byte_received"}}
	if n := len(x.Attempts); n > 0 {
		a := &x.Attempts[n-1]
		if a.Uploaded.After(all[0].at) {
			all[0].at = a.Uploaded
		}
		sent := a.Connected
		if a.Uploaded.After(sent) {
			sent = a.Uploaded
		}
		all = append(all, note{a.Connected, "first_upstream_tx_byte_sent"}, note{sent, "last_upstream_tx_byte_sent"}, note{a.Head, "first_upstream_rx_byte_received"})
		if !a.Head.IsZero() {
			all = append(all, note{x.Finish, "last_upstream_rx_byte_received"})
		}
	}
	all = append(all, note{x.HeadSent, "first_downstream_tx_byte_sent"})
	if !x.HeadSent.IsZero() {
		all = append(all, note{x.Finish, "last_downstream_tx_byte_sent"})
	}
	return slices.DeleteFunc(all, func(n note) bool { return n.at.IsZero() })
}

// tagsOf are the tags of a span of x.
func (t *Tracer) tagsOf(x *wire.Exchange) []tag {
	all := make([]tag, 0, 20+len(t.tags))
	add := func(name, value string) {
		all = append(all, tag{name, kept(value)})
	}
	if req := x.Request; req != nil {
		if id := req.Header.Get(requestID); id != "" {
			add("guid:x-request-id", id)
		}
		path := req.Path
		if original := req.Header.Get("x-envoy-original-path"); original != "" {
			path = original
		}
		if most := cmp.Or(t.config.MaxPath, 256); len(path) > most {
			path = path[:most]
		}
		add("http.url", req.Scheme+"://"+req.Authority+path)
		add("http.method", req.Method)
		add("downstream_cluster", cmp.Or(req.Header.Get("x-envoy-downstream-service-cluster"), "-"))
		add("user_agent", cmp.Or(req.Header.Get("user-agent"), "-"))
		switch {
		case req.Proto == 2:
			add("http.protocol", "HTTP/2")
		case req.Minor == 0:
			add("http.protocol", "HTTP/1.0")
		default:
			add("http.protocol", "HTTP/1.1")
		}
		if id := req.Header.Get("x-client-trace-id"); id != "" {
			add("guid:x-client-trace-id", id)
		}
	}
	if host := x.Peer.Host(); host != "" {
		add("peer.address", host)
	}
	add("request_size", strconv.FormatInt(x.BytesIn, 10))
	add("node_id", t.node)
	all = t.outcome(x, all)
	// What Envoy does not tell: how long we have had it ourselves.
	upstream, proxy := x.Upstream()
	add("serai.proxy_us", strconv.FormatInt(proxy.Microseconds(), 10))
	add("serai.upstream_us", strconv.FormatInt(upstream.Microseconds(), 10))
	for i := range t.tags {
		if value := t.tags[i].value(x); value != "" {
			add(t.tags[i].Name, value)
		}
	}
	return all
}

// outcome are the tags that tell what became of x.
func (t *Tracer) outcome(x *wire.Exchange, all []tag) []tag {
	var flags [64]byte
	all = append(all,
		tag{"component", "proxy"},
		tag{"http.status_code", strconv.Itoa(x.Status)},
		tag{"response_size", strconv.FormatInt(x.BytesOut, 10)},
		tag{"response_flags", string(x.AppendFlags(flags[:0], false))},
	)
	if x.Cluster != "" {
		all = append(all, tag{"upstream_cluster", kept(x.Cluster)}, tag{"upstream_cluster.name", kept(cmp.Or(x.Observed, x.Cluster))})
	}
	if x.Status == 0 || x.Status >= 500 {
		all = append(all, tag{"error", "true"})
	}
	return all
}

// value is what the tag says of x, "" for nothing.
func (c *customTag) value(x *wire.Exchange) string {
	switch {
	case c.Literal != "":
		return c.Literal
	case c.Env != "":
		return c.env
	case c.Header != "":
		if x.Request != nil {
			if v, ok := x.Request.Header.Lookup(c.Header); ok {
				return v
			}
		}
		return c.Default
	case c.text != nil:
		return string(c.text.AppendKnown(nil, &format.Input{Exchange: x}))
	case len(c.Path) > 0:
		switch v, _ := x.Metadata.Lookup(c.Namespace, c.Path); v := v.(type) {
		case string:
			return v
		case bool:
			return strconv.FormatBool(v)
		case float64:
			return strconv.FormatFloat(v, 'g', -1, 64)
		}
		return c.Default
	}
	return ""
}
