package integration_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
)

// TestExtAuthzAsEnvoy asks a service of HTTP, again where it fails, with fields that tell of the request, and counts for the
// cluster what becomes of it.
func TestExtAuthzAsEnvoy(t *testing.T) {
	t.Parallel()
	var mu sync.Mutex // guards:
	asked := map[string][]string{}
	judge := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		who := r.Header.Get("X-Who")
		asked[who] = append(asked[who], fmt.Sprintf("%s %s method=%q path=%q plain=%q none=%q", r.Method, r.URL.Path, r.Header.Get("X-Method"), r.Header.Get("X-Path"), r.Header.Get("X-Plain"), r.Header.Values("X-None")))
		switch n := len(asked[who]); {
		case strings.HasPrefix(r.URL.Path, "/deny"):
			w.WriteHeader(http.StatusForbidden)
		case strings.HasPrefix(r.URL.Path, "/fail"), strings.HasPrefix(r.URL.Path, "/twice") && n%3 != 0:
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	t.Cleanup(judge.Close)
	filter := func(more string) string {
		return httpFilter("type.googleapis.com/envoy.extensions.filters.http.ext_authz.v3.ExtAuthz", `"httpService":{"serverUri":{"uri":"http://judge","cluster":"judge","timeout":"10s"},
			"authorizationRequest":{"allowedHeaders":{"patterns":[{"exact":"x-who"}]},"headersToAdd":[{"key":"x-method","value":"%REQ(:METHOD)%"},{"key":"x-path","value":"p=%REQ(:PATH)%"},{"key":"x-plain","value":"v"},{"key":"x-none","value":"%REQ(X-ABSENT)%"}]}`+
			more+`}`)
	}
	const retries = `,"retryPolicy":{"numRetries":2,"retryBackOff":{"baseInterval":"0.01s","maxInterval":"0.02s"}}`
	w := newTwin(t, map[string]chainSpec{
		"once":  {filters: filter("")},
		"again": {filters: filter(retries)},
		"open":  {filters: strings.Replace(filter(""), `"httpService"`, `"failureModeAllow":true,"statPrefix":"mine","httpService"`, 1)},
	}, staticCluster("judge", judge.Listener.Addr()))
	for _, chain := range []string{"once", "again", "open"} {
		for _, path := range []string{"/ok", "/deny", "/fail", "/twice"} {
			before := func() string {
				mu.Lock()
				defer mu.Unlock()
				told := fmt.Sprint(asked)
				clear(asked)
				return told
			}
			before()
			w.raw(t, w.chains[chain].ours, request("GET "+path, "X-Who: "+chain))
			ours := before()
			w.raw(t, w.chains[chain].theirs, request("GET "+path, "X-Who: "+chain))
			if theirs := before(); ours != theirs {
				t.Errorf("%s %s: the service is asked by us %s\nby Envoy %s", chain, path, ours, theirs)
			}
			w.ask(t, chain, request("GET "+path, "X-Who: "+chain))
		}
	}
	w.sameStats(t, "cluster.app.ext_authz.ok", "cluster.app.ext_authz.denied", "cluster.app.ext_authz.error", "cluster.app.ext_authz.mine.failure_mode_allowed",
		"cluster.app.ext_authz.mine.error", "http.once.ext_authz.ok", "http.again.ext_authz.denied")
}
