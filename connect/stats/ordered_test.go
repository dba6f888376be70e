package stats_test

import (
	"cmp"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/stats"
)

// crowd are numbers as a large proxy has them: of owners whose names are much the same, of owners below owners, and of
// whole names; each reading has them in another order.
func crowd(t *testing.T, owners int) *stats.View {
	t.Helper()
	r := &stats.Registry{}
	names := strings.Fields("upstream_rq_total upstream_rq_200 upstream_rq_2xx external.upstream_rq_503 ssl.versions.TLSv1.3 ssl.ciphers.A-B grpc.z upstream_cx_active" +
		" a b c d e f g h http.in.downstream_rq_2xx http2.rx_reset circuit_breakers.default.cx_open worker_0.x 9.z")
	r.Add(func(yield func(stats.Stat) bool) {
		for _, i := range rand.Perm(owners) {
			for _, owner := range []string{
				fmt.Sprintf("cluster.s%d.default.dc1.internal.x-y.consul.", i), fmt.Sprintf("listener.127.0.0.1_%d.", i), fmt.Sprintf("listener.l%d.", i),
				fmt.Sprintf("http.upstream.s%d.default.default.dc1.", i), fmt.Sprintf("cluster.s%d.", i),
			} {
				order := rand.Perm(len(names))
				if i%2 == 0 {
					slices.Sort(order)
				}
				for _, at := range order {
					kind := stats.KindCounter
					if strings.HasSuffix(names[at], "active") {
						kind = stats.KindGauge
					}
					if !yield(stats.Stat{Owner: owner, Name: names[at], Kind: kind, Value: int64(i*at) % 7}) {
						return
					}
				}
				if !yield(stats.Stat{Owner: owner, Name: "upstream_rq_time", Kind: stats.KindHistogram, Histogram: &stats.Reading{Count: int64(i), Sum: 2}}) ||
					!yield(stats.Stat{Owner: owner, Name: "a", Value: 9}) { // for the second time
					return
				}
			}
		}
	})
	for i := range owners {
		scope := r.Scope(fmt.Sprintf("cluster.s%d.grpc.svc.", i))
		scope.Counter("total").Add(1)
		scope.Counter("9").Add(1)
		r.Scope(fmt.Sprintf("http.upstream.s%d.default.default.dc1.rbac.", i)).Counter("allowed").Add(1)
	}
	r.Scope("").Counter("alone").Add(1)
	r.Add(func(yield func(stats.Stat) bool) {
		yield(stats.Stat{Name: "control_plane.identifier", Kind: stats.KindText, Text: "me"})
	})
	tagger, err := stats.NewTagger(consulRules(), false)
	if err != nil {
		t.Fatal(err)
	}
	return &stats.View{Registry: r, Tagger: tagger}
}

// TestOrder: numbers are in the order of their whole names, each once, the higher of two.
func TestOrder(t *testing.T) {
	t.Parallel()
	v := crowd(t, 12)
	rank := [...]int{stats.KindText: 0, stats.KindCounter: 1, stats.KindGauge: 1, stats.KindHistogram: 2}
	var want []string
	seen := map[string]bool{}
	for s := range v.Registry.All() {
		if key := fmt.Sprint(rank[s.Kind], s.Name); !seen[key] {
			seen[key] = true
			want = append(want, key)
		}
	}
	slices.Sort(want)
	var got []string
	for _, s := range v.Select(stats.Query{}) {
		got = append(got, fmt.Sprint(rank[s.Kind], s.Name))
		if strings.HasSuffix(s.Name, ".a") && s.Value != 9 {
			t.Errorf("%s is %d", s.Name, s.Value)
		}
	}
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	var text strings.Builder
	if err := v.Text(&text, stats.Query{}); err != nil {
		t.Fatal(err)
	}
	var names []string
	for line := range strings.Lines(text.String()) {
		name, _, _ := strings.Cut(line, ": ")
		names = append(names, name)
	}
	for i := range got {
		if got[i][1:] != names[i] {
			t.Fatalf("line %d is of %s, not of %s", i, names[i], got[i][1:])
		}
	}
}

// TestLabels: what is found out once for names behind many owners is what each of them comes to by itself.
func TestLabels(t *testing.T) {
	t.Parallel()
	v := crowd(t, 12)
	var want []string
	for _, s := range v.Select(stats.Query{Kinds: []stats.Kind{stats.KindCounter, stats.KindGauge}}) {
		name, tags := v.Tagger.Tags(&s)
		slices.SortFunc(tags, func(a, b stats.Tag) int { return cmp.Compare(a.Name, b.Name) })
		line := "envoy_" + strings.NewReplacer(".", "_", "-", "_").Replace(name) + "{"
		for _, tag := range tags {
			line += strings.ReplaceAll(tag.Name, ".", "_") + "=" + tag.Value + ";"
		}
		want = append(want, fmt.Sprintf("%s} %d", line, s.Value))
	}
	var out strings.Builder
	if err := v.Prometheus(&out, stats.Query{Kinds: []stats.Kind{stats.KindCounter, stats.KindGauge}}); err != nil {
		t.Fatal(err)
	}
	var got []string
	for line := range strings.Lines(out.String()) {
		name, rest, ok := strings.Cut(strings.TrimSpace(line), "{")
		labels, value, _ := strings.Cut(rest, "} ")
		if !ok {
			continue
		}
		all := strings.Split(labels, ",")
		slices.Sort(all)
		text := name + "{"
		for _, one := range all {
			text += strings.ReplaceAll(one, `"`, "") + ";"
		}
		got = append(got, text+"} "+value)
	}
	slices.Sort(want)
	slices.Sort(got)
	if diff := gocmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

// TestReadingAllocates: reading takes memory by owners, and little by numbers.
func TestReadingAllocates(t *testing.T) {
	v := crowd(t, 200)
	count := float64(len(v.Select(stats.Query{})))
	empty := testing.AllocsPerRun(3, func() {
		for range v.Registry.All() { // what the sources of this test take, and the names
			continue
		}
	})
	q := stats.Query{Kinds: []stats.Kind{stats.KindCounter}}
	for _, row := range []struct {
		name  string
		write func(io.Writer, stats.Query) error
		most  float64 // for each number; those of tcp and of named listeners are metrics of their own
	}{{"text", v.Text, 0.1}, {"prometheus", v.Prometheus, 3}} {
		if n := testing.AllocsPerRun(3, func() {
			if err := row.write(io.Discard, q); err != nil {
				t.Error(err)
			}
		}); n > empty+count*row.most {
			t.Errorf("%s: %v allocations for %v numbers; to read them and put their names together took %v", row.name, n, count, empty)
		}
	}
}
