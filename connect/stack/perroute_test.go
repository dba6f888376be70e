package stack_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// A route may leave a filter out, enable it, or have another; what is not understood of that refuses. The rows are what
// Envoy 1.36 made of them (integration: TestFiltersByRouteAsEnvoy).
func TestFilterOverrides(t *testing.T) {
	t.Parallel()
	all := &mesh.Intention{Action: mesh.Deny, Policies: []mesh.IntentionPolicy{{Permissions: []mesh.Permission{{Any: true}}, Principals: []mesh.Principal{{Any: true}}}}}
	none := &mesh.Intention{Action: mesh.Deny}
	off, on, other := &mesh.FilterOverride{Disabled: true}, &mesh.FilterOverride{}, &mesh.FilterOverride{Filter: &mesh.HTTPFilter{Intention: none}}
	nothing := &mesh.FilterOverride{Disabled: true, Filter: &mesh.HTTPFilter{Intention: &mesh.Intention{}}}
	for _, row := range []struct {
		name              string
		disabled          bool
		table, host, rule *mesh.FilterOverride
		want              int
	}{
		{"nothing is said", false, nil, nil, nil, 403},
		{"disabled", true, nil, nil, nil, 200},
		{"off", false, nil, nil, off, 200},
		{"off by the table", false, off, nil, nil, 200},
		{"on again", false, nil, off, on, 403},
		{"enabled", true, nil, nil, on, 403},
		{"another", false, nil, nil, other, 200},
		{"another of the host, enabled", true, nil, other, on, 200},
		{"another of the table, off", false, other, nil, off, 200},
		{"how it is met comes of the table", false, other, off, on, 200},
		{"met as nothing", false, nil, nothing, on, 200},
		{"refused", false, nil, nil, &mesh.FilterOverride{Refusal: "unknown"}, 503},
		{"refused, but off", false, nil, &mesh.FilterOverride{Refusal: "unknown"}, off, 200},
	} {
		h := direct()
		h.Filters = []mesh.HTTPFilter{{Name: "f", Disabled: row.disabled, Intention: all}}
		under := func(o *mesh.FilterOverride) map[string]*mesh.FilterOverride {
			if o == nil {
				return nil
			}
			return map[string]*mesh.FilterOverride{"f": o}
		}
		vh := h.Route.VirtualHosts[0]
		h.Route.Filters, vh.Filters, vh.Rules[0].Filters = under(row.table), under(row.host), under(row.rule)
		if got := do(t, compile(t, h, clusters(t, nil)), &wire.Peer{}, request("GET", "/")); got.Status != row.want {
			t.Errorf("%s: %d, want %d", row.name, got.Status, row.want)
		}
	}
}

// refused is how a request fails, and why.
func refused(t *testing.T, service wire.Service, req *wire.Request) (status int, why string) {
	t.Helper()
	x := &wire.Exchange{}
	x.Reset(nil, &wire.Peer{}, time.Now())
	defer func() { x.Done(time.Now()) }()
	_, err := service.Serve(x, req)
	if err == nil {
		return 0, ""
	}
	fault := wire.AsFault(err)
	return fault.Status, fmt.Sprint(fault.Err)
}

// A mistake of a route refuses its requests, and no others.
func TestFilterOverrideErrors(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		want string
		o    *mesh.FilterOverride
	}{
		{"another kind", &mesh.FilterOverride{Filter: &mesh.HTTPFilter{Metadata: &mesh.HeaderToMetadata{}}}},
		{"another kind", &mesh.FilterOverride{Disabled: true, Filter: &mesh.HTTPFilter{Intention: &mesh.Intention{}}}},
		{`no source code "n"`, &mesh.FilterOverride{Filter: &mesh.HTTPFilter{Lua: &mesh.Lua{Named: "n"}}}},
	} {
		h := direct()
		h.Filters = []mesh.HTTPFilter{{Name: "f", Lua: &mesh.Lua{Code: "x = 1"}}}
		open := *h.Route.VirtualHosts[0].Rules[0]
		open.Match.Headers = []mesh.HeaderMatch{{Name: "x-a", Present: true}}
		h.Route.VirtualHosts[0].Rules[0].Filters = map[string]*mesh.FilterOverride{"f": row.o}
		h.Route.VirtualHosts[0].Rules = append([]*mesh.Rule{&open}, h.Route.VirtualHosts[0].Rules...)
		service := compile(t, h, clusters(t, nil))
		if status, why := refused(t, service, request("GET", "/")); status != 503 || !strings.Contains(why, row.want) {
			t.Errorf("%d %q, want %q", status, why, row.want)
		}
		if got := do(t, service, &wire.Peer{}, request("GET", "/", "x-a", "1")); got.Status != 200 {
			t.Errorf("%s: %d for another route", row.want, got.Status)
		}
	}
}

// Of a filter that is not understood it is not known whether it is what a route switches off.
func TestFilterOverrideOfRefused(t *testing.T) {
	t.Parallel()
	for want, o := range map[int]*mesh.FilterOverride{
		503: {Disabled: true, Filter: &mesh.HTTPFilter{Lua: &mesh.Lua{}}},
		200: {Disabled: true},
	} {
		h := direct()
		h.Filters = []mesh.HTTPFilter{{Name: "f", Refusal: "unknown"}}
		h.Route.Filters = map[string]*mesh.FilterOverride{"f": o}
		if got := do(t, compile(t, h, clusters(t, nil)), &wire.Peer{}, request("GET", "/")); got.Status != want {
			t.Errorf("%d, want %d", got.Status, want)
		}
	}
}

// The route that left a filter out is the one that is taken, whatever a later filter makes of the head.
func TestFilterOverrideKeepsRoute(t *testing.T) {
	t.Parallel()
	h := direct()
	all := &mesh.Intention{Action: mesh.Deny, Policies: []mesh.IntentionPolicy{{Permissions: []mesh.Permission{{Any: true}}, Principals: []mesh.Principal{{Any: true}}}}}
	h.Filters = []mesh.HTTPFilter{{Name: "f", Intention: all}, {Name: "h2m", Metadata: &mesh.HeaderToMetadata{Request: []mesh.MetadataRule{{
		Header: "x-a", Remove: true, Present: &mesh.MetadataValue{Namespace: "n", Key: "k"},
	}}}}}
	guarded := h.Route.VirtualHosts[0].Rules[0]
	guarded.Direct = &mesh.DirectResponse{Status: 201}
	open := *guarded
	open.Match.Headers = []mesh.HeaderMatch{{Name: "x-a", Present: true}}
	open.Direct = &mesh.DirectResponse{Status: 200}
	open.Filters = map[string]*mesh.FilterOverride{"f": {Disabled: true}}
	h.Route.VirtualHosts[0].Rules = []*mesh.Rule{&open, guarded}
	service := compile(t, h, clusters(t, nil))
	if got := do(t, service, &wire.Peer{}, request("GET", "/", "x-a", "1")); got.Status != 200 {
		t.Errorf("%d, want the answer of the route that was first matched", got.Status)
	}
	if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != 403 {
		t.Errorf("%d, want 403", got.Status)
	}
}

// A target of a rule may have its own say, of which the target that is chosen for the filters is the one that gets the request.
func TestFilterOverrideOfTargets(t *testing.T) {
	t.Parallel()
	all := &mesh.Intention{Action: mesh.Deny, Policies: []mesh.IntentionPolicy{{Permissions: []mesh.Permission{{Any: true}}, Principals: []mesh.Principal{{Any: true}}}}}
	off, on := map[string]*mesh.FilterOverride{"f": {Disabled: true}}, map[string]*mesh.FilterOverride{"f": {}}
	for _, row := range []struct {
		name         string
		disabled     bool
		rule         map[string]*mesh.FilterOverride
		first, other map[string]*mesh.FilterOverride
		want         [2]int // 503 is let through: there is no cluster
	}{
		{"off for one", false, nil, off, nil, [2]int{503, 403}},
		{"off for all but one", false, off, nil, on, [2]int{503, 403}},
		{"on for one", true, nil, nil, on, [2]int{503, 403}},
		{"refused for one", false, nil, map[string]*mesh.FilterOverride{"f": {Refusal: "unknown"}}, off, [2]int{503, 503}},
	} {
		h := direct()
		h.Filters = []mesh.HTTPFilter{{Name: "f", Disabled: row.disabled, Intention: all}}
		rule := h.Route.VirtualHosts[0].Rules[0]
		rule.Direct, rule.Filters, rule.WeightHeader = nil, row.rule, "x-n"
		rule.Targets = []mesh.Target{{Cluster: "a", Weight: 1, Filters: row.first}, {Cluster: "b", Weight: 1, Filters: row.other}}
		service := compile(t, h, clusters(t, nil))
		for n, want := range row.want {
			got := do(t, service, &wire.Peer{}, request("GET", "/", "x-n", strconv.Itoa(n)))
			if got.Status != want {
				t.Errorf("%s: target %d: %d, want %d", row.name, n, got.Status, want)
			}
		}
	}
	// By chance, and yet the same for the filters and the router.
	h := direct()
	h.Filters = []mesh.HTTPFilter{{Name: "f", Intention: all}}
	rule := h.Route.VirtualHosts[0].Rules[0]
	rule.Direct, rule.Targets = nil, []mesh.Target{{Cluster: "a", Weight: 1, Filters: off}, {Cluster: "b", Weight: 1}}
	service := compile(t, h, clusters(t, nil))
	for range 100 {
		x := &wire.Exchange{}
		x.Reset(nil, &wire.Peer{}, time.Now())
		resp, err := service.Serve(x, request("GET", "/"))
		if err != nil {
			resp = wire.Reply(x, err)
		}
		if resp.Status == 503 && x.Cluster != "a" || resp.Status != 503 && x.Cluster != "" {
			t.Fatalf("%d from %q", resp.Status, x.Cluster)
		}
		x.Done(time.Now())
	}
}

// A route may require of tokens what has a name.
func TestFilterOverrideOfTokens(t *testing.T) {
	t.Parallel()
	h := direct()
	h.Filters = []mesh.HTTPFilter{{Name: "f", JWT: &mesh.JWT{
		Providers: map[string]*mesh.JWTProvider{"p": {Keys: `{"keys":[{"kty":"oct","k":"AAAA","alg":"HS256"}]}`}},
		Named:     map[string]*mesh.JWTRequirement{"token": {Provider: "p"}},
	}}}
	says := func(name string) map[string]*mesh.FilterOverride {
		return map[string]*mesh.FilterOverride{"f": {Filter: &mesh.HTTPFilter{JWT: &mesh.JWT{Requirement: name}}}}
	}
	guarded := *h.Route.VirtualHosts[0].Rules[0]
	guarded.Match.Headers, guarded.Filters = []mesh.HeaderMatch{{Name: "x-a", Present: true}}, says("token")
	h.Route.VirtualHosts[0].Rules = append([]*mesh.Rule{&guarded}, h.Route.VirtualHosts[0].Rules...)
	service := compile(t, h, clusters(t, nil))
	if got := do(t, service, &wire.Peer{}, request("GET", "/", "x-a", "1")); got.Status != 401 {
		t.Errorf("%d, want 401", got.Status)
	}
	if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != 200 {
		t.Errorf("%d, want 200", got.Status)
	}
	guarded.Filters = says("other")
	service = compile(t, h, clusters(t, nil))
	if status, why := refused(t, service, request("GET", "/", "x-a", "1")); status != 503 || !strings.Contains(why, `requirement "other" is not known`) {
		t.Errorf("%d %q", status, why)
	}
	if got := do(t, service, &wire.Peer{}, request("GET", "/")); got.Status != 200 {
		t.Errorf("%d for another route, want 200", got.Status)
	}
}
