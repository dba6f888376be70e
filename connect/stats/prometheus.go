package stats

import (
	"bufio"
	"io"
	"slices"
	"strconv"
	"strings"
)

// metric is all numbers of one name of Prometheus.
type metric struct {
	name   string
	kind   string
	series []series
}

// series is one number with its labels written: those of its owner, and its own.
type series struct {
	owner, own string
	stat       *Stat
}

// exposition groups numbers by metric.
type exposition struct {
	tagger  *Tagger
	metrics map[string]*metric
	// owner and labels are of the owner that was last; simple says that what a name has
	// in common for all simple owners of its kind, called class, holds for it.
	owner, labels, class string
	simple               bool
	// known is what names come to behind owners of a class.
	known map[string]map[string]label
}

// label is what a name comes to.
type label struct {
	metric string
	own    string
	// simple says that it comes to the same behind all simple owners of the class.
	simple bool
}

// Prometheus writes what is asked for in Prometheus's text format, with Envoy's
// names of metrics.
func (v *View) Prometheus(to io.Writer, q Query) error {
	e := &exposition{tagger: v.Tagger, metrics: map[string]*metric{}, known: map[string]map[string]label{}}
	for s := range v.collect(q).each() {
		if s.Kind != KindText {
			e.add(s)
		}
	}
	out := lines{bufio.NewWriterSize(to, writeSize)}
	all := make([]*metric, 0, len(e.metrics))
	for _, m := range e.metrics {
		all = append(all, m)
	}
	slices.SortFunc(all, func(a, b *metric) int {
		if by := strings.Compare(histogramLast(a), histogramLast(b)); by != 0 {
			return by
		}
		return strings.Compare(a.name, b.name)
	})
	for _, m := range all {
		out.put("# TYPE ", m.name, " ", m.kind, "\n")
		for i := range m.series {
			m.series[i].write(out, m.name)
		}
	}
	return out.Flush()
}

func histogramLast(m *metric) string {
	if m.kind == "histogram" {
		return m.kind
	}
	return ""
}

// add adds a number to its metric.
func (e *exposition) add(s *Stat) {
	kind := "counter"
	switch s.Kind {
	case KindGauge:
		kind = "gauge"
	case KindHistogram:
		kind = "histogram"
	default:
	}
	one, owner := e.label(s)
	m := e.metrics[one.metric]
	if m == nil {
		m = &metric{name: one.metric, kind: kind}
		e.metrics[one.metric] = m
	}
	if m.kind == kind { // a metric has one type
		m.series = append(m.series, series{owner, one.own, s})
	}
}

// label is what a number comes to, and the labels of its owner.
func (e *exposition) label(s *Stat) (one label, owner string) {
	if e.tagger == nil {
		return label{metric: "envoy_" + sanitized(s.Owner+s.Name)}, ""
	}
	if s.Scope <= 0 || addressed(s.Name) {
		return e.whole(s), ""
	}
	if e.owner != s.Owner {
		scope := e.tagger.scope(s.Owner)
		e.owner, e.simple = s.Owner, scope.simple(s.Owner)
		e.labels, e.class = written(distinct(e.tagger.fixed, scope.found)), cut(s.Owner, scope.found)
	}
	if !e.simple {
		return e.whole(s), ""
	}
	names := e.known[e.class]
	if names == nil {
		names = map[string]label{}
		e.known[e.class] = names
	}
	one, known := names[s.Name]
	if !known {
		one = e.behind(s)
		names[s.Name] = one
	}
	if !one.simple {
		return e.whole(s), ""
	}
	return one, e.labels
}

// whole looks at a whole name.
func (e *exposition) whole(s *Stat) label {
	named := *s
	named.whole()
	name, tags := e.tagger.Tags(&named)
	return label{metric: "envoy_" + sanitized(name), own: written(tags)}
}

// behind looks at a name behind a simple owner.
func (e *exposition) behind(s *Stat) label {
	scope := e.tagger.scope(s.Owner)
	if !scope.clean("." + s.Name) {
		return label{}
	}
	named := *s
	named.whole()
	name, tags := e.tagger.Tags(&named)
	return label{metric: "envoy_" + sanitized(name), own: written(tags[len(distinct(e.tagger.fixed, scope.found)):]), simple: true}
}

// write writes a number.
func (s *series) write(out lines, name string) {
	if s.stat.Kind == KindHistogram {
		s.buckets(out, name)
		return
	}
	s.begin(out, name, "", "")
	out.number(s.stat.Value)
	out.put("\n")
}

// begin writes what stands before a value.
func (s *series) begin(out lines, name, suffix, last string) {
	out.put(name, suffix, "{", s.owner)
	if s.owner != "" && s.own != "" {
		out.put(",")
	}
	out.put(s.own)
	if last != "" {
		if s.owner != "" || s.own != "" {
			out.put(",")
		}
		out.put(`le="`, last, `"`)
	}
	out.put("} ")
}

// buckets writes a histogram.
func (s *series) buckets(out lines, name string) {
	r := s.stat.Histogram
	for i, bound := range Bounds() {
		s.begin(out, name, "_bucket", strconv.FormatFloat(bound, 'f', -1, 64))
		out.number(r.Cumulative[i])
		out.put("\n")
	}
	s.begin(out, name, "_bucket", "+Inf")
	out.number(r.Count)
	out.put("\n")
	s.begin(out, name, "_sum", "")
	out.number(r.Sum)
	out.put("\n")
	s.begin(out, name, "_count", "")
	out.number(r.Count)
	out.put("\n")
}
