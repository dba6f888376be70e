package route_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/route"
	"github.com/serai-net/serai/connect/wire"
)

// fields are those of h as "name: value".
func fields(h *wire.Header) []string {
	var all []string
	for name, value := range h.All() {
		all = append(all, name+": "+value)
	}
	return all
}

func TestEditsOrder(t *testing.T) {
	t.Parallel()
	add := func(name string) mesh.HeaderEdit {
		return mesh.HeaderEdit{RequestSet: []mesh.HeaderValue{{Name: "x", Value: name}, {Name: "last", Value: name, Append: mesh.OverwriteOrAdd}}}
	}
	for _, specific := range []bool{false, true} {
		table := compile(t, &mesh.Route{Edit: add("table"), SpecificWins: specific, VirtualHosts: []*mesh.VirtualHost{{
			Name: "v", Domains: []string{"*"}, Edit: add("host"), Rules: []*mesh.Rule{{
				Edit: add("rule"), Targets: []mesh.Target{{Cluster: "a", Weight: 1, Edit: add("target")}},
			}},
		}}})
		want := []string{"last: table", "x: target", "x: rule", "x: host", "x: table"}
		if specific {
			want = []string{"last: rule", "x: target", "x: table", "x: host", "x: rule"}
		}
		rule, h := table.Match(&wire.Exchange{}, request("/")), wire.Header{}
		rule.EditOf(rule.Target()).Request(&wire.Exchange{}, &h)
		for _, e := range rule.Edits {
			e.Request(&wire.Exchange{}, &h)
		}
		if diff := cmp.Diff(want, fields(&h)); diff != "" {
			t.Errorf("specific %t: -want +got:\n%s", specific, diff)
		}
		if rule.Answers(nil) {
			t.Error("responses are changed")
		}
	}
}

// Each row is what Envoy 1.36 made of it (integration: TestHeaderValuesAsEnvoy).
func TestEdit(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name   string
		set    []mesh.HeaderValue
		remove []string
		want   []string
	}{
		{"append", []mesh.HeaderValue{{Name: "a", Value: "2"}}, nil, []string{"a: 1", "a: 2"}},
		{"absent", []mesh.HeaderValue{{Name: "a", Value: "2", Append: mesh.AddIfAbsent}, {Name: "b", Value: "2", Append: mesh.AddIfAbsent}}, nil, []string{"a: 1", "b: 2"}},
		{"overwrite", []mesh.HeaderValue{{Name: "a", Value: "2", Append: mesh.OverwriteOrAdd}, {Name: "b", Value: "2", Append: mesh.OverwriteOrAdd}}, nil, []string{"a: 2", "b: 2"}},
		{"if there", []mesh.HeaderValue{{Name: "a", Value: "2", Append: mesh.OverwriteIfExists}, {Name: "b", Value: "2", Append: mesh.OverwriteIfExists}}, nil, []string{"a: 2"}},
		{"overwrites come first", []mesh.HeaderValue{{Name: "a", Value: "2"}, {Name: "a", Value: "3", Append: mesh.OverwriteOrAdd}}, nil, []string{"a: 3", "a: 2"}},
		{
			"conditions hold for what came",
			[]mesh.HeaderValue{{Name: "b", Value: "2"}, {Name: "b", Value: "3", Append: mesh.AddIfAbsent}},
			nil,
			[]string{"a: 1", "b: 2", "b: 3"},
		},
		{"remove", []mesh.HeaderValue{{Name: "a", Value: "2", Append: mesh.AddIfAbsent}}, []string{"a"}, []string{"a: 2"}},
		{"empty", []mesh.HeaderValue{{Name: "b", KeepEmpty: true}, {Name: "c", Text: "%REQ(none)%"}, {Name: "d", Text: "%REQ(none)%", KeepEmpty: true}}, nil, []string{"a: 1", "b: ", "d: "}},
		{
			"values of what came",
			[]mesh.HeaderValue{{Name: "a", Text: "%REQ(a)%!", Append: mesh.OverwriteOrAdd}, {Name: "b", Text: "%REQ(a)%?%REQ(:PATH)%"}},
			nil,
			[]string{"a: 1!", "b: 1?/x?y"},
		},
		{"no line breaks", []mesh.HeaderValue{{Name: "b", Text: "%DYNAMIC_METADATA(n:k)%"}}, nil, []string{"a: 1", "b: 1  2"}},
	} {
		x, req := &wire.Exchange{}, request("/x?y")
		x.Reset(nil, &wire.Peer{}, time.Time{})
		x.Metadata.Set("n", "k", "1\r\n2")
		req.Header.Add("a", "1")
		x.Request = req
		table := rules(t, &mesh.Rule{Edit: mesh.HeaderEdit{RequestSet: row.set, RequestRemove: row.remove}})
		for _, e := range table.Match(&wire.Exchange{}, req).Edits {
			e.Request(x, &req.Header)
		}
		if diff := cmp.Diff(row.want, fields(&req.Header)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", row.name, diff)
		}
	}
}

func TestEditResponse(t *testing.T) {
	t.Parallel()
	rule := rules(t, &mesh.Rule{Edit: mesh.HeaderEdit{
		ResponseSet:    []mesh.HeaderValue{{Name: "b", Text: "%RESP(a)% %RESP(:STATUS)%"}},
		ResponseRemove: []string{"c"},
	}}).Match(&wire.Exchange{}, request("/"))
	resp := wire.Text(200, "x")
	resp.Header.Reset()
	resp.Header.Add("a", "1")
	resp.Header.Add("c", "2")
	for _, e := range rule.Edits {
		e.Response(&wire.Exchange{}, resp)
	}
	if got := fields(&resp.Header); !slices.Equal(got, []string{"a: 1", "b: 1 200"}) || !rule.Answers(nil) {
		t.Error(got)
	}
}

func TestPlainEditAllocatesNothing(t *testing.T) {
	rule := rules(t, &mesh.Rule{Edit: mesh.HeaderEdit{
		RequestSet:    []mesh.HeaderValue{{Name: "a", Value: "1"}, {Name: "b", Value: "1", Append: mesh.OverwriteOrAdd}},
		RequestRemove: []string{"c"},
	}}).Match(&wire.Exchange{}, request("/"))
	x, h := &wire.Exchange{}, wire.Header{}
	rule.Edits[0].Request(x, &h)
	if n := testing.AllocsPerRun(100, func() { h.Reset(); rule.Edits[0].Request(x, &h) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEditErrors(t *testing.T) {
	t.Parallel()
	for _, at := range []string{"rule", "target"} {
		edit := mesh.HeaderEdit{ResponseSet: []mesh.HeaderValue{{Name: "a", Text: "%NOPE%"}}}
		rule := &mesh.Rule{Targets: []mesh.Target{{Edit: edit}}}
		if at == "rule" {
			rule = &mesh.Rule{Edit: edit}
		}
		if err := compileError(rule); err == nil || !strings.Contains(err.Error(), "header a") {
			t.Errorf("%s: %v", at, err)
		}
	}
}

func compileError(rule *mesh.Rule) error {
	_, err := route.Compile(&mesh.Route{VirtualHosts: []*mesh.VirtualHost{{Domains: []string{"*"}, Rules: []*mesh.Rule{rule}}}})
	return err
}
