package stack_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/rbac"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// intention allows (or denies) one service.
func intention(action mesh.Action, name string, permissions ...mesh.Permission) *mesh.Intention {
	if permissions == nil {
		permissions = []mesh.Permission{{Any: true}}
	}
	return &mesh.Intention{Action: action, Policies: []mesh.IntentionPolicy{{
		Name: name, Permissions: permissions,
		Principals: []mesh.Principal{{Name: &mesh.StringMatch{Kind: mesh.MatchRegex, Regex: "^spiffe://td.consul/ns/default/dc/[^/]+/svc/" + name + "$"}}},
	}}}
}

func path(prefix string) mesh.Permission {
	return mesh.Permission{Path: &mesh.StringMatch{Kind: mesh.MatchPrefix, Prefix: prefix}}
}

func TestFilters(t *testing.T) {
	t.Parallel()
	type outcome struct {
		Status int
		Flag   wire.Flag
		Body   string
	}
	allowed := outcome{200, wire.FlagNone, ""}
	denied := outcome{403, wire.FlagDenied, "RBAC: access denied\n"}
	refused := outcome{503, wire.FlagInternal, "configuration not understood by this proxy\n"}
	filter := func(all ...*mesh.Intention) []mesh.HTTPFilter {
		var filters []mesh.HTTPFilter
		for _, in := range all {
			filters = append(filters, mesh.HTTPFilter{Intention: in})
		}
		return filters
	}
	tests := []struct {
		name    string
		http    mesh.HTTP
		peer    *wire.Peer
		path    string
		outcome outcome
	}{
		{"none", mesh.HTTP{}, &wire.Peer{}, "/", allowed},
		{"allowed", mesh.HTTP{Filters: filter(intention(mesh.Allow, "web"))}, web(t), "/", allowed},
		{"somebody else", mesh.HTTP{Filters: filter(intention(mesh.Allow, "api"))}, web(t), "/", denied},
		{"nobody", mesh.HTTP{Filters: filter(intention(mesh.Allow, "web"))}, &wire.Peer{}, "/", denied},
		{"no policies", mesh.HTTP{Filters: filter(&mesh.Intention{})}, web(t), "/", denied},
		{"denied", mesh.HTTP{Filters: filter(intention(mesh.Deny, "web"))}, web(t), "/", denied},
		{"all must allow", mesh.HTTP{Filters: filter(intention(mesh.Allow, "web"), intention(mesh.Deny, "web", path("/admin")))}, web(t), "/admin", denied},
		{"all allow", mesh.HTTP{Filters: filter(intention(mesh.Allow, "web"), intention(mesh.Deny, "web", path("/admin")))}, web(t), "/other", allowed},
		{"on the normal path", mesh.HTTP{NormalizePath: true, Filters: filter(intention(mesh.Deny, "web", path("/admin")))}, web(t), "/x/../%61dmin", denied},
		{"on the merged path", mesh.HTTP{MergeSlashes: true, Filters: filter(intention(mesh.Deny, "web", path("/admin")))}, web(t), "//admin", denied},
		{"refused intention", mesh.HTTP{Filters: filter(&mesh.Intention{Action: mesh.Deny, Refusal: "unknown"})}, web(t), "/", denied},
		{"refused filter", mesh.HTTP{Filters: []mesh.HTTPFilter{{Refusal: "unknown"}}}, web(t), "/", refused},
		{"denied before refused", mesh.HTTP{Filters: append(filter(&mesh.Intention{}), mesh.HTTPFilter{Refusal: "unknown"})}, web(t), "/", denied},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := tt.http
			h.Route = direct().Route
			got := do(t, compile(t, &h, clusters(t, nil)), tt.peer, request("GET", tt.path))
			if diff := cmp.Diff(tt.outcome, outcome{got.Status, got.Flag, got.Body}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestCompileErrors(t *testing.T) {
	t.Parallel()
	bad := direct()
	bad.Route.VirtualHosts[0].Rules[0].Match = mesh.Match{Regex: "("}
	broken := intention(mesh.Allow, "(")
	for name, h := range map[string]*mesh.HTTP{
		"route": bad, "empty filter": {Filters: []mesh.HTTPFilter{{}}}, "intention": {Filters: []mesh.HTTPFilter{{Intention: broken}}},
	} {
		if _, err := stack.HTTP(h, nil, clusters(t, nil)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestUnderscores(t *testing.T) {
	t.Parallel()
	h := direct()
	h.RejectUnderscores = true
	got := do(t, compile(t, h, clusters(t, nil)), &wire.Peer{}, request("GET", "/", "x-a", "1", "x_b", "2"))
	if got.Status != 400 || got.Flag != wire.FlagDownstreamProtocol {
		t.Errorf("%+v", got)
	}
	if got := do(t, compile(t, h, clusters(t, nil)), &wire.Peer{}, request("GET", "/", "x-a", "_")); got.Status != 200 {
		t.Errorf("%+v", got)
	}
	h = direct()
	h.DropUnderscores = true
	req := request("GET", "/", "x-a", "1", "x_b", "2", "_", "3")
	if got := do(t, compile(t, h, clusters(t, nil)), &wire.Peer{}, req); got.Status != 200 || req.Header.Len() != 1 {
		t.Errorf("%+v, %v", got, req.Header)
	}
}

func TestUpgrades(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		rule    map[string]bool
		method  string
		upgrade string
		want    int
	}{
		{nil, "GET", "", 200},
		{nil, "GET", "websocket", 200},
		{nil, "GET", "WebSocket", 200},
		{nil, "GET", "other", 403},
		{nil, "CONNECT", "", 403},
		{map[string]bool{"websocket": false}, "GET", "websocket", 403},
		{map[string]bool{"other": true}, "GET", "other", 200},
		{map[string]bool{"other": true}, "GET", "websocket", 200},
		{map[string]bool{"connect": true}, "CONNECT", "", 501}, // allowed, but a direct response is no tunnel
	} {
		h := direct()
		h.Upgrades = []string{"websocket"}
		h.Route.VirtualHosts[0].Rules[0].Upgrades = test.rule
		req := request(test.method, "/")
		req.Upgrade = test.upgrade
		if got := do(t, compile(t, h, clusters(t, nil)), &wire.Peer{}, req); got.Status != test.want {
			t.Errorf("%+v: %+v", test, got)
		}
	}
}

// Network intentions on an HTTP chain are decided for each request.
func TestConnection(t *testing.T) {
	t.Parallel()
	if stack.Connection(nil) != nil {
		t.Error("a layer without a policy")
	}
	service := wire.ServiceFunc(func(*wire.Exchange, *wire.Request) (*wire.Response, error) { return wire.Text(200, ""), nil })
	for name, want := range map[string]int{"web": 200, "api": 403} {
		policy, err := rbac.Compile([]*mesh.Intention{intention(mesh.Allow, name)})
		if err != nil {
			t.Fatal(err)
		}
		x := exchange(web(t))
		got := finish(t, wire.Stack(service, stack.Connection(policy)), x, request("GET", "/"))
		if got.Status != want || x.CloseDownstream != (want == 403) {
			t.Errorf("%s: %+v, close %v", name, got, x.CloseDownstream)
		}
	}
}

func TestRouter(t *testing.T) {
	t.Parallel()
	echo := backend(t, func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintf(w, "%s %s%s", r.Method, r.Host, r.RequestURI)
	})
	table := &mesh.Route{Name: "table"}
	add := func(prefix string, rule *mesh.Rule) {
		rule.Match.Prefix = prefix
		table.VirtualHosts[0].Rules = append(table.VirtualHosts[0].Rules, rule)
	}
	table.VirtualHosts = []*mesh.VirtualHost{{Domains: []string{"example.com"}}}
	to := func(name string) []mesh.Target { return []mesh.Target{{Cluster: name}} }
	add("/named", &mesh.Rule{Name: "name", Targets: to("c")})
	add("/unknown", &mesh.Rule{Targets: to("missing")})
	add("/nowhere", &mesh.Rule{})
	add("/refused", &mesh.Rule{Targets: to("c"), Refusal: "unknown field"})
	add("/rewritten/", &mesh.Rule{Targets: to("c"), HasPrefixRewrite: true, PrefixRewrite: "/", HostRewrite: "other"})
	add("/", &mesh.Rule{Targets: to("c")})
	set := clusters(t, map[string]string{"c": echo})
	service := compile(t, &mesh.HTTP{Route: table}, set)
	tests := []struct {
		host, path string
		want       answer
		route      string
		cluster    string
	}{
		{"example.com", "/a?b", answer{Status: 200, Body: "GET example.com/a?b", Tries: 1}, "table", "c"},
		{"example.com", "/named", answer{Status: 200, Body: "GET example.com/named", Tries: 1}, "name", "c"},
		{"example.com", "/rewritten/x?y", answer{Status: 200, Body: "GET other/x?y", Tries: 1}, "table", "c"},
		{"example.org", "/", answer{Status: 404, Flag: wire.FlagNoRoute, Body: "Not Found\n"}, "", ""},
		{"example.com", "/unknown", answer{Status: 503, Flag: wire.FlagNoCluster, Body: "Service Unavailable\n"}, "table", "missing"},
		{"example.com", "/nowhere", answer{Status: 503, Flag: wire.FlagNoCluster, Body: "Service Unavailable\n"}, "table", ""},
		{"example.com", "/refused", answer{Status: 503, Flag: wire.FlagInternal, Body: "configuration not understood by this proxy\n"}, "table", ""},
	}
	for _, tt := range tests {
		x, req := exchange(&wire.Peer{}), request("GET", tt.path)
		req.Authority = tt.host
		got := finish(t, service, x, req)
		got.Header = wire.Header{}
		if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(wire.Header{})); diff != "" {
			t.Errorf("%s%s: -want +got:\n%s", tt.host, tt.path, diff)
		}
		if x.Route != tt.route || x.Cluster != tt.cluster {
			t.Errorf("%s%s: route %q, cluster %q", tt.host, tt.path, x.Route, x.Cluster)
		}
		x.Done(time.Now())
	}

	// A name given by an outer layer stays.
	x := exchange(&wire.Peer{})
	x.Route = "outer"
	finish(t, service, x, request("GET", "/named"))
	if x.Done(time.Now()); x.Route != "outer" {
		t.Errorf("route %q", x.Route)
	}
}

func TestNamedTable(t *testing.T) {
	t.Parallel()
	h := &mesh.HTTP{RouteName: "later"}
	got := do(t, compile(t, h, clusters(t, nil)), &wire.Peer{}, request("GET", "/"))
	if got.Status != 503 || got.Flag != wire.FlagNoRoute {
		t.Errorf("before it comes: %+v", got)
	}
	service, err := stack.HTTP(h, map[string]*mesh.Route{"later": direct().Route}, clusters(t, nil))
	if err != nil {
		t.Fatal(err)
	}
	if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != 200 {
		t.Errorf("%+v", got)
	}
}

func TestHeaderEdits(t *testing.T) {
	t.Parallel()
	set := func(action mesh.EditAction, pairs ...string) []mesh.HeaderValue {
		var all []mesh.HeaderValue
		for i := 0; i < len(pairs); i += 2 {
			all = append(all, mesh.HeaderValue{Name: pairs[i], Value: pairs[i+1], Append: action})
		}
		return all
	}
	came := "x-a: 1, x-b: 2, x-a: 3"
	tests := []struct {
		name string
		edit mesh.HeaderEdit
		want string
	}{
		{"nothing", mesh.HeaderEdit{}, came},
		{"append", mesh.HeaderEdit{RequestSet: set(mesh.AppendOrAdd, "x-a", "4", "x-c", "5")}, came + ", x-a: 4, x-c: 5"},
		{"add if absent", mesh.HeaderEdit{RequestSet: set(mesh.AddIfAbsent, "x-a", "4", "x-c", "5")}, came + ", x-c: 5"},
		{"overwrite", mesh.HeaderEdit{RequestSet: set(mesh.OverwriteOrAdd, "x-a", "4", "x-c", "5")}, "x-a: 4, x-b: 2, x-c: 5"},
		{"overwrite if there", mesh.HeaderEdit{RequestSet: set(mesh.OverwriteIfExists, "x-a", "4", "x-c", "5")}, "x-a: 4, x-b: 2"},
		{"remove", mesh.HeaderEdit{RequestRemove: []string{"x-a", "x-c"}}, "x-b: 2"},
		{"remove, then set", mesh.HeaderEdit{RequestRemove: []string{"x-a"}, RequestSet: set(mesh.AppendOrAdd, "x-a", "4")}, "x-b: 2, x-a: 4"},
		{"of responses", mesh.HeaderEdit{ResponseSet: set(mesh.AppendOrAdd, "x-a", "4"), ResponseRemove: []string{"x-b"}}, came},
	}
	echo := backend(t, func(http.ResponseWriter, *http.Request) {})
	all := clusters(t, map[string]string{"c": echo})
	for _, tt := range tests {
		service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Edit = tt.edit })}, all)
		req := request("GET", "/", "x-a", "1", "x-b", "2", "x-a", "3")
		do(t, service, &wire.Peer{}, req)
		var got []string
		for name, value := range req.Header.All() {
			got = append(got, name+": "+value)
		}
		if diff := cmp.Diff(tt.want, strings.Join(got, ", ")); diff != "" {
			t.Errorf("%s: -want +got:\n%s", tt.name, diff)
		}
	}
}

// The most specific edit comes first, so that the table's may have the last word;
// and answers without an upstream are edited, too.
func TestEditOrder(t *testing.T) {
	t.Parallel()
	edit := func(value string) mesh.HeaderEdit {
		return mesh.HeaderEdit{ResponseSet: []mesh.HeaderValue{{Name: "x-edit", Value: value}}, RequestSet: []mesh.HeaderValue{{Name: "x-edit", Value: value}}}
	}
	address := backend(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("x-request", strings.Join(r.Header["X-Edit"], ","))
	})
	for _, answers := range []bool{false, true} {
		table := toward(func(r *mesh.Rule) {
			r.Edit, r.Targets[0].Edit = edit("rule"), edit("target")
			if answers {
				r.Redirect = &mesh.Redirect{Scheme: "https"}
			}
		})
		table.Edit, table.VirtualHosts[0].Edit = edit("table"), edit("host")
		got := do(t, compile(t, &mesh.HTTP{Route: table}, clusters(t, map[string]string{"c": address})), &wire.Peer{}, request("GET", "/"))
		want := "target,rule,host,table"
		if answers {
			want = "rule,host,table"
		}
		if got.Header.Joined("x-edit") != want || (!answers && got.Header.Get("x-request") != want) {
			t.Errorf("answers %v: %v", answers, got.Header)
		}
	}
}

func TestTimeout(t *testing.T) {
	t.Parallel()
	gone := make(chan struct{})
	defer close(gone)
	address := backend(t, func(_ http.ResponseWriter, r *http.Request) {
		select {
		case <-gone:
		case <-r.Context().Done():
		}
	})
	service := compile(t, &mesh.HTTP{Route: toward(func(r *mesh.Rule) { r.Timeout = 50 * time.Millisecond })}, clusters(t, map[string]string{"c": address}))
	if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != 504 || got.Flag != wire.FlagUpstreamTimeout {
		t.Errorf("%+v", got)
	}
	// An outer deadline that is nearer stays.
	x := exchange(&wire.Peer{})
	nearer := time.Now().Add(time.Millisecond)
	x.Deadline = nearer
	if _, err := service.Serve(x, request("GET", "/")); err == nil || !x.Deadline.Equal(nearer) {
		t.Errorf("%v, deadline %v", err, x.Deadline)
	}
	x.Done(time.Now())
	if errors.Is(x.Aborted(), wire.ErrClientGone) {
		t.Error("aborted")
	}
}
