package stack_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/stack"
	"github.com/serai-net/serai/connect/wire"
)

// An answer of one filter passes those behind it that have to do with responses, the last one first, and the route has
// its say before them; those in front of it see it as ever.
func TestAnswersPassEncoders(t *testing.T) {
	t.Parallel()
	script := func(name string) mesh.HTTPFilter {
		return mesh.HTTPFilter{Lua: &mesh.Lua{Code: `function envoy_on_response(handle)
			local h = handle:headers()
			h:replace("x-seen", (h:get("x-seen") or h:get("x-route") or "") .. "` + name + `")
		end`}}
	}
	deny := mesh.HTTPFilter{Intention: &mesh.Intention{Action: mesh.Allow}}
	for _, tt := range []struct {
		name    string
		filters []mesh.HTTPFilter
		reject  bool
		status  int
		seen    string
	}{
		{"between", []mesh.HTTPFilter{script("a"), deny, script("b"), script("c")}, false, 403, "routecba"},
		{"last", []mesh.HTTPFilter{script("a"), deny}, false, 403, "routea"},
		{"first", []mesh.HTTPFilter{deny, script("a")}, false, 403, "routea"},
		{"before all", []mesh.HTTPFilter{script("a"), script("b")}, true, 400, "ba"}, // no route is known yet
		{"at the end", []mesh.HTTPFilter{script("a"), script("b")}, false, 503, "routeba"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			h := &mesh.HTTP{Filters: tt.filters, RejectUnderscores: tt.reject, Route: toward(func(r *mesh.Rule) {
				r.Edit.ResponseSet = []mesh.HeaderValue{{Name: "x-route", Value: "route"}}
			})}
			service, err := stack.HTTP(h, nil, clusters(t, nil))
			if err != nil {
				t.Fatal(err)
			}
			got := do(t, service, &wire.Peer{}, request("GET", "/", "a_b", "c"))
			if diff := cmp.Diff([]any{tt.status, tt.seen}, []any{got.Status, got.Header.Get("x-seen")}); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
