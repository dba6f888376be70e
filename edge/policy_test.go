package edge_test

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"github.com/serai-net/serai/edge"
	"github.com/serai-net/serai/edge/auth"
	"github.com/serai-net/serai/edge/consumer"
)

// TestRoutesKeepTheirPolicy asks routes to one upstream that differ in one
// argument each, between routes that do not differ.
func TestRoutesKeepTheirPolicy(t *testing.T) {
	t.Parallel()
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	a := server(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("X-Slow") != "" {
			select {
			case <-release:
			case <-r.Context().Done():
			}
		}
		fmt.Fprint(w, r.URL.Path, " ", r.Header.Get("X-Own"), " ", r.Header.Get("X-Serai-Consumer"))
	})
	upstream := a.Routes[0].Upstream
	short := 100 * time.Millisecond
	routes := func(changes ...func(r *edge.Route)) (all []edge.Route) {
		for i, change := range changes {
			r := edge.Route{Name: fmt.Sprint(i), PathPrefix: fmt.Sprintf("/%d", i), Upstream: upstream}
			if change != nil {
				change(&r)
			}
			all = append(all, r)
		}
		return all
	}
	a.Routes = routes(nil,
		func(r *edge.Route) { r.Timeout = &short },
		nil,
		func(r *edge.Route) { r.StripPrefix = true },
		func(r *edge.Route) { r.RewritePrefix = "/new" },
		func(r *edge.Route) { r.RequestHeaders = &edge.HeaderEdit{Set: map[string]string{"x-own": "five"}} },
		func(r *edge.Route) { r.Methods = []string{"GET"} },
		nil,
	)
	keyed := edge.API{Name: "keyed", BasePath: "/keyed", Authenticate: &auth.Config{Kind: "api_key"}}
	keyed.Routes = routes(nil)
	only := keyed
	only.Name, only.BasePath, only.AllowConsumers = "only", "/only", []string{"other"}
	only.Routes = routes(nil)
	r := start(t, edge.Config{
		APIs: []edge.API{a, keyed, only},
		Consumers: []consumer.Config{
			{Name: "acme", Keys: []consumer.KeyConfig{{Name: "k", Key: "secret"}}},
			{Name: "other", Keys: []consumer.KeyConfig{{Name: "k", Key: "another"}}},
		},
	})
	const key, slow = "X-API-Key: secret", "X-Slow: 1"
	for _, row := range []struct {
		path   string
		fields []string
		status int
		body   string
	}{
		{"/0/x", []string{key}, 200, "/0/x  "},
		{"/1/x", nil, 200, "/1/x  "},
		{"/1/x", []string{slow}, 504, ""},
		{"/2/x", nil, 200, "/2/x  "},
		{"/3/x", nil, 200, "/x  "},
		{"/4/x", nil, 200, "/new/x  "},
		{"/5/x", nil, 200, "/5/x five "},
		{"/6/x", nil, 200, "/6/x  "},
		{"/7/x", nil, 200, "/7/x  "},
		{"/keyed/0", nil, 401, ""},
		{"/keyed/0", []string{key}, 200, "/keyed/0  acme"},
		{"/only/0", []string{key}, 403, ""},
		{"/only/0", []string{"X-API-Key: another"}, 200, "/only/0  other"},
	} {
		status, body := get(t, r.url+row.path, row.fields...)
		if status != row.status || (status == http.StatusOK && body != row.body) {
			t.Errorf("%s %v: %d %q, want %d %q", row.path, row.fields, status, body, row.status, row.body)
		}
	}
}
