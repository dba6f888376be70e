package stats

import (
	"bufio"
	"cmp"
	"encoding/json"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
)

// View shows what a Registry counts as a configuration asks for it, in Envoy's
// formats. Its fields are set before it is used; it is safe for concurrent use.
type View struct {
	Registry *Registry
	// Tagger and Matcher may be nil.
	Tagger  *Tagger
	Matcher *Matcher

	mu sync.Mutex // guards:
	// before are the counters at the last Reset, but those that were 0.
	before map[string]int64
}

// Reset lets all counters begin again at 0 for who reads this view. Those of
// their owners go on.
func (v *View) Reset() {
	before := map[string]int64{}
	for s := range v.Registry.All() {
		if s.Kind == KindCounter && s.Value != 0 {
			before[s.Name] = s.Value
		}
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	v.before = before
}

// Query asks for a part. The zero Query asks for all.
type Query struct {
	// Filter, if not nil, is searched for in names.
	Filter *regexp.Regexp
	// Used leaves out what was never counted.
	Used bool
	// Kinds that are shown; nil means all.
	Kinds []Kind
	// Buckets says how histograms are shown, but for Prometheus.
	Buckets Buckets
}

func (q *Query) shows(s *Stat) bool {
	if q.Kinds != nil && !slices.Contains(q.Kinds, s.Kind) {
		return false
	}
	return !q.Used || s.used()
}

func (q *Query) finds(s *Stat) bool {
	return q.Filter == nil || q.Filter.MatchString(s.Name)
}

// Select returns what is asked for: texts first, then counters and gauges, then
// histograms, each by name.
func (v *View) Select(q Query) []Stat {
	v.mu.Lock()
	before := v.before
	v.mu.Unlock()
	var all []Stat
	var anew []string
	for s := range v.Registry.each() {
		if !q.shows(&s) {
			continue // whoever was reset is looked at again below
		}
		s.whole()
		if s.Kind == KindCounter && len(before) > 0 {
			if was := before[s.Name]; was <= s.Value {
				s.Value -= was
			} else {
				anew = append(anew, s.Name)
			}
		}
		if q.shows(&s) && v.Matcher.Shows(s.Name) && q.finds(&s) {
			all = append(all, s)
		}
	}
	v.forget(anew)
	return inOrder(all)
}

// forget says that these begin at 0 by themselves: their owners, such as a cluster
// that was removed, have come back since the last Reset.
func (v *View) forget(anew []string) {
	if len(anew) == 0 {
		return
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	before := maps.Clone(v.before) // others may be reading it
	for _, name := range anew {
		delete(before, name)
	}
	v.before = before
}

// inOrder sorts numbers as they are shown.
func inOrder(all []Stat) []Stat {
	rank := [...]int{KindCounter: 1, KindGauge: 1, KindHistogram: 2, KindText: 0}
	slices.SortFunc(all, func(a, b Stat) int {
		if by := rank[a.Kind] - rank[b.Kind]; by != 0 {
			return by
		}
		if by := strings.Compare(a.Name, b.Name); by != 0 {
			return by
		}
		return cmp.Compare(b.Value, a.Value)
	})
	// Of a name that two have, what has counted is shown.
	return slices.CompactFunc(all, func(a, b Stat) bool { return a.Name == b.Name })
}

// lines are written; what goes wrong with one, Flush tells.
type lines struct{ *bufio.Writer }

func (l lines) put(parts ...string) {
	for _, part := range parts {
		if _, err := l.WriteString(part); err != nil {
			return
		}
	}
}

// quantiles are those of Envoy, as shares.
func quantiles() []float64 { return []float64{0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1} }

func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 4, 64) }

// Text writes one number on a line.
func (v *View) Text(to io.Writer, q Query) error {
	out := lines{bufio.NewWriter(to)}
	for _, s := range v.Select(q) {
		out.put(s.Name)
		out.put(": ")
		switch s.Kind {
		case KindText:
			out.put(strconv.Quote(s.Text))
		case KindHistogram:
			out.put(q.Buckets.text(s.Histogram))
		default:
			out.put(strconv.FormatInt(s.Value, 10))
		}
		out.put("\n")
	}
	return out.Flush()
}

// summary is a histogram as Envoy writes it: for each quantile the value of the
// last interval, which is not kept here, and that since the start.
func summary(r *Reading) string {
	if r.Count == 0 {
		return "No recorded values"
	}
	var parts []string
	for _, share := range quantiles() {
		value, _ := r.Quantile(share)
		parts = append(parts, "P"+percent(share)+"(nan,"+strconv.FormatFloat(value, 'g', -1, 64)+")")
	}
	return strings.Join(parts, " ")
}

// JSON writes what is asked for as one object.
func (v *View) JSON(to io.Writer, q Query) error {
	type number struct {
		Name  string `json:"name"`
		Value any    `json:"value"`
	}
	type pair struct {
		Cumulative *float64 `json:"cumulative"`
		Interval   *float64 `json:"interval"`
	}
	type computed struct {
		Name   string `json:"name"`
		Values []pair `json:"values"`
	}
	all := []any{}
	histograms, bucketed := []computed{}, []any{}
	for _, s := range v.Select(q) {
		switch s.Kind {
		case KindText:
			all = append(all, number{s.Name, s.Text})
		case KindHistogram:
			if q.Buckets != Quantiles {
				bucketed = append(bucketed, q.Buckets.object(&s))
				continue
			}
			one := computed{Name: s.Name}
			for _, share := range quantiles() {
				var p pair
				if value, ok := s.Histogram.Quantile(share); ok {
					p.Cumulative = &value
				}
				one.Values = append(one.Values, p)
			}
			histograms = append(histograms, one)
		default:
			all = append(all, number{s.Name, s.Value})
		}
	}
	if len(histograms) > 0 {
		var supported []json.Number
		for _, share := range quantiles() {
			supported = append(supported, json.Number(percent(share)))
		}
		all = append(all, map[string]any{"histograms": map[string]any{"supported_quantiles": supported, "computed_quantiles": histograms}})
	}
	if len(bucketed) > 0 {
		all = append(all, map[string]any{"histograms": bucketed})
	}
	return json.NewEncoder(to).Encode(map[string]any{"stats": all})
}

// series is one number with its labels written.
type series struct {
	labels string
	stat   Stat
}

// Prometheus writes what is asked for in Prometheus's text format, with Envoy's
// names of metrics.
func (v *View) Prometheus(to io.Writer, q Query) error {
	byName := [2]map[string][]series{{}, {}} // numbers, histograms
	types := map[string]string{}
	for _, s := range v.Select(q) {
		if s.Kind == KindText {
			continue
		}
		name, labels := s.Name, ""
		if v.Tagger != nil {
			var tags []Tag
			name, tags = v.Tagger.Tags(&s)
			labels = written(tags)
		}
		name = "envoy_" + sanitized(name)
		group, kind := 0, "counter"
		switch s.Kind {
		case KindGauge:
			kind = "gauge"
		case KindHistogram:
			group, kind = 1, "histogram"
		default:
		}
		if known := types[name]; known != "" && known != kind {
			continue // a metric has one type
		}
		types[name] = kind
		byName[group][name] = append(byName[group][name], series{labels, s})
	}
	out := lines{bufio.NewWriter(to)}
	for _, group := range byName {
		names := make([]string, 0, len(group))
		for name := range group {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			out.put("# TYPE ", name, " ", types[name], "\n")
			for _, one := range group[name] {
				if one.stat.Kind == KindHistogram {
					buckets(out, name, one)
					continue
				}
				out.put(name, "{", one.labels, "} ", strconv.FormatInt(one.stat.Value, 10), "\n")
			}
		}
	}
	return out.Flush()
}

// buckets writes a histogram.
func buckets(out lines, name string, s series) {
	labels := s.labels
	if labels != "" {
		labels += ","
	}
	r := s.stat.Histogram
	for i, bound := range Bounds() {
		out.put(name, "_bucket{", labels, `le="`, strconv.FormatFloat(bound, 'f', -1, 64), `"} `, strconv.FormatInt(r.Cumulative[i], 10), "\n")
	}
	count := strconv.FormatInt(r.Count, 10)
	out.put(name, "_bucket{", labels, `le="+Inf"} `, count, "\n")
	out.put(name, "_sum{", s.labels, "} ", strconv.FormatInt(r.Sum, 10), "\n")
	out.put(name, "_count{", s.labels, "} ", count, "\n")
}

// written are labels as they stand between braces.
func written(tags []Tag) string {
	var out strings.Builder
	for i, tag := range tags {
		if i > 0 {
			out.WriteByte(',')
		}
		out.WriteString(sanitized(tag.Name))
		out.WriteString(`="`)
		value := strings.ToValidUTF8(tag.Value, "\ufffd")
		if strings.ContainsAny(value, "\\\"\n") { // few do, and a Replacer is made for each
			value = strings.NewReplacer(`\`, `\\`, `"`, `\"`, "\n", `\n`).Replace(value)
		}
		out.WriteString(value)
		out.WriteByte('"')
	}
	return out.String()
}

// sanitized is a name that Prometheus takes.
func sanitized(name string) string {
	fine := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '_'
	}
	if i := 0; name != "" && (name[0] < '0' || name[0] > '9') {
		for i < len(name) && fine(name[i]) {
			i++
		}
		if i == len(name) {
			return name
		}
	}
	out := []byte(name)
	for i, c := range out {
		if !fine(c) {
			out[i] = '_'
		}
	}
	if len(out) > 0 && out[0] >= '0' && out[0] <= '9' {
		return "_" + string(out)
	}
	return string(out)
}
