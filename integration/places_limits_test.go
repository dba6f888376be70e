package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	consulapi "github.com/hashicorp/consul/api"
)

// limited is what Consul is told of the upstreams of web that have limits, or that look out for failures.
func limited() *consulapi.ServiceConfigEntry {
	one, all := 1, uint32(100)
	base := time.Hour
	return &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "web", Protocol: "http",
		UpstreamConfig: &consulapi.UpstreamConfiguration{Overrides: []*consulapi.UpstreamConfig{
			{Name: "tight", Limits: &consulapi.UpstreamLimits{MaxConcurrentRequests: &one}},
			{Name: "streams", Limits: &consulapi.UpstreamLimits{MaxConcurrentRequests: &one}},
			{Name: "narrow", Limits: &consulapi.UpstreamLimits{MaxConnections: &one, MaxPendingRequests: &one}},
			{Name: "few", Limits: &consulapi.UpstreamLimits{MaxConnections: &one}},
			{Name: "sick", PassiveHealthCheck: &consulapi.PassiveHealthCheck{
				Interval: time.Second, MaxFailures: 2, EnforcingConsecutive5xx: &all, MaxEjectionPercent: &all, BaseEjectionTime: &base,
			}},
		}},
	}
}

// counted are statistics of an upstream of a proxy, by the ends of their names.
func counted(t *testing.T, admin int, upstream string, names ...string) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, name := range names {
		all[name] = stat(t, admin, upstream, "."+name)
	}
	return all
}

// waitCounted waits for a statistic.
func waitCounted(t *testing.T, admin int, upstream, name, want string) {
	t.Helper()
	eventually(t, fmt.Sprintf("%s of %s to be %s", name, upstream, want), func(context.Context) error {
		if got := stat(t, admin, upstream, "."+name); got != want {
			return fmt.Errorf("it is %s", got)
		}
		return nil
	})
}

// sameCounted compares what both have counted.
func sameCounted(t *testing.T, all map[string]map[string]string) {
	t.Helper()
	if diff := cmp.Diff(all["envoy"], all["serai"]); diff != "" {
		t.Errorf("-Envoy +ours:\n%s", diff)
	}
}

// testLimits fills up upstreams, one request after the other, until one is over the limit.
func testLimits(t *testing.T, web map[string]*instance) {
	t.Helper()
	for _, c := range []struct {
		upstream string
		fill     []string // what tells that a request has come there, one each
	}{
		{"tight", []string{"upstream_rq_active"}},
		{"streams", []string{"upstream_rq_active"}},
		{"narrow", []string{"upstream_rq_active", "upstream_rq_pending_active"}},
	} {
		t.Run(c.upstream, func(t *testing.T) {
			all := map[string]map[string]string{}
			each(t, web, func(i *instance) {
				client := strict(t)
				release := hold(t, i.admin, c.upstream, c.fill, func(ctx context.Context) { _, _ = fetch(ctx, client, i.url(c.upstream, "/slow/1m")) })
				got := get(t, i.url(c.upstream, "/"))
				if got.status != http.StatusServiceUnavailable || got.header.Get("X-Envoy-Overloaded") != "true" ||
					!strings.HasSuffix(strings.TrimSpace(got.body), "reset reason: overflow") {
					t.Errorf("%s: status %d: %s, %v", i.id, got.status, got.body, got.header)
				}
				kind := i.id[len("web-"):]
				all[kind] = counted(t, i.admin, c.upstream, "upstream_rq_pending_overflow", "upstream_rq_active", "upstream_rq_pending_active",
					"circuit_breakers.default.cx_open", "circuit_breakers.default.rq_open", "circuit_breakers.default.rq_pending_open")
				release()
				wantStatus(t, get(t, i.url(c.upstream, "/")), http.StatusOK)
			})
			sameCounted(t, all)
			if got := all["serai"]["upstream_rq_pending_overflow"]; got != "1" {
				t.Errorf("%s are over the limit", got)
			}
		})
	}
}

// hold makes requests that last until they are released, each when a statistic tells that the one before has come where it
// is to be.
func hold(t *testing.T, admin int, upstream string, places []string, ask func(context.Context)) (release func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	var held sync.WaitGroup
	for _, place := range places {
		held.Go(func() { ask(ctx) })
		waitCounted(t, admin, upstream, place, "1")
	}
	return func() {
		cancel()
		held.Wait()
		waitCounted(t, admin, upstream, "upstream_rq_active", "0")
	}
}

// testFew opens one connection more than may be.
func testFew(t *testing.T, web map[string]*instance) {
	t.Helper()
	all := map[string]map[string]string{}
	each(t, web, func(i *instance) { all[i.id[len("web-"):]] = oneTooMany(t, i.admin, "few", local(i.upstreams["few"])) })
	sameCounted(t, all)
}

// oneTooMany has the only connection that may be to a tcp service, and makes one more. It returns what is counted then.
func oneTooMany(t *testing.T, admin int, upstream, addr string) map[string]string {
	t.Helper()
	waitCounted(t, admin, upstream, "upstream_cx_active", "0")
	first := dialMirror(t, addr)
	must(t, first.ping("hello"))
	must(t, refused(t.Context(), addr))
	must(t, first.ping("still there"))
	all := counted(t, admin, upstream, "upstream_cx_overflow", "upstream_cx_active", "upstream_cx_connect_fail", "circuit_breakers.default.cx_open")
	if got := all["upstream_cx_overflow"]; got != "1" {
		t.Errorf("%s are over the limit", got)
	}
	drop(first.conn)
	waitCounted(t, admin, upstream, "upstream_cx_active", "0")
	must(t, dialMirror(t, addr).ping("again"))
	return all
}

// testSick asks what fails at one of two instances, until that is ejected, which is counted and shown.
func testSick(t *testing.T, web map[string]*instance) {
	t.Helper()
	all := map[string]map[string]string{}
	each(t, web, func(i *instance) {
		eventually(t, "the sick one to be ejected", func(context.Context) error {
			for range 6 {
				get(t, i.url("sick", "/fail/sick-1"))
			}
			for range 10 {
				if got := get(t, i.url("sick", "/")); got.body != "sick-2" {
					return fmt.Errorf("%s comes to %s", i.id, got.body)
				}
			}
			return nil
		})
		kind := i.id[len("web-"):]
		all[kind] = counted(t, i.admin, "sick", "outlier_detection.ejections_active", "outlier_detection.ejections_enforced_total", "outlier_detection.ejections_total",
			"outlier_detection.ejections_enforced_consecutive_5xx", "outlier_detection.ejections_detected_consecutive_5xx", "outlier_detection.ejections_overflow",
			"outlier_detection.ejections_consecutive_5xx", "outlier_detection.ejections_success_rate",
			"membership_healthy", "membership_total")
		flags := 0
		for line := range strings.Lines(get(t, "http://"+local(i.admin)+"/clusters").body) {
			if strings.HasPrefix(line, "sick.") && strings.HasSuffix(strings.TrimSpace(line), "::health_flags::/failed_outlier_check") {
				flags++
			}
		}
		all[kind]["shown"] = fmt.Sprint(flags)
	})
	sameCounted(t, all)
	if all["serai"]["shown"] != "1" {
		t.Errorf("%v", all["serai"])
	}
}
