package catalog_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/agent/catalog"
)

// start runs an Index until the test ends, and waits until it is ready.
func start(t *testing.T, c *consul, config catalog.IndexConfig) *catalog.Index {
	t.Helper()
	if err := config.Validate(); err != nil {
		t.Fatal(err)
	}
	x := catalog.NewIndex(c.client(t), config, slog.New(slog.NewTextHandler(t.Output(), nil)))
	if x.Ready() == nil {
		t.Error("it is ready before Run")
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- x.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	until(t, "the index to be ready", x.Ready)
	return x
}

// until waits for a condition.
func until(t *testing.T, what string, condition func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for err := condition(); err != nil; err = condition() {
		select {
		case <-time.After(5 * time.Millisecond):
		case <-ctx.Done():
			t.Fatalf("waited for %s: %v", what, err)
		}
	}
}

// has waits until a service has so many instances, 0 for none of that name.
func has(t *testing.T, x *catalog.Index, service string, want int) {
	t.Helper()
	until(t, fmt.Sprintf("%d instances of %s", want, service), func() error {
		list, err := x.Instances(t.Context(), service, "")
		if len(list) != want || (want == 0) != errors.Is(err, catalog.ErrNoService) {
			return fmt.Errorf("%d, %w", len(list), err)
		}
		return nil
	})
}

func TestIndexFollows(t *testing.T) {
	t.Parallel()
	c := newConsul(t)
	x := start(t, c, catalog.IndexConfig{})
	has(t, x, "web", 0)
	e := entry("web", "n1", "10.0.0.2", 80)
	e.Service.Tags, e.Service.Address = []string{"v1"}, "10.1.0.2"
	e.Service.Weights = api.AgentWeights{Passing: 3, Warning: 2}
	e.Checks = api.HealthChecks{{Status: "passing"}, {Status: "warning"}}
	c.change(func() { c.services["web"] = []*api.ServiceEntry{e} })
	has(t, x, "WEB", 1)
	got, err := x.Instances(t.Context(), "web", "DC1")
	if err != nil {
		t.Fatal(err)
	}
	want := []catalog.Instance{{
		Node:    catalog.Node{Name: "n1", Datacenter: "dc1", Address: "10.0.0.2"},
		Service: "web", ID: "web-n1", Address: "10.1.0.2", Port: 80, Tags: []string{"v1"}, Warning: true, PassingWeight: 3, WarningWeight: 2,
	}}
	if diff := cmp.Diff(want, got); diff != "" || got[0].Weight() != 2 {
		t.Error(diff, got[0].Weight())
	}
	c.change(func() { e.Checks[0].Status = "critical" })
	until(t, "the instance to be critical", func() error {
		if got, err := x.Instances(t.Context(), "web", ""); err != nil || !got[0].Critical {
			return errors.New("it is not")
		}
		return nil
	})
	c.change(func() { delete(c.services, "web") })
	has(t, x, "web", 0)
	until(t, "the service to be forgotten", func() error {
		if s := x.Stats(); s.Services != 1 || s.Followed != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	if s := x.Settings(); s.Datacenter != "dc1" || s.Node != "n0" {
		t.Errorf("%+v", s)
	}
	node, err := x.Node(t.Context(), "n0", "")
	if err != nil || node.Meta["a"] != "b" || node.Name != "N0" {
		t.Errorf("%+v, %v", node, err)
	}
	if _, err := x.Node(t.Context(), "n9", ""); !errors.Is(err, catalog.ErrNoNode) {
		t.Error(err)
	}
}

func TestIndexOtherDatacenters(t *testing.T) {
	t.Parallel()
	c := newConsul(t)
	for i := range 3 {
		name := fmt.Sprint("far", i)
		c.remote[name] = []*api.ServiceEntry{entry(name, "r1", "10.9.0.1", i+1)}
	}
	x := start(t, c, catalog.IndexConfig{Remote: 2})
	for _, name := range []string{"far0", "far1", "far2", "far0"} {
		list, err := x.Instances(t.Context(), name, "dc2")
		if err != nil || len(list) != 1 {
			t.Errorf("%s: %v, %v", name, list, err)
		}
	}
	if _, err := x.Instances(t.Context(), "web", "dc2"); !errors.Is(err, catalog.ErrNoService) {
		t.Error(err)
	}
	if _, err := x.Instances(t.Context(), "web", "dc3"); !errors.Is(err, catalog.ErrNoDatacenter) {
		t.Error(err)
	}
	if err := x.Datacenter(t.Context(), "DC2"); err != nil {
		t.Error(err)
	}
	until(t, "the bound to hold", func() error {
		if s := x.Stats(); s.Remote != 2 || s.Displaced == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	c.change(func() { c.remote["far0"][0].Service.Port = 99 })
	until(t, "the change to be seen", func() error {
		if list, err := x.Instances(t.Context(), "far0", "dc2"); err != nil || list[0].Port != 99 {
			return fmt.Errorf("%v, %w", list, err)
		}
		return nil
	})
}

// More services than may be followed: all are known, none is held back for ever,
// and the queries that wait stay within the bound.
func TestIndexAboveTheBound(t *testing.T) {
	t.Parallel()
	c := newConsul(t)
	for i := range 50 {
		name := fmt.Sprintf("s%02d", i)
		c.services[name] = []*api.ServiceEntry{entry(name, "n1", "10.0.0.2", i+1)}
	}
	x := start(t, c, catalog.IndexConfig{Follow: 5, Sweep: time.Millisecond, Services: 48})
	for i := range 40 {
		has(t, x, fmt.Sprintf("s%02d", i), 1)
	}
	has(t, x, "s49", 0)
	if s := x.Stats(); s.Services != 48 || s.Followed != 5 || s.Left != 3 || s.Swept == 0 {
		t.Errorf("%+v", s)
	}
	c.change(func() {
		for i := range 45 {
			name := fmt.Sprintf("s%02d", i)
			c.services[name] = append(c.services[name], entry(name, "n2", "10.0.0.3", i+1))
		}
	})
	for i := range 45 {
		has(t, x, fmt.Sprintf("s%02d", i), 2)
	}
	c.change(func() {
		for i := range 30 {
			delete(c.services, fmt.Sprintf("s%02d", i))
		}
	})
	for i := range 30 {
		has(t, x, fmt.Sprintf("s%02d", i), 0)
	}
	until(t, "those that are gone to be forgotten", func() error {
		if s := x.Stats(); s.Services != 21 || s.Left != 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.mostOpen > 5+2+20 { // services, list, nodes; those displaced while Consul learns that they hang up, far fewer than all
		t.Errorf("%d queries waited at one time", c.mostOpen)
	}
}

// While Consul is gone all stays; when it is back, changes are seen, but what
// would empty a service that accepts is doubted.
func TestIndexOutage(t *testing.T) {
	t.Parallel()
	instance, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer instance.Close()
	port := int(netip.MustParseAddrPort(instance.Addr().String()).Port())
	c := newConsul(t)
	c.services["web"] = []*api.ServiceEntry{entry("web", "n1", "127.0.0.1", port)}
	c.services["old"] = []*api.ServiceEntry{entry("old", "n1", "127.0.0.1", 1)}
	x := start(t, c, catalog.IndexConfig{Workloads: []string{"web"}})
	until(t, "the intentions", func() error {
		if d := x.Decide(t.Context(), "web", "api"); !d.Known {
			return errors.New(d.Reason)
		}
		return nil
	})
	c.change(func() { c.gone = true })
	until(t, "the outage to be seen", func() error {
		if x.Stale().IsZero() {
			return errors.New("it is not")
		}
		return nil
	})
	has(t, x, "web", 1)
	if err := x.Ready(); err != nil {
		t.Error(err)
	}
	if d := x.Decide(t.Context(), "web", "api"); !d.Known || d.Allowed {
		t.Errorf("%+v", d)
	}
	if d := x.Decide(t.Context(), "never seen", "api"); d.Known || d.Allowed || !strings.Contains(d.Reason, "No cluster leader") {
		t.Errorf("%+v", d)
	}
	until(t, "all queries to fail", func() error {
		if s := x.Stats(); s.Errors < 7 { // list, nodes, three services, two sources
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	c.change(func() {
		c.gone = false
		c.services["new"] = []*api.ServiceEntry{entry("new", "n1", "10.0.0.1", 1)}
		delete(c.services, "web")
		delete(c.services, "old")
	})
	has(t, x, "new", 1)
	has(t, x, "old", 0)
	if !x.Stale().IsZero() {
		t.Error("it is still stale")
	}
	until(t, "the answer to be held", func() error {
		if s := x.Stats(); s.Held != 1 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	has(t, x, "web", 1)
	if err := instance.Close(); err != nil {
		t.Fatal(err)
	}
	has(t, x, "web", 0)
}

// A question that has to wait for Consul waits no longer than its context.
func TestIndexWaits(t *testing.T) {
	t.Parallel()
	x := catalog.NewIndex(newConsul(t).client(t), catalog.IndexConfig{}, slog.New(slog.DiscardHandler))
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := x.Instances(ctx, "web", ""); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if d := x.Decide(ctx, "web", "api"); d.Known || d.Allowed {
		t.Errorf("%+v", d)
	}
	if err := x.Ready(); err == nil || !strings.Contains(err.Error(), "were not seen yet") {
		t.Error(err)
	}
	if got := x.Workload("web"); got != nil {
		t.Errorf("%+v", got)
	}
}

func TestIndexConfigValidate(t *testing.T) {
	t.Parallel()
	config := catalog.IndexConfig{Follow: -1, Sweep: -time.Second}
	err := config.Validate()
	if err == nil || !strings.Contains(err.Error(), "follow is -1") || !strings.Contains(err.Error(), "sweep is -1s") {
		t.Error(err)
	}
}
