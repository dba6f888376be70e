package stack_test

import (
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/spiffe"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// A service of ext_authz is asked only if that is wanted; else what it would be asked is said.
func TestExplainAuthz(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	set := clusters(t, map[string]string{"opa": backend(t, func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		if r.URL.Path == "/check/never" {
			<-r.Context().Done()
		}
		if r.URL.Path != "/check/ok" || r.Header.Get("X-User") != "me" {
			w.WriteHeader(http.StatusForbidden)
		}
	})})
	id, err := spiffe.Parse(identity)
	if err != nil {
		t.Fatal(err)
	}
	explain := func(service mesh.AuthzService, path string, ask time.Duration) *stack.Explanation {
		t.Helper()
		service.Cluster, service.Timeout = "opa", time.Minute
		h := &mesh.HTTP{Route: toward(nil), Filters: []mesh.HTTPFilter{{ExtAuthz: &mesh.ExtAuthz{
			Service: service, Allowed: []mesh.StringMatch{{Exact: "x-user"}},
		}}}}
		e, err := stack.Explain(h, nil, set, stack.Place{Ask: ask}, &wire.Peer{ID: id}, request("GET", path, "x-user", "me", "x-other", "1"))
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	byHTTP := mesh.AuthzService{HTTP: &mesh.AuthzHTTP{PathPrefix: "/check"}}
	e := explain(byHTTP, "/no", 0)
	notes := strings.Join(e.Filters[0].Notes, "\n")
	if want := `it would be sent {"authority":"example.com","header":{"x-user":"me"},"method":"GET","path":"/check/no"}`; e.Filters[0].Verdict != "not asked" ||
		!strings.Contains(notes, "would be asked") || !strings.HasSuffix(notes, want) || e.Forward == nil {
		t.Errorf("got %+v", e)
	}
	if notes := strings.Join(explain(mesh.AuthzService{}, "/", 0).Filters[0].Notes, "\n"); !strings.Contains(notes, `"principal":"`+identity) || !strings.Contains(notes, `"x-user":"me"`) {
		t.Errorf("got %s", notes)
	}
	if n := asked.Load(); n != 0 {
		t.Errorf("the service was asked %d times", n)
	}
	if e := explain(byHTTP, "/no", time.Minute); e.Filters[0].Verdict != "answers" || e.Answer == nil || e.Answer.Status != http.StatusForbidden ||
		!strings.Contains(strings.Join(e.Filters[0].Notes, "\n"), "was asked") {
		t.Errorf("got %+v", e)
	}
	if e := explain(byHTTP, "/ok", time.Minute); e.Filters[0].Verdict != "passes" || e.Forward == nil {
		t.Errorf("got %+v", e)
	}
	// Whose service may take a minute is explained before that.
	if e := explain(byHTTP, "/never", 50*time.Millisecond); e.Answer == nil || e.Forward != nil || !strings.Contains(e.Answer.Why, "longer to be asked") {
		t.Errorf("got %+v", e.Answer)
	}
	if n := asked.Load(); n < 2 || n > 3 { // the last is not always sent
		t.Errorf("the service was asked %d times", n)
	}
	for s := range set.Registry().All() {
		if strings.Contains(s.Name, "ext_authz") {
			t.Errorf("%s is counted", s.Name)
		}
	}
}

// Where a route says otherwise, or by chance, nobody is asked, and what is said of it is what happens.
func TestExplainAuthzOfRoute(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	set := clusters(t, map[string]string{"opa": backend(t, func(http.ResponseWriter, *http.Request) { asked.Add(1) })})
	service := mesh.AuthzService{Cluster: "opa", Timeout: time.Minute, HTTP: &mesh.AuthzHTTP{}}
	says := func(c *mesh.ExtAuthz) *mesh.FilterOverride {
		return &mesh.FilterOverride{Filter: &mesh.HTTPFilter{ExtAuthz: c}}
	}
	for _, row := range []struct {
		name     string
		disabled bool
		enabled  *mesh.Fraction
		grpc     bool
		o        *mesh.FilterOverride
		// note is said without and with asking, asks is how often that does.
		note [2]string
		asks int32
	}{
		{"as it stands", false, nil, false, nil, [2]string{"would be asked", "was asked"}, 1},
		{"off", false, nil, false, &mesh.FilterOverride{Disabled: true}, [2]string{"left out", "left out"}, 0},
		{"disabled", true, nil, false, nil, [2]string{"left out", "left out"}, 0},
		{"enabled by the route", true, nil, false, &mesh.FilterOverride{}, [2]string{"would be asked", "was asked"}, 1},
		{"by chance", false, &mesh.Fraction{Denominator: 100}, false, nil, [2]string{"would be asked of 0 in 100", "was not asked"}, 0},
		{"other settings", false, nil, true, says(&mesh.ExtAuthz{Context: map[string]string{"of": "the route"}}), [2]string{`"of":"the route"`, `"of":"the route"`}, 1},
		{"a mistake", false, nil, false, &mesh.FilterOverride{Filter: &mesh.HTTPFilter{Lua: &mesh.Lua{}}}, [2]string{"another kind", "another kind"}, 0},
	} {
		for i, want := range row.note {
			asked.Store(0)
			to := service
			if row.grpc {
				to.HTTP = nil
			}
			h := &mesh.HTTP{Route: toward(nil), Filters: []mesh.HTTPFilter{{Name: "f", Disabled: row.disabled, ExtAuthz: &mesh.ExtAuthz{Service: to, Enabled: row.enabled}}}}
			if row.o != nil {
				h.Route.Filters = map[string]*mesh.FilterOverride{"f": row.o}
			}
			e, err := stack.Explain(h, nil, set, stack.Place{Ask: time.Duration(i) * time.Minute}, &wire.Peer{}, request("GET", "/"))
			if err != nil {
				t.Fatal(err)
			}
			if len(e.Filters) != 1 || !strings.Contains(strings.Join(e.Filters[0].Notes, "; "), want) {
				t.Errorf("%s, %d: %+v, want %q", row.name, i, e.Filters, want)
			}
			if n := asked.Load(); n != row.asks*int32(i) {
				t.Errorf("%s, %d: asked %d times", row.name, i, n)
			}
		}
	}
}
