package stats

import (
	"bufio"
	"encoding/json"
	"io"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode/utf8"
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
	// last is how many numbers were asked for the last time, without a filter.
	last int
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

// Select returns what is asked for: texts first, then counters and gauges, then
// histograms, each by name.
func (v *View) Select(q Query) []Stat {
	o := v.collect(q)
	all := make([]Stat, 0, len(o.order))
	for s := range o.each() {
		one := *s
		one.whole()
		all = append(all, one)
	}
	return all
}

// collect reads what is asked for.
func (v *View) collect(q Query) *ordered {
	v.mu.Lock()
	before, room := v.before, v.last
	v.mu.Unlock()
	if q.Filter != nil {
		room = 0 // it is for few, as a rule
	}
	o := &ordered{all: make([]Stat, 0, room+room/32)}
	var anew []string
	var name []byte // the whole one, where it is needed
	named := len(before) > 0 || v.Matcher != nil || q.Filter != nil
	for s := range v.Registry.each() {
		if !q.shows(&s) {
			continue // whoever was reset is looked at again below
		}
		s.split()
		if named {
			name = append(append(name[:0], s.Owner...), s.Name...)
		}
		if s.Kind == KindCounter && len(before) > 0 {
			if was := before[string(name)]; was <= s.Value {
				s.Value -= was
			} else {
				anew = append(anew, string(name))
			}
		}
		if q.shows(&s) && (v.Matcher == nil || v.Matcher.Shows(string(name))) && (q.Filter == nil || q.Filter.Match(name)) {
			o.all = append(o.all, s)
		}
	}
	v.forget(anew)
	if q.Filter == nil {
		v.mu.Lock()
		v.last = len(o.all)
		v.mu.Unlock()
	}
	o.arrange()
	return o
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

// lines are written; what goes wrong with one, Flush tells.
type lines struct{ *bufio.Writer }

func (l lines) put(parts ...string) {
	for _, part := range parts {
		if _, err := l.WriteString(part); err != nil {
			return
		}
	}
}

// number puts a whole number.
func (l lines) number(n int64) {
	l.Write(strconv.AppendInt(l.AvailableBuffer(), n, 10)) //nolint:errcheck // Flush tells
}

// quantiles are those of Envoy, as shares.
func quantiles() []float64 { return []float64{0, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 0.995, 0.999, 1} }

func percent(share float64) string { return strconv.FormatFloat(share*100, 'g', 4, 64) }

// Text writes one number on a line.
func (v *View) Text(to io.Writer, q Query) error {
	out := lines{bufio.NewWriterSize(to, writeSize)}
	for s := range v.collect(q).each() {
		out.put(s.Owner, s.Name, ": ")
		switch s.Kind {
		case KindText:
			out.put(strconv.Quote(s.Text))
		case KindHistogram:
			out.put(q.Buckets.text(s.Histogram))
		default:
			out.number(s.Value)
		}
		out.put("\n")
	}
	return out.Flush()
}

// writeSize is how many bytes are written at once.
const writeSize = 16 << 10

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

// JSON writes what is asked for as one object. Histograms are the last in it.
func (v *View) JSON(to io.Writer, q Query) error {
	type pair struct {
		Cumulative *float64 `json:"cumulative"`
		Interval   *float64 `json:"interval"`
	}
	type computed struct {
		Name   string `json:"name"`
		Values []pair `json:"values"`
	}
	histograms, bucketed := []computed{}, []any{}
	out := lines{bufio.NewWriterSize(to, writeSize)}
	out.put(`{"stats":[`)
	comma := ""
	for s := range v.collect(q).each() {
		switch s.Kind {
		case KindHistogram:
			named := *s
			named.whole()
			if q.Buckets != Quantiles {
				bucketed = append(bucketed, q.Buckets.object(&named))
				continue
			}
			one := computed{Name: named.Name}
			for _, share := range quantiles() {
				var p pair
				if value, ok := s.Histogram.Quantile(share); ok {
					p.Cumulative = &value
				}
				one.Values = append(one.Values, p)
			}
			histograms = append(histograms, one)
			continue
		case KindText:
			out.put(comma, `{"name":`)
			out.quoted(s.Owner, s.Name)
			out.put(`,"value":`)
			out.quoted(s.Text, "")
		default:
			out.put(comma, `{"name":`)
			out.quoted(s.Owner, s.Name)
			out.put(`,"value":`)
			out.number(s.Value)
		}
		out.put("}")
		comma = ","
	}
	if len(histograms) > 0 {
		var supported []json.Number
		for _, share := range quantiles() {
			supported = append(supported, json.Number(percent(share)))
		}
		out.put(comma)
		out.value(map[string]any{"histograms": map[string]any{"supported_quantiles": supported, "computed_quantiles": histograms}})
		comma = ","
	}
	if len(bucketed) > 0 {
		out.put(comma)
		out.value(map[string]any{"histograms": bucketed})
	}
	out.put("]}\n")
	return out.Flush()
}

// quoted puts two parts of a text as one string of JSON.
func (l lines) quoted(a, b string) {
	if plainJSON(a) && plainJSON(b) {
		l.put(`"`, a, b, `"`)
		return
	}
	l.value(a + b)
}

// plainJSON tells whether a text stands in a string of JSON as it is.
func plainJSON(text string) bool {
	for i := range len(text) {
		if c := text[i]; c < ' ' || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// value puts a value as JSON.
func (l lines) value(of any) {
	text, err := json.Marshal(of)
	if err != nil { // of numbers that are none, which there are not
		text = []byte("null")
	}
	l.Write(text) //nolint:errcheck // Flush tells
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
