package integration_test

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
)

// stat is a counter of an admin interface, ours or Envoy's, of the clusters whose names begin with cluster; "0" if it is not
// there.
func stat(t *testing.T, admin int, cluster, suffix string) string {
	t.Helper()
	for line := range strings.Lines(get(t, "http://"+local(admin)+"/stats").body) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ": ")
		if strings.HasPrefix(name, "cluster."+cluster+".") && strings.HasSuffix(name, suffix) {
			return value
		}
	}
	return "0"
}

func eventuallyStat(t *testing.T, admin int, suffix, want string) {
	t.Helper()
	eventually(t, suffix+" "+want, func(context.Context) error {
		if got := stat(t, admin, "shop", suffix); got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// TestConsulBalance has Consul say how our sidecar balances, limits, ejects and repeats.
func TestConsulBalance(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"shop": "http", "web": "http"})
	w.allow(t, "web", "shop")
	must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceResolverConfigEntry{
		Kind: consulapi.ServiceResolver, Name: "shop",
		LoadBalancer: &consulapi.LoadBalancer{Policy: "ring_hash", HashPolicies: []consulapi.HashPolicy{{Field: "header", FieldValue: "x-user"}}},
	}))
	for _, id := range []string{"shop-1", "shop-2", "shop-3"} {
		sidecarReady(t, w.run(t, id, "shop"))
	}
	web := w.run(t, "web-1", "web", "shop")
	must(t, w.consul.WaitHealthy(t.Context(), "shop-sidecar-proxy", 3))
	waitStatus(t, web.url("shop", "/"), http.StatusOK)
	eventuallyStat(t, web.admin, ".membership_healthy", "3")
	as := func(user string) func(*http.Request) {
		return func(r *http.Request) { r.Header.Set("X-User", user) }
	}
	t.Run("ring_hash", func(t *testing.T) {
		seen := map[string]bool{}
		for user := range 20 {
			first := get(t, web.url("shop", "/"), as(fmt.Sprint(user))).body
			seen[first] = true
			for range 3 {
				if got := get(t, web.url("shop", "/"), as(fmt.Sprint(user))).body; got != first {
					t.Fatalf("user %d came to %s, and then to %s", user, first, got)
				}
			}
		}
		if len(seen) < 2 {
			t.Errorf("all users came to %v", seen)
		}
	})
	t.Run("retries", func(t *testing.T) {
		must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceRouterConfigEntry{
			Kind: consulapi.ServiceRouter, Name: "shop", Routes: []consulapi.ServiceRoute{{
				// Who has no hash comes to one of three by lot, each time.
				Destination: &consulapi.ServiceRouteDestination{NumRetries: 20, RetryOn: []string{"gateway-error"}},
			}},
		}))
		eventually(t, "a retry", func(context.Context) error {
			get(t, web.url("shop", "/fail/shop-1"))
			if stat(t, web.admin, "shop", ".upstream_rq_retry_success") == "0" {
				return fmt.Errorf("none yet")
			}
			return nil
		})
		for range 20 {
			wantStatus(t, get(t, web.url("shop", "/fail/shop-1")), http.StatusOK)
		}
	})
	t.Run("least_request", func(t *testing.T) {
		must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceResolverConfigEntry{
			Kind: consulapi.ServiceResolver, Name: "shop",
			LoadBalancer: &consulapi.LoadBalancer{Policy: "least_request", LeastRequestConfig: &consulapi.LeastRequestConfig{ChoiceCount: 5}},
		}))
		// Without a hash a user comes to all of them by and by.
		eventually(t, "a user to come elsewhere", func(context.Context) error {
			seen := map[string]bool{}
			for range 20 {
				seen[get(t, web.url("shop", "/"), as("1")).body] = true
			}
			if len(seen) != 3 {
				return fmt.Errorf("only %v", seen)
			}
			return nil
		})
	})
	t.Run("passive health check", func(t *testing.T) {
		all, most := uint32(100), uint32(100)
		base := time.Hour
		defaults := func(limits *consulapi.UpstreamLimits) {
			must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
				Kind: consulapi.ServiceDefaults, Name: "web", Protocol: "http",
				UpstreamConfig: &consulapi.UpstreamConfiguration{Defaults: &consulapi.UpstreamConfig{
					Limits: limits,
					PassiveHealthCheck: &consulapi.PassiveHealthCheck{
						Interval: time.Second, MaxFailures: 2, EnforcingConsecutive5xx: &all, MaxEjectionPercent: &most, BaseEjectionTime: &base,
					},
				}},
			}))
		}
		defaults(nil)
		eventually(t, "the failing one to be ejected", func(context.Context) error {
			for range 6 {
				get(t, web.url("shop", "/fail/shop-2"))
			}
			if got := stat(t, web.admin, "shop", ".outlier_detection.ejections_active"); got != "1" {
				return fmt.Errorf("%s are:\n%s", got, get(t, "http://"+local(web.admin)+"/stats?filter=cluster.shop.*(outlier|total|retry)").body)
			}
			return nil
		})
		eventuallyStat(t, web.admin, ".membership_healthy", "2")
		for range 20 {
			if got := get(t, web.url("shop", "/")).body; got == "shop-2" {
				t.Fatal("an answer of the one that is ejected")
			}
		}
		one := 1
		defaults(&consulapi.UpstreamLimits{MaxConcurrentRequests: &one})
		eventually(t, "a request over the limit", func(context.Context) error {
			var slow sync.WaitGroup
			for range 3 {
				slow.Go(func() { get(t, web.url("shop", "/slow/100ms")) })
			}
			slow.Wait()
			if stat(t, web.admin, "shop", ".upstream_rq_pending_overflow") == "0" {
				return fmt.Errorf("none yet")
			}
			return nil
		})
		if got := stat(t, web.admin, "shop", ".outlier_detection.ejections_active"); got != "1" {
			t.Errorf("after the change of limits %s are ejected", got)
		}
	})
}

// TestBalanceAsEnvoy has Envoy and us choose by the same configuration, in the same order.
func TestBalanceAsEnvoy(t *testing.T) {
	t.Parallel()
	var endpoints []string
	for i := range 5 {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/fail" {
				w.WriteHeader(http.StatusInternalServerError)
			}
			fmt.Fprint(w, i)
		}))
		t.Cleanup(server.Close)
		addr, _ := server.Listener.Addr().(*net.TCPAddr)
		endpoints = append(endpoints, fmt.Sprintf(`{"loadBalancingWeight":%d,"endpoint":{"address":{"socketAddress":{"address":"127.0.0.1","portValue":%d}}}}`, i+1, addr.Port))
	}
	cluster := func(name string, n int, more string) string {
		return fmt.Sprintf(`{"name":%q,"type":"STATIC","connectTimeout":"5s",%s,"loadAssignment":{"clusterName":%q,"endpoints":[{"lbEndpoints":[%s]}]}}`,
			name, more, name, strings.Join(endpoints[:n], ","))
	}
	// What the older field says does not count beside it.
	typed := func(typ, config string) string {
		return fmt.Sprintf(`"lbPolicy":"LEAST_REQUEST","loadBalancingPolicy":{"policies":[{"typedExtensionConfig":{"name":"x","typedConfig":{"@type":"type.googleapis.com/envoy.extensions.load_balancing_policies.%s",%s}}}]}`, typ, config)
	}
	clusters := map[string]string{
		"ring":         cluster("ring", 5, `"lbPolicy":"RING_HASH"`),
		"maglev":       cluster("maglev", 5, `"lbPolicy":"MAGLEV"`),
		"murmur":       cluster("murmur", 5, `"lbPolicy":"RING_HASH","ringHashLbConfig":{"hashFunction":"MURMUR_HASH_2"}`),
		"typed-ring":   cluster("typed-ring", 5, typed("ring_hash.v3.RingHash", `"hashFunction":"MURMUR_HASH_2","minimumRingSize":"2048"`)),
		"typed-maglev": cluster("typed-maglev", 5, typed("maglev.v3.Maglev", `"tableSize":"10007"`)),
		"two":          cluster("two", 2, `"outlierDetection":{"interval":"1s"}`),
		"half":         cluster("half", 2, `"outlierDetection":{"interval":"1s","maxEjectionPercent":50}`),
	}
	specs := map[string]chainSpec{}
	for name := range clusters {
		specs[name] = chainSpec{cluster: name, route: `,"hashPolicy":[{"header":{"headerName":"x-user"}}]`}
	}
	w := newTwin(t, specs, slices.Collect(maps.Values(clusters))...)
	ask := func(name, path string, user int) (ours, theirs string) {
		text := request("GET "+path, fmt.Sprint("X-User: ", user))
		return w.raw(t, w.chains[name].ours, text).body, w.raw(t, w.chains[name].theirs, text).body
	}
	for name, least := range map[string]int{"ring": 300, "murmur": 300, "typed-ring": 300, "maglev": 290, "typed-maglev": 290} {
		same := 0
		for user := range 300 {
			if ours, theirs := ask(name, "/", user); ours == theirs {
				same++
			}
		}
		t.Logf("%s: %d of 300 users come to the same host", name, same)
		if same < least {
			t.Errorf("%s: only %d of 300 users come to the same host as by Envoy", name, same)
		}
	}
	for _, name := range []string{"two", "half"} {
		for range 24 {
			ask(name, "/fail", 0)
		}
		for _, counter := range []string{"ejections_active", "ejections_total", "ejections_enforced_consecutive_5xx"} {
			w.sameStats(t, "cluster."+name+".outlier_detection."+counter)
		}
	}
}
