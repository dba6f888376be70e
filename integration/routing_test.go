package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
)

// TestRoutingAsEnvoy has Consul's routers, splitters and resolvers carried out by our sidecar and by Envoy, side by
// side.
func TestRoutingAsEnvoy(t *testing.T) {
	t.Parallel()
	protocols := map[string]string{}
	for _, service := range []string{"web", "shop", "cart", "old", "older", "mix", "part", "frail", "both"} {
		protocols[service] = "http"
	}
	w := newWorld(t, protocols)
	w.allow(t, "web", "shop", "cart", "old", "older", "mix", "part", "frail", "both")
	for _, entry := range routing() {
		must(t, w.consul.WriteConfigEntry(t.Context(), entry))
	}
	for id, v := range map[string]string{"shop-1": "v1", "shop-2": "v2"} {
		w.connect(t, w.registerAs(t, id, "shop", version(v)))
	}
	w.run(t, "cart-1", "cart")
	w.run(t, "both-1", "both")
	w.run(t, "both-2", "both")
	part := w.registerAs(t, "part-1", "part", version("v1"))
	w.connect(t, part)
	w.connect(t, w.registerAs(t, "part-2", "part", version("v2")))
	frail := w.run(t, "frail-1", "frail")
	for _, service := range []string{"shop", "part", "cart", "frail"} {
		must(t, w.consul.WaitHealthy(t.Context(), service+"-sidecar-proxy", 1))
	}
	web := w.twins(t, "web", "shop", "cart", "old", "older", "mix", "part", "frail")
	for _, i := range web {
		w.waitOK(t, i.url("shop", "/"), i.url("cart", "/"), i.url("old", "/"), i.url("older", "/"), i.url("mix", "/"), i.url("part", "/"), i.url("frail", "/"))
	}
	t.Run("router", func(t *testing.T) { same(t, web, routerQuestions()) })
	t.Run("redirect", func(t *testing.T) {
		same(t, web, []question{
			{name: "to a service", upstream: "old", path: "/a", app: "cart-1", path2: "/a"},
			{name: "to a subset", upstream: "older", path: "/a", app: "shop-2", path2: "/a"},
		})
	})
	t.Run("splitter", func(t *testing.T) { testSplitter(t, web) })
	t.Run("retries", func(t *testing.T) { testRetryRoute(t, web) })
	t.Run("timeouts", func(t *testing.T) { testTimeoutRoute(t, web) })
	t.Run("failover", func(t *testing.T) { testFailover(t, w, web, part, frail) })
}

// routing is what the routers, splitters and resolvers of the test say.
func routing() []consulapi.ConfigEntry {
	subsets := map[string]consulapi.ServiceResolverSubset{
		"v1": {Filter: "Service.Meta.version == v1"}, "v2": {Filter: "Service.Meta.version == v2"},
	}
	return []consulapi.ConfigEntry{
		&consulapi.ServiceResolverConfigEntry{Kind: consulapi.ServiceResolver, Name: "shop", DefaultSubset: "v1", Subsets: subsets},
		&consulapi.ServiceResolverConfigEntry{
			Kind: consulapi.ServiceResolver, Name: "part", DefaultSubset: "v1", Subsets: subsets,
			Failover: map[string]consulapi.ServiceResolverFailover{"v1": {ServiceSubset: "v2"}},
		},
		&consulapi.ServiceResolverConfigEntry{
			Kind: consulapi.ServiceResolver, Name: "frail",
			Failover: map[string]consulapi.ServiceResolverFailover{"*": {Service: "cart"}},
		},
		&consulapi.ServiceResolverConfigEntry{
			Kind: consulapi.ServiceResolver, Name: "old", Redirect: &consulapi.ServiceResolverRedirect{Service: "cart"},
		},
		&consulapi.ServiceResolverConfigEntry{
			Kind: consulapi.ServiceResolver, Name: "older", Redirect: &consulapi.ServiceResolverRedirect{Service: "shop", ServiceSubset: "v2"},
		},
		&consulapi.ServiceSplitterConfigEntry{Kind: consulapi.ServiceSplitter, Name: "mix", Splits: []consulapi.ServiceSplit{
			{
				Weight: 50, Service: "cart",
				RequestHeaders:  &consulapi.HTTPHeaderModifiers{Set: map[string]string{"x-side": "cart"}},
				ResponseHeaders: &consulapi.HTTPHeaderModifiers{Set: map[string]string{"x-side": "from cart"}, Remove: []string{"x-gone"}},
			},
			{
				Weight: 50, Service: "shop", ServiceSubset: "v2",
				RequestHeaders: &consulapi.HTTPHeaderModifiers{Set: map[string]string{"x-side": "shop"}},
			},
		}},
		&consulapi.ServiceRouterConfigEntry{Kind: consulapi.ServiceRouter, Name: "shop", Routes: routes()},
	}
}

// route is one route of a router.
func route(match consulapi.ServiceRouteHTTPMatch, to consulapi.ServiceRouteDestination) consulapi.ServiceRoute {
	return consulapi.ServiceRoute{Match: &consulapi.ServiceRouteMatch{HTTP: &match}, Destination: &to}
}

func routes() []consulapi.ServiceRoute {
	type (
		match = consulapi.ServiceRouteHTTPMatch
		to    = consulapi.ServiceRouteDestination
	)
	cart := to{Service: "cart"}
	header := func(h consulapi.ServiceRouteHTTPMatchHeader) consulapi.ServiceRoute {
		return route(match{PathPrefix: "/by-header", Header: []consulapi.ServiceRouteHTTPMatchHeader{h}}, to{Service: "cart", PrefixRewrite: "/" + h.Name})
	}
	query := func(q consulapi.ServiceRouteHTTPMatchQueryParam) consulapi.ServiceRoute {
		return route(match{PathPrefix: "/by-query", QueryParam: []consulapi.ServiceRouteHTTPMatchQueryParam{q}}, to{Service: "cart", PrefixRewrite: "/" + q.Name})
	}
	return []consulapi.ServiceRoute{
		route(match{PathExact: "/exact"}, cart),
		route(match{PathExact: "/exact-rewritten"}, to{Service: "cart", PrefixRewrite: "/new"}),
		route(match{PathPrefix: "/prefix/"}, to{Service: "cart", PrefixRewrite: "/rewritten/"}),
		route(match{PathPrefix: "/strip"}, cart),
		route(match{PathPrefix: "/case", CaseInsensitive: true}, to{Service: "cart", PrefixRewrite: "/cased"}),
		route(match{PathRegex: "/re/[0-9]+/x"}, cart),
		header(consulapi.ServiceRouteHTTPMatchHeader{Name: "x-exact", Exact: "a"}),
		header(consulapi.ServiceRouteHTTPMatchHeader{Name: "x-prefix", Prefix: "pre"}),
		header(consulapi.ServiceRouteHTTPMatchHeader{Name: "x-suffix", Suffix: "fix"}),
		header(consulapi.ServiceRouteHTTPMatchHeader{Name: "x-regex", Regex: "a|b"}),
		header(consulapi.ServiceRouteHTTPMatchHeader{Name: "x-present", Present: true}),
		query(consulapi.ServiceRouteHTTPMatchQueryParam{Name: "exact", Exact: "a"}),
		query(consulapi.ServiceRouteHTTPMatchQueryParam{Name: "regex", Regex: "[0-9]+"}),
		query(consulapi.ServiceRouteHTTPMatchQueryParam{Name: "present", Present: true}),
		route(match{
			PathPrefix: "/inverted", Header: []consulapi.ServiceRouteHTTPMatchHeader{{Name: "x-not", Exact: "a", Invert: true}},
		}, to{Service: "cart", PrefixRewrite: "/inverted"}),
		route(match{PathPrefix: "/methods", Methods: []string{http.MethodPut, http.MethodDelete}}, to{Service: "cart", PrefixRewrite: "/methods"}),
		route(match{PathPrefix: "/second"}, to{ServiceSubset: "v2", PrefixRewrite: "/second"}),
		route(match{PathPrefix: "/headers"}, to{
			Service: "cart", PrefixRewrite: "/headers",
			RequestHeaders: &consulapi.HTTPHeaderModifiers{
				Add: map[string]string{"x-add": "added"}, Set: map[string]string{"x-set": "set"}, Remove: []string{"x-remove"},
			},
			ResponseHeaders: &consulapi.HTTPHeaderModifiers{
				Add: map[string]string{"x-twice": "added"}, Set: map[string]string{"x-kept": "set"}, Remove: []string{"x-gone"},
			},
		}),
		route(match{PathPrefix: "/short/"}, to{Service: "cart", PrefixRewrite: "/slow/", RequestTimeout: 500 * time.Millisecond}),
		route(match{PathPrefix: "/fails/"}, to{Service: "both", PrefixRewrite: "/fail/", NumRetries: 4, RetryOnStatusCodes: []uint32{503}}),
		route(match{PathPrefix: "/unretried/"}, to{Service: "both", PrefixRewrite: "/fail/"}),
	}
}

// routerQuestions go to the router of shop; what no route takes comes to shop's version 1.
func routerQuestions() []question {
	with := func(name, value string) map[string]string { return map[string]string{name: value} }
	rest := []question{
		{name: "exact", path: "/exact", app: "cart-1", path2: "/exact"},
		{name: "exact with a query", path: "/exact?a=b", app: "cart-1", path2: "/exact?a=b"},
		{name: "exact, more", path: "/exact/more", app: "shop-1", path2: "/exact/more"},
		{name: "exact, rewritten", path: "/exact-rewritten?q", app: "cart-1", path2: "/new?q"},
		{name: "prefix rewrite", path: "/prefix/a/b?c=d", app: "cart-1", path2: "/rewritten/a/b?c=d"},
		{name: "not the prefix", path: "/prefix", app: "shop-1", path2: "/prefix"},
		{name: "prefix stripped, a prefix is stripped", path: "/strip/a?b=c", app: "cart-1", path2: "/a?b=c"},
		{name: "prefix stripped, all of it", path: "/strip", app: "cart-1", path2: "/"},
		{name: "prefix stripped, a slash", path: "/strip/", app: "cart-1", path2: "/"},
		{name: "prefix stripped, two slashes", path: "/strip//a", app: "cart-1"},
		{name: "prefix stripped, not at a slash", path: "/stripped", app: "cart-1", path2: "/ped"},
		{name: "prefix stripped, escaped", path: "/strip/%2fa%20b", app: "cart-1"},
		{name: "case", path: "/CaSe/x", app: "cart-1", path2: "/cased/x"},
		{name: "regex", path: "/re/42/x", app: "cart-1"},
		{name: "regex, in full", path: "/re/42/xy", app: "shop-1", path2: "/re/42/xy"},
		{name: "header exact", path: "/by-header", header: with("x-exact", "a"), app: "cart-1", path2: "/x-exact"},
		{name: "header exact, other", path: "/by-header", header: with("x-exact", "ab"), app: "shop-1"},
		{name: "header prefix", path: "/by-header/z", header: with("x-prefix", "prefix"), app: "cart-1", path2: "/x-prefix/z"},
		{name: "header suffix", path: "/by-header", header: with("x-suffix", "suffix"), app: "cart-1", path2: "/x-suffix"},
		{name: "header regex", path: "/by-header", header: with("x-regex", "b"), app: "cart-1", path2: "/x-regex"},
		{name: "header regex, in full", path: "/by-header", header: with("x-regex", "ab"), app: "shop-1"},
		{name: "header present", path: "/by-header", header: with("x-present", "x"), app: "cart-1", path2: "/x-present"},
		{name: "header present, empty", path: "/by-header", header: with("x-present", ""), app: "cart-1", path2: "/x-present"},
		{name: "header none", path: "/by-header", app: "shop-1"},
		{name: "header inverted", path: "/inverted", header: with("x-not", "b"), app: "cart-1"},
		{name: "header inverted, missing", path: "/inverted", app: "shop-1"},
		{name: "header inverted, equal", path: "/inverted", header: with("x-not", "a"), app: "shop-1"},
		{name: "query exact", path: "/by-query?exact=a", app: "cart-1", path2: "/exact?exact=a"},
		{name: "query exact, other", path: "/by-query?exact=b", app: "shop-1"},
		{name: "query regex", path: "/by-query?x=y&regex=12", app: "cart-1", path2: "/regex?x=y&regex=12"},
		{name: "query regex, in full", path: "/by-query?regex=12a", app: "shop-1"},
		{name: "query present", path: "/by-query?present", app: "cart-1", path2: "/present?present"},
		{name: "query none", path: "/by-query", app: "shop-1"},
		{name: "method", method: http.MethodPut, path: "/methods", app: "cart-1"},
		{name: "method, other", method: http.MethodPost, path: "/methods", app: "shop-1"},
		{name: "subset", path: "/second/x", app: "shop-2", path2: "/second/x"},
		{name: "default subset", path: "/", app: "shop-1", path2: "/"},
		{
			name: "headers", path: "/headers", app: "cart-1",
			header: map[string]string{"x-add": "own", "x-set": "own", "x-remove": "own"},
			sees:   map[string]string{"x-add": "own,added", "x-set": "set", "x-remove": ""},
			gets:   map[string]string{"x-twice": "app,added", "x-kept": "set", "x-gone": ""},
		},
		{name: "long enough", path: "/short/1ms", app: "cart-1", path2: "/slow/1ms"},
	}
	for i := range rest {
		rest[i].upstream = "shop"
	}
	return rest
}

// testSplitter sends half to each side, with the headers of that side.
func testSplitter(t *testing.T, web map[string]*instance) {
	t.Helper()
	q := question{
		upstream: "mix", path: "/", sees: map[string]string{"x-side": ""}, gets: map[string]string{"x-side": "", "x-gone": ""},
	}
	const cart, shop = "200 cart-1 x-side=cart x-gone= x-side=from cart", "200 shop-2 x-side=shop x-gone=app x-side="
	for kind, i := range web {
		found := spread(t, i, q, 200)
		if found[cart] < 50 || found[shop] < 50 || len(found) != 2 {
			t.Errorf("%s: %v", kind, found)
		}
	}
}

// testRetryRoute asks what fails at every other instance.
func testRetryRoute(t *testing.T, web map[string]*instance) {
	t.Helper()
	for kind, i := range web {
		for range 20 {
			if got := get(t, i.url("shop", "/fails/both-1")); got.status != http.StatusOK {
				t.Errorf("%s: a retry ends with status %d: %s", kind, got.status, got.body)
			}
		}
		failed := 0
		for range 40 {
			if got := get(t, i.url("shop", "/unretried/both-1")); got.status != http.StatusOK {
				failed++
			}
		}
		if failed == 0 || failed == 40 {
			t.Errorf("%s: without retries %d of 40 fail", kind, failed)
		}
	}
}

// testTimeoutRoute asks for what takes longer than its route allows.
func testTimeoutRoute(t *testing.T, web map[string]*instance) {
	t.Helper()
	for kind, i := range web {
		start := time.Now()
		if got := get(t, i.url("shop", "/short/5s")); got.status != http.StatusGatewayTimeout {
			t.Errorf("%s: status %d: %s", kind, got.status, got.body)
		}
		if took := time.Since(start); took > 4*time.Second {
			t.Errorf("%s: it took %v", kind, took)
		}
	}
}

// testFailover takes an app away: its sidecar goes on, and Consul's check of the app tells all.
func testFailover(t *testing.T, w *world, web map[string]*instance, part, frail *instance) {
	t.Helper()
	comes := func(upstream, app string) {
		for kind, i := range web {
			eventually(t, fmt.Sprintf("%s to come to %s by %s", upstream, app, kind), func(ctx context.Context) error {
				got, err := fetch(ctx, strict(t), i.url(upstream, "/"))
				if err == nil && got.body != app {
					err = fmt.Errorf("status %d: %s", got.status, got.body)
				}
				return err
			})
		}
	}
	for i, c := range map[*instance]struct{ own, next string }{part: {"part-1", "part-2"}, frail: {"frail-1", "cart-1"}} {
		comes(i.service, c.own)
		must(t, w.consul.API.Agent().EnableServiceMaintenanceOpts(i.id+"-sidecar-proxy", "out", (&consulapi.QueryOptions{}).WithContext(t.Context())))
		comes(i.service, c.next)
		must(t, w.consul.API.Agent().DisableServiceMaintenanceOpts(i.id+"-sidecar-proxy", (&consulapi.QueryOptions{}).WithContext(t.Context())))
		comes(i.service, c.own)
	}
}
