package stats_test

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/stats"
)

// consulRules are some of those that `consul connect envoy` writes.
func consulRules() []stats.TagRule {
	return []stats.TagRule{
		{Name: "consul.destination.custom_hash", Regex: `^cluster\.(?:passthrough~)?((?:([^.]+)~)?(?:[^.]+\.)?[^.]+\.[^.]+\.(?:[^.]+\.)?[^.]+\.[^.]+\.[^.]+\.consul\.)`},
		{Name: "consul.destination.service", Regex: `^cluster\.(?:passthrough~)?((?:[^.]+~)?(?:[^.]+\.)?([^.]+)\.[^.]+\.(?:[^.]+\.)?[^.]+\.[^.]+\.[^.]+\.consul\.)`},
		{Name: "consul.upstream.service", Regex: `^(?:tcp|http)\.upstream(?:_peered)?\.(([^.]+)(?:\.[^.]+)?(?:\.[^.]+)?\.[^.]+\.)`},
		{Name: "local_cluster", Fixed: "web", HasFixed: true},
		{Name: "envoy.cluster_name"}, // one of Envoy's own, named again
	}
}

// TestTrap24Tags: names of clusters carry HASH~ where an upstream overrides something, and labels must be cut out of
// them all the same.
func TestTrap24Tags(t *testing.T) {
	t.Parallel()
	tagger, err := stats.NewTagger(consulRules(), false)
	if err != nil {
		t.Fatal(err)
	}
	const td = "b8d790d2-4d6b-559d-cf91-01938d438004.consul."
	for _, row := range []struct {
		scope, name, want string
		tags              map[string]string
	}{
		{
			"cluster.0a1b2c~api.default.dc1.internal." + td, "upstream_rq_200", "cluster.upstream_rq",
			map[string]string{"envoy.response_code": "200", "envoy.cluster_name": "0a1b2c~api", "consul.destination.custom_hash": "0a1b2c", "consul.destination.service": "api"},
		},
		{
			"cluster.v1.api.default.dc1.internal." + td, "external.upstream_rq_5xx", "cluster.external.upstream_rq_xx",
			map[string]string{"envoy.response_code_class": "5", "envoy.cluster_name": "v1", "consul.destination.custom_hash": "", "consul.destination.service": "api"},
		},
		{"cluster.local_app.", "upstream_cx_total", "cluster.upstream_cx_total", map[string]string{"envoy.cluster_name": "local_app"}},
		{
			"http.upstream.api.default.default.dc1.", "downstream_rq_time", "http.downstream_rq_time",
			map[string]string{"envoy.http_conn_manager_prefix": "upstream", "consul.upstream.service": "api"},
		},
		{"listener.127.0.0.1_29711.", "downstream_cx_total", "listener.downstream_cx_total", map[string]string{"envoy.listener_address": "127.0.0.1_29711"}},
		{
			"listener.127.0.0.1_29711.", "http.public_listener.downstream_rq_2xx", "listener.http.downstream_rq_xx",
			map[string]string{"envoy.listener_address": "127.0.0.1_29711", "envoy.http_conn_manager_prefix": "public_listener", "envoy.response_code_class": "2"},
		},
		{"listener.[__1]_80.", "ssl.versions.TLSv1.3", "listener.ssl.versions", map[string]string{"envoy.listener_address": "[__1]_80", "envoy.ssl_version": "TLSv1.3"}},
		{"listener.127.0.0.1_1.", "worker_0.downstream_cx_total", "listener.worker.downstream_cx_total", map[string]string{"envoy.worker_id": "0", "envoy.listener_address": "127.0.0.1_1"}},
		{"", "server.live", "server.live", map[string]string{}},
	} {
		row.tags["local_cluster"] = "web"
		// What is known of an owner must not change what is found.
		for _, scope := range []int{0, len(row.scope), len(row.scope)} {
			name, tags := tagger.Tags(&stats.Stat{Name: row.scope + row.name, Scope: scope})
			got := map[string]string{}
			for _, tag := range tags {
				got[tag.Name] = tag.Value
			}
			if diff := cmp.Diff(row.tags, got); diff != "" || name != row.want {
				t.Errorf("%s with scope %d: name %q, want %q\n%s", row.name, scope, name, row.want, diff)
			}
		}
	}
}

func TestBadRules(t *testing.T) {
	t.Parallel()
	for _, r := range []stats.TagRule{{Name: "a"}, {Name: "a", Regex: "("}, {Name: "a", Regex: "b"}} {
		if _, err := stats.NewTagger([]stats.TagRule{r}, false); err == nil {
			t.Errorf("%+v: no error", r)
		}
	}
	for _, p := range []stats.Pattern{{}, {Regex: "("}} {
		if _, err := stats.NewMatcher(false, []stats.Pattern{p}, nil); err == nil {
			t.Errorf("%+v: no error", p)
		}
	}
}

func view(t *testing.T) *stats.View {
	t.Helper()
	r := &stats.Registry{}
	scope := r.Scope("cluster.api.")
	scope.Counter("upstream_rq_200").Add(3)
	scope.Counter("upstream_rq_404").Add(0)
	scope.Gauge("upstream_cx_active").Set(2)
	scope.Histogram("upstream_rq_time").Record(7)
	r.Scope("http.a.").Histogram("downstream_rq_time")
	r.Add(func(yield func(stats.Stat) bool) {
		yield(stats.Stat{Name: "control_plane.identifier", Kind: stats.KindText})
	})
	tagger, err := stats.NewTagger([]stats.TagRule{{Name: "local_cluster", Fixed: `w"b`, HasFixed: true}}, false)
	if err != nil {
		t.Fatal(err)
	}
	return &stats.View{Registry: r, Tagger: tagger}
}

func TestView(t *testing.T) {
	t.Parallel()
	v := view(t)
	text := func(q stats.Query) string {
		var out strings.Builder
		if err := v.Text(&out, q); err != nil {
			t.Fatal(err)
		}
		return out.String()
	}
	const times = "cluster.api.upstream_rq_time: P0(nan,5) P25(nan,6.25) P50(nan,7.5) P75(nan,8.75) P90(nan,9.5) P95(nan,9.75) P99(nan,9.95) P99.5(nan,9.975) P99.9(nan,9.995000000000001) P100(nan,10)\n"
	for _, row := range []struct {
		q    stats.Query
		want string
	}{
		{stats.Query{}, "control_plane.identifier: \"\"\ncluster.api.upstream_cx_active: 2\ncluster.api.upstream_rq_200: 3\ncluster.api.upstream_rq_404: 0\n" + times + "http.a.downstream_rq_time: No recorded values\n"},
		{stats.Query{Used: true}, "cluster.api.upstream_cx_active: 2\ncluster.api.upstream_rq_200: 3\n" + times},
		{stats.Query{Filter: regexp.MustCompile("rq_[0-9]")}, "cluster.api.upstream_rq_200: 3\ncluster.api.upstream_rq_404: 0\n"},
		{stats.Query{Kinds: []stats.Kind{stats.KindGauge}}, "cluster.api.upstream_cx_active: 2\n"},
		{
			stats.Query{Used: true, Kinds: []stats.Kind{stats.KindHistogram}, Buckets: stats.Cumulative},
			"cluster.api.upstream_rq_time: B0.5(nan,0) B1(nan,0) B5(nan,0) B10(nan,1) B25(nan,1) B50(nan,1) B100(nan,1) B250(nan,1) B500(nan,1) B1000(nan,1) B2500(nan,1)" +
				" B5000(nan,1) B10000(nan,1) B30000(nan,1) B60000(nan,1) B300000(nan,1) B600000(nan,1) B1.8e+06(nan,1) B3.6e+06(nan,1)\n",
		},
		{
			stats.Query{Used: true, Kinds: []stats.Kind{stats.KindHistogram}, Buckets: stats.Disjoint},
			"cluster.api.upstream_rq_time: B0.5(nan,0) B1(nan,0) B5(nan,0) B10(nan,1) B25(nan,0) B50(nan,0) B100(nan,0) B250(nan,0) B500(nan,0) B1000(nan,0) B2500(nan,0)" +
				" B5000(nan,0) B10000(nan,0) B30000(nan,0) B60000(nan,0) B300000(nan,0) B600000(nan,0) B1.8e+06(nan,0) B3.6e+06(nan,0)\n",
		},
	} {
		if diff := cmp.Diff(row.want, text(row.q)); diff != "" {
			t.Error(diff)
		}
	}
	var out strings.Builder
	if err := v.JSON(&out, stats.Query{Filter: regexp.MustCompile("^http.a|404")}); err != nil {
		t.Fatal(err)
	}
	if got := out.String(); !strings.HasPrefix(got, `{"stats":[{"name":"cluster.api.upstream_rq_404","value":0},{"histograms":{"computed_quantiles":[{"name":"http.a.downstream_rq_time","values":[{"cumulative":null,"interval":null}`) ||
		!strings.Contains(got, `"supported_quantiles":[0,25,50,75,90,95,99,99.5,99.9,100]`) {
		t.Error(got)
	}
	out.Reset()
	if err := v.Prometheus(&out, stats.Query{Used: true}); err != nil {
		t.Fatal(err)
	}
	got := out.String()
	for _, line := range []string{
		"# TYPE envoy_cluster_upstream_rq counter\n", "# TYPE envoy_cluster_upstream_rq_time histogram\n",
		`envoy_cluster_upstream_rq{local_cluster="w\"b",envoy_response_code="200",envoy_cluster_name="api"} 3` + "\n",
		`envoy_cluster_upstream_cx_active{local_cluster="w\"b",envoy_cluster_name="api"} 2` + "\n",
		`envoy_cluster_upstream_rq_time_bucket{local_cluster="w\"b",envoy_cluster_name="api",le="0.5"} 0` + "\n",
		`envoy_cluster_upstream_rq_time_bucket{local_cluster="w\"b",envoy_cluster_name="api",le="10"} 1` + "\n",
		`envoy_cluster_upstream_rq_time_sum{local_cluster="w\"b",envoy_cluster_name="api"} 7` + "\n",
	} {
		if !strings.Contains(got, line) {
			t.Errorf("no line %q in\n%s", line, got)
		}
	}
}

func TestMatcher(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		reject    bool
		only, not []stats.Pattern
		want      string
	}{
		{want: "cluster.a http.b server.c"},
		{reject: true},
		{only: []stats.Pattern{{Prefix: "cluster."}, {Exact: "SERVER.C", IgnoreCase: true}}, want: "cluster.a server.c"},
		{only: []stats.Pattern{}},
		{not: []stats.Pattern{{Suffix: ".b"}, {Regex: "serv.*"}}, want: "cluster.a"},
		{not: []stats.Pattern{{Contains: "ster"}, {Regex: "http"}}, want: "http.b server.c"},
	} {
		m, err := stats.NewMatcher(row.reject, row.only, row.not)
		if err != nil {
			t.Fatal(err)
		}
		var got []string
		for _, name := range []string{"cluster.a", "http.b", "server.c"} {
			if m.Shows(name) {
				got = append(got, name)
			}
		}
		if s := strings.Join(got, " "); s != row.want {
			t.Errorf("%+v: %q, want %q", row, s, row.want)
		}
	}
}

func TestCodes(t *testing.T) {
	t.Parallel()
	c := &stats.Codes{}
	for _, status := range []int{200, 200, 404, 503, 500, 0, 7} {
		c.Count(status)
	}
	got := map[string]int64{}
	c.Each("upstream_rq", func(s stats.Stat) bool { got[s.Name] = s.Value; return true })
	want := map[string]int64{
		"upstream_rq_200": 2, "upstream_rq_404": 1, "upstream_rq_503": 1, "upstream_rq_500": 1,
		"upstream_rq_2xx": 2, "upstream_rq_4xx": 1, "upstream_rq_5xx": 2, "upstream_rq_completed": 7,
	}
	if diff := cmp.Diff(want, got); diff != "" || c.Class(5) != 2 || c.Completed() != 7 {
		t.Error(diff)
	}
	if c.Reset(); c.Completed() != 0 {
		t.Error("not reset")
	}
}

func TestCodesAllocate(t *testing.T) {
	c := &stats.Codes{}
	c.Count(200)
	if n := testing.AllocsPerRun(100, func() { c.Count(200) }); n != 0 {
		t.Errorf("counting allocates %v times", n)
	}
}

func FuzzTags(f *testing.F) {
	f.Add("cluster.a~b.c.d.internal.x.consul.", "upstream_rq_200", `^cluster\.((a)~)`)
	f.Add("listener.[__1]_80.", "http.a.b", `^(a|(b))`)
	f.Fuzz(func(t *testing.T, scope, name, regex string) {
		tagger, err := stats.NewTagger(append(consulRules(), stats.TagRule{Name: "fuzz", Regex: regex}), false)
		if err != nil {
			return
		}
		for _, s := range []stats.Stat{{Name: scope + name, Scope: len(scope)}, {Name: scope + name}} {
			if got, _ := tagger.Tags(&s); len(got) > len(scope+name) {
				t.Errorf("%q became longer: %q", scope+name, got)
			}
		}
	})
}

// Who comes back after a reset begins at 0 and is shown from there.
func TestResetOfWhoComesBack(t *testing.T) {
	t.Parallel()
	count := int64(10)
	v := &stats.View{Registry: &stats.Registry{}}
	v.Registry.Add(func(yield func(stats.Stat) bool) {
		yield(stats.Stat{Name: "cluster.api.upstream_rq_total", Kind: stats.KindCounter, Value: count})
	})
	v.Reset()
	for _, row := range []struct{ count, want int64 }{{10, 0}, {12, 2}, {3, 3}, {11, 11}} {
		count = row.count
		if got := v.Select(stats.Query{}); len(got) != 1 || got[0].Value != row.want {
			t.Errorf("%d: %v, want %d", row.count, got, row.want)
		}
	}
}

// Whatever names and texts there are, what is shown as JSON is JSON.
func TestJSONOfOddNames(t *testing.T) {
	t.Parallel()
	r := &stats.Registry{}
	want := map[string]any{}
	for _, name := range []string{`a"b`, `c\d`, "e\nf", "g\x00", "é", "plain.name"} {
		r.Scope("cluster." + name + ".").Counter("n").Add(1)
		want["cluster."+name+".n"] = 1.0
	}
	r.Add(func(yield func(stats.Stat) bool) {
		yield(stats.Stat{Name: "text", Kind: stats.KindText, Text: "<\"\n>"})
	})
	want["text"] = "<\"\n>"
	var out strings.Builder
	if err := (&stats.View{Registry: r}).JSON(&out, stats.Query{}); err != nil {
		t.Fatal(err)
	}
	var got struct {
		Stats []struct {
			Name  string
			Value any
		}
	}
	if err := json.Unmarshal([]byte(out.String()), &got); err != nil {
		t.Fatal(err)
	}
	all := map[string]any{}
	for _, one := range got.Stats {
		all[one.Name] = one.Value
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Error(diff)
	}
}
