package integration_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
)

// kinds are the data planes that are put into one place after the other.
func kinds() []string { return []string{"serai", "envoy"} }

// start starts the sidecar of an instance: ours, or Envoy.
func (w *world) start(t *testing.T, kind string, i *instance) *instance {
	t.Helper()
	if kind == "serai" {
		w.connect(t, i)
		return i
	}
	w.envoy(t, i)
	return i
}

// twins are two instances of one service with the same upstreams, one behind each kind of sidecar.
func (w *world) twins(t *testing.T, service string, upstreams ...string) map[string]*instance {
	t.Helper()
	all := map[string]*instance{}
	for _, kind := range kinds() {
		all[kind] = w.start(t, kind, w.register(t, service+"-"+kind, service, upstreams...))
	}
	for _, i := range all {
		sidecarReady(t, i)
	}
	return all
}

// version is a registration with a version, by which subsets are told apart.
func version(name string) func(*consulapi.AgentServiceRegistration) {
	return func(r *consulapi.AgentServiceRegistration) { r.Meta = map[string]string{"version": name} }
}

// question is a request, and what must come of it.
type question struct {
	name, upstream string
	method, path   string // GET if empty
	header         map[string]string
	// status is 200 if 0.
	status int
	// app is the name of the app that has to answer, path2 the path that it must see; "" for any.
	app, path2 string
	// sees are headers that it must see, joined by commas; "" for none.
	sees map[string]string
	// gets are headers of the answer.
	gets map[string]string
}

// outcome is what came of it, as far as it must not differ between proxies.
type outcome struct {
	Status    int
	App, Path string
	Sees      map[string]string
	Gets      map[string]string
}

// put asks a question at the instance's upstream.
func (q *question) put(t *testing.T, i *instance) outcome {
	t.Helper()
	method := q.method
	if method == "" {
		method = http.MethodGet
	}
	got := ask(t, method, i.url(q.upstream, q.path), http.NoBody, func(r *http.Request) {
		r.Header.Set("X-Show", "1")
		for name, value := range q.header {
			r.Header.Set(name, value)
		}
	})
	out := outcome{Status: got.status}
	var shown seen
	if got.status == http.StatusOK && method != http.MethodHead {
		if err := json.Unmarshal([]byte(got.body), &shown); err != nil {
			out.App = got.body // the app's own, unshown
		}
	}
	if shown.Name != "" {
		out.App, out.Path = shown.Name, shown.Path
	}
	for name := range q.sees {
		if out.Sees == nil {
			out.Sees = map[string]string{}
		}
		out.Sees[name] = strings.Join(shown.Header.Values(name), ",")
	}
	for name := range q.gets {
		if out.Gets == nil {
			out.Gets = map[string]string{}
		}
		out.Gets[name] = strings.Join(got.header.Values(name), ",")
	}
	return out
}

// want is the outcome that is asked for.
func (q *question) want(got outcome) outcome {
	want := outcome{Status: q.status, App: q.app, Path: q.path2, Sees: q.sees, Gets: q.gets}
	if want.Status == 0 {
		want.Status = http.StatusOK
	}
	if want.Path == "" {
		want.Path = got.Path
	}
	if want.App == "" {
		want.App = got.App
	}
	return want
}

// same puts questions to all kinds, each of which must answer as is wanted, hence all the same.
func same(t *testing.T, twins map[string]*instance, questions []question) {
	t.Helper()
	for _, q := range questions {
		for _, kind := range slices.Sorted(maps.Keys(twins)) {
			t.Run(q.name+"/"+kind, func(t *testing.T) {
				got := q.put(t, twins[kind])
				if diff := cmp.Diff(q.want(got), got); diff != "" {
					t.Errorf("%s %s (-want +got):\n%s", q.upstream, q.path, diff)
				}
			})
		}
	}
}

// spread asks n times and counts by what is answered.
func spread(t *testing.T, i *instance, q question, n int) map[string]int {
	t.Helper()
	found := map[string]int{}
	for range n {
		got := q.put(t, i)
		key := fmt.Sprintf("%d %s", got.Status, got.App)
		for _, name := range slices.Sorted(maps.Keys(got.Sees)) {
			key += " " + name + "=" + got.Sees[name]
		}
		for _, name := range slices.Sorted(maps.Keys(got.Gets)) {
			key += " " + name + "=" + got.Gets[name]
		}
		found[key]++
	}
	return found
}
