package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
)

// balancer is what a resolver says of how an instance is chosen.
type balancer struct {
	name   string
	config consulapi.LoadBalancer
	mark   string // what is in the configuration of a proxy that has it, and of no other
	// as makes a request that of user n; nil where nobody is told from anybody.
	as func(r *http.Request, n int)
	// address tells that users are told apart by it.
	address bool
}

// hashing are balancers that send a user to one instance. The field that each looks at is its own, by which it is seen to
// be in force.
func hashing() []balancer {
	header := func(name string) func(*http.Request, int) {
		return func(r *http.Request, n int) { r.Header.Set(name, fmt.Sprint("user-", n)) }
	}
	by := func(policy string, fields ...consulapi.HashPolicy) consulapi.LoadBalancer {
		return consulapi.LoadBalancer{Policy: policy, HashPolicies: fields}
	}
	of := func(field, value string) consulapi.HashPolicy {
		return consulapi.HashPolicy{Field: field, FieldValue: value}
	}
	sized := by("ring_hash", of("header", "x-sized"))
	sized.RingHashConfig = &consulapi.RingHashConfig{MinimumRingSize: 20, MaximumRingSize: 30}
	return []balancer{
		{name: "ring by header", config: by("ring_hash", of("header", "x-ring")), mark: "x-ring", as: header("X-Ring")},
		{name: "ring of few", config: sized, mark: "x-sized", as: header("X-Sized")},
		{name: "ring by cookie", config: by("ring_hash", of("cookie", "c-ring")), mark: "c-ring", as: func(r *http.Request, n int) {
			r.AddCookie(&http.Cookie{Name: "c-ring", Value: fmt.Sprint(n)})
		}},
		{name: "ring by query", config: by("ring_hash", of("query_parameter", "q-ring")), mark: "q-ring", as: func(r *http.Request, n int) {
			r.URL.RawQuery = fmt.Sprintf("a=b&q-ring=%d&q-ring=x", n)
		}},
		{name: "ring by several", config: by("ring_hash", of("header", "x-one"), of("header", "x-two")), mark: "x-two", as: func(r *http.Request, n int) {
			if n%3 != 0 {
				r.Header.Set("X-One", fmt.Sprint(n))
			}
			r.Header.Set("X-Two", fmt.Sprint(n/2))
		}},
		{name: "ring by address", config: by("ring_hash", consulapi.HashPolicy{SourceIP: true}), mark: "source_ip", address: true},
		{name: "maglev by header", config: by("maglev", of("header", "x-mag")), mark: "x-mag", as: header("X-Mag")},
		{name: "maglev by address", config: by("maglev", consulapi.HashPolicy{SourceIP: true}), mark: "source_ip", address: true},
	}
}

// even are balancers that send everybody everywhere.
func even() []balancer {
	return []balancer{
		{name: "random", config: consulapi.LoadBalancer{Policy: "random"}, mark: `"RANDOM"`},
		{name: "least_request", config: consulapi.LoadBalancer{Policy: "least_request", LeastRequestConfig: &consulapi.LeastRequestConfig{ChoiceCount: 3}}, mark: `"LEAST_REQUEST"`},
	}
}

// TestBalancersAsEnvoy has resolvers say how instances are chosen, which our sidecar and Envoy do alike: by a hash both
// find the same instance, so that a fleet of both kinds is one to a user.
func TestBalancersAsEnvoy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "pool": "http"})
	w.allow(t, "web", "pool")
	for _, id := range []string{"pool-1", "pool-2", "pool-3"} {
		w.run(t, id, "pool")
	}
	web := w.twins(t, "web", "pool")
	for _, i := range web {
		waitCounted(t, i.admin, "pool", "membership_healthy", "3")
		waitAsked(t, i, "pool", 3) // Envoy counts them healthy up to a second before it asks them
	}
	t.Run("round_robin", func(t *testing.T) { testEven(t, web) })
	for _, b := range append(hashing(), even()...) {
		t.Run(b.name, func(t *testing.T) {
			w.balance(t, web, &b)
			if b.as == nil && !b.address {
				testEven(t, web)
				return
			}
			found, client := map[string]bool{}, strict(t)
			for n := range 40 {
				theirs, ours := b.ask(t, client, web["envoy"], n), b.ask(t, client, web["serai"], n)
				if ours != theirs || b.ask(t, client, web["serai"], n) != ours {
					t.Errorf("user %d comes to %s by Envoy, and by us to %s", n, theirs, ours)
				}
				found[ours] = true
			}
			if len(found) != 3 {
				t.Errorf("40 users come to %v", found)
			}
		})
	}
	for name, cookie := range map[string]*consulapi.CookieConfig{
		"a session": {Session: true, Path: "/"}, "an hour": {TTL: time.Hour}, "a path": {TTL: time.Minute, Path: "/x/"},
	} {
		t.Run("cookie for "+name, func(t *testing.T) { testCookie(t, w, web, "c-"+strings.ReplaceAll(name, " ", ""), cookie) })
	}
}

// waitAsked waits until so many instances of an upstream have answered.
func waitAsked(t *testing.T, i *instance, upstream string, n int) {
	t.Helper()
	client, found := strict(t), map[string]bool{}
	eventually(t, fmt.Sprintf("%d instances to be asked by %s", n, i.id), func(ctx context.Context) error {
		got, err := fetch(ctx, client, i.url(upstream, "/"))
		if err != nil {
			return err
		}
		if got.status == http.StatusOK {
			found[got.body] = true
		}
		if len(found) < n {
			return fmt.Errorf("status %d, asked are %v", got.status, found)
		}
		return nil
	})
}

// balance writes what a balancer says, and waits until both kinds have it.
func (w *world) balance(t *testing.T, web map[string]*instance, b *balancer) {
	t.Helper()
	w.write(t, &consulapi.ServiceResolverConfigEntry{Kind: consulapi.ServiceResolver, Name: "pool", LoadBalancer: &b.config})
	policy := fmt.Sprintf("%q", strings.ToUpper(b.config.Policy))
	client := strict(t)
	for _, i := range web {
		eventually(t, i.id+" to have "+b.name, func(ctx context.Context) error {
			got, err := fetch(ctx, client, "http://"+local(i.admin)+"/config_dump")
			if err == nil && (!strings.Contains(got.body, b.mark) || !strings.Contains(got.body, policy)) {
				err = errNotYet
			}
			return err
		})
	}
}

// ask is who answers to user n.
func (b *balancer) ask(t *testing.T, client *http.Client, i *instance, n int) string {
	t.Helper()
	if b.address {
		client = strictOver(t, &net.Dialer{Timeout: 5 * time.Second, LocalAddr: &net.TCPAddr{IP: net.IPv4(127, 0, 2, byte(n+1))}})
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, i.url("pool", "/x/"), http.NoBody)
	must(t, err)
	if b.as != nil {
		b.as(req, n)
	}
	got, err := send(client, req)
	must(t, err)
	wantStatus(t, got, http.StatusOK)
	return got.body
}

// testEven wants each instance to be asked about as often as the others.
func testEven(t *testing.T, web map[string]*instance) {
	t.Helper()
	const n = 150
	each(t, web, func(i *instance) {
		found := spread(t, i, question{upstream: "pool", path: "/"}, n)
		for _, id := range []string{"pool-1", "pool-2", "pool-3"} {
			if got := found["200 "+id]; got < n/6 { // a half of its share: by chance once in millions of times
				t.Errorf("%s: %v", i.id, found)
			}
		}
	})
}

// testCookie has both make cookies of one form, and take those of each other.
func testCookie(t *testing.T, w *world, web map[string]*instance, name string, config *consulapi.CookieConfig) {
	t.Helper()
	w.balance(t, web, &balancer{name: name, mark: name, config: consulapi.LoadBalancer{
		Policy: "ring_hash", HashPolicies: []consulapi.HashPolicy{{Field: "cookie", FieldValue: name, CookieConfig: config}},
	}})
	value := regexp.MustCompile(`="[0-9a-f]+"`)
	form := map[string]string{}
	each(t, web, func(i *instance) {
		var first *answer
		eventually(t, i.id+" to set a cookie", func(ctx context.Context) (err error) {
			first, err = fetch(ctx, strict(t), i.url("pool", "/x/"))
			if err == nil && first.header.Get("Set-Cookie") == "" {
				err = errors.New("none")
			}
			return err
		})
		set := first.header.Get("Set-Cookie")
		form[i.id] = value.ReplaceAllString(set, `="V"`)
		pair, _, _ := strings.Cut(set, ";")
		for _, other := range web {
			again := get(t, other.url("pool", "/x/"), func(r *http.Request) { r.Header.Set("Cookie", pair) })
			if again.body != first.body || again.header.Get("Set-Cookie") != "" {
				t.Errorf("the cookie %q of %s brings to %s by it, by %s to %s with %q", pair, i.id, first.body, other.id, again.body, again.header.Get("Set-Cookie"))
			}
		}
	})
	if diff := cmp.Diff(form["web-envoy"], form["web-serai"]); diff != "" {
		t.Errorf("-Envoy +ours:\n%s", diff)
	}
}
