package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	consulapi "github.com/hashicorp/consul/api"
)

// guards are the services whose intentions are looked at, one behind each kind of sidecar: what kind of guard it is
// comes after the dash.
func guards(name string) []string {
	var all []string
	for _, kind := range kinds() {
		all = append(all, name+"-"+kind)
	}
	return all
}

// TestIntentionsAsEnvoy has our sidecar and Envoy decide on the same requests by the same intentions.
func TestIntentionsAsEnvoy(t *testing.T) {
	t.Parallel()
	protocols := map[string]string{"web": "http", "guest": "http", "gone": "http"}
	var upstreams []string
	for _, name := range []string{"guard", "lax", "shut"} {
		for _, service := range guards(name) {
			protocols[service] = "http"
			upstreams = append(upstreams, service)
		}
	}
	upstreams = append(upstreams, guards("vault")...)
	w := newWorld(t, protocols)
	for _, kind := range kinds() {
		must(t, w.consul.Intention(t.Context(), "web", "guard-"+kind, true, permissions()...))
		must(t, w.consul.Intention(t.Context(), "*", "guard-"+kind, false))
		must(t, w.consul.Intention(t.Context(), "*", "lax-"+kind, true))
		must(t, w.consul.Intention(t.Context(), "guest", "lax-"+kind, false))
		must(t, w.consul.Intention(t.Context(), "*", "shut-"+kind, true, &consulapi.IntentionPermission{
			Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: "/open"},
		}))
		must(t, w.consul.Intention(t.Context(), "web", "vault-"+kind, true))
		for _, name := range []string{"guard", "lax", "shut", "vault"} {
			w.start(t, kind, w.register(t, name+"-"+kind+"-1", name+"-"+kind))
		}
	}
	web := w.run(t, "web-1", "web", upstreams...)
	guest := w.run(t, "guest-1", "guest", upstreams...)
	for _, kind := range kinds() {
		waitStatus(t, web.url("guard-"+kind, "/exact"), http.StatusNotFound) // by the app, which has no such path
		waitStatus(t, guest.url("guard-"+kind, "/exact"), http.StatusForbidden)
		w.waitOK(t, web.url("lax-"+kind, "/"))
		waitStatus(t, guest.url("lax-"+kind, "/"), http.StatusForbidden)
		waitStatus(t, guest.url("shut-"+kind, "/open"), http.StatusNotFound)
		waitTCP(t, local(web.upstreams["vault-"+kind]))
	}
	t.Run("permissions", func(t *testing.T) {
		for _, q := range intentionQuestions() {
			for _, kind := range kinds() {
				t.Run(q.name+"/"+kind, func(t *testing.T) {
					q := q
					q.upstream = "guard-" + kind
					if got := q.put(t, web); got.Status != q.want(got).Status {
						t.Errorf("%s %s: status %d, want %d", q.method, q.path, got.Status, q.want(got).Status)
					}
					admin := q
					admin.header = map[string]string{"x-role": "admin"}
					if got := admin.put(t, guest); got.Status != http.StatusForbidden {
						t.Errorf("guest gets status %d", got.Status)
					}
				})
			}
		}
	})
	t.Run("precedence", func(t *testing.T) {
		for _, kind := range kinds() {
			for _, c := range []struct {
				from           *instance
				upstream, path string
				status         int
			}{
				{web, "lax", "/", http.StatusOK},
				{guest, "lax", "/", http.StatusForbidden},
				{web, "shut", "/open/x", http.StatusNotFound},
				{web, "shut", "/x/", http.StatusForbidden},
				{guest, "shut", "/open", http.StatusNotFound},
			} {
				if got := get(t, c.from.url(c.upstream+"-"+kind, c.path)); got.status != c.status {
					t.Errorf("%s asks %s of %s-%s: status %d, want %d", c.from.service, c.path, c.upstream, kind, got.status, c.status)
				}
			}
			eventually(t, "guest to be refused by vault-"+kind, func(ctx context.Context) error {
				return refused(ctx, local(guest.upstreams["vault-"+kind]))
			})
		}
	})
}

// permissions are those of web at the guards. The first that matches decides.
func permissions() []*consulapi.IntentionPermission {
	type http = consulapi.IntentionHTTPPermission
	type header = consulapi.IntentionHTTPHeaderPermission
	allow := func(p http) *consulapi.IntentionPermission {
		return &consulapi.IntentionPermission{Action: consulapi.IntentionActionAllow, HTTP: &p}
	}
	deny := func(p http) *consulapi.IntentionPermission {
		return &consulapi.IntentionPermission{Action: consulapi.IntentionActionDeny, HTTP: &p}
	}
	of := func(path string, h header) *consulapi.IntentionPermission {
		h.Name = "x-is"
		return allow(http{PathPrefix: path, Header: []header{h}})
	}
	return []*consulapi.IntentionPermission{
		deny(http{PathPrefix: "/v1/secret"}),
		allow(http{PathPrefix: "/v1", Methods: []string{"GET", "POST"}, Header: []header{{Name: "x-role", Exact: "admin"}}}),
		allow(http{PathExact: "/exact"}),
		allow(http{PathRegex: "/re/[a-z]+"}),
		of("/h/exact", header{Exact: "a"}),
		of("/h/nocase", header{Exact: "abc", IgnoreCase: true}),
		of("/h/prefix", header{Prefix: "pre"}),
		of("/h/suffix", header{Suffix: "fix"}),
		of("/h/contains", header{Contains: "mid"}),
		of("/h/regex", header{Regex: "a|b"}),
		of("/h/present", header{Present: true}),
		of("/h/inverted", header{Exact: "a", Invert: true}),
		allow(http{PathPrefix: "/two", Header: []header{{Name: "x-is", Exact: "a"}, {Name: "x-role", Present: true}}}),
		deny(http{PathPrefix: "/", Methods: []string{"DELETE"}}),
		allow(http{PathPrefix: "/open"}),
	}
}

// intentionQuestions are asked by web; what is allowed is answered by the app.
func intentionQuestions() []question {
	is := func(value string) map[string]string { return map[string]string{"x-is": value} }
	admin := map[string]string{"x-role": "admin"}
	const no = http.StatusForbidden
	all := []question{
		{path: "/v1/x", header: admin},
		{path: "/v1/x", status: no},
		{path: "/v1/x", method: http.MethodPut, header: admin, status: no},
		{path: "/v1/secret", header: admin, status: no},
		{path: "/v1/secret/x?y", header: admin, status: no},
		{path: "/v1/./secret", header: admin, status: no},
		{path: "/v1/x/../secret", header: admin, status: no},
		{path: "/v1/%73ecret", header: admin, status: no},
		{path: "/open/../v1/secret", header: admin, status: no},
		{path: "/v1/../exact"},
		{path: "/exact"},
		{path: "/exact?q=1"},
		{path: "/exact/", status: no},
		{path: "/exactly", status: no},
		{path: "/re/abc"},
		{path: "/re/abc?x"},
		{path: "/re/abc/d", status: no},
		{path: "/x/re/abc", status: no},
		{path: "/h/exact", header: is("a")},
		{path: "/h/exact", header: is("A"), status: no},
		{path: "/h/exact", status: no},
		{path: "/h/nocase", header: is("aBc")},
		{path: "/h/nocase", header: is("aBcd"), status: no},
		{path: "/h/prefix", header: is("prefix")},
		{path: "/h/prefix", header: is("xpre"), status: no},
		{path: "/h/suffix", header: is("suffix")},
		{path: "/h/suffix", header: is("fixed"), status: no},
		{path: "/h/contains", header: is("amida")},
		{path: "/h/contains", header: is("am-ida"), status: no},
		{path: "/h/regex", header: is("b")},
		{path: "/h/regex", header: is("ab"), status: no},
		{path: "/h/present", header: is("")},
		{path: "/h/present", status: no},
		{path: "/h/inverted", header: is("b")},
		{path: "/h/inverted", status: no},
		{path: "/h/inverted", header: is("a"), status: no},
		{path: "/two", header: map[string]string{"x-is": "a", "x-role": ""}},
		{path: "/two", header: is("a"), status: no},
		{path: "/open"},
		{path: "/open", method: http.MethodDelete, status: no},
		{path: "/exact", method: http.MethodDelete},
		{path: "/", status: no},
	}
	for i := range all {
		if all[i].method == "" {
			all[i].method = http.MethodGet
		}
		all[i].name = fmt.Sprintf("%s %s %v", all[i].method, all[i].path, all[i].header)
	}
	return all
}
