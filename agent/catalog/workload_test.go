package catalog_test

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/agent/catalog"
)

func TestWorkloads(t *testing.T) {
	t.Parallel()
	c := newConsul(t)
	c.services["web-sidecar-proxy"] = []*api.ServiceEntry{
		sidecar("web", "n2", "10.0.0.3"),
		sidecar("web", "n1", "10.0.0.2",
			api.Upstream{DestinationName: "api", LocalBindPort: 9191},
			api.Upstream{DestinationName: "db", LocalBindAddress: "127.0.0.2", LocalBindPort: 5432, Datacenter: "dc2"},
			api.Upstream{DestinationName: "q", DestinationType: "prepared_query", LocalBindSocketPath: "/run/q.sock"}),
	}
	x := start(t, c, catalog.IndexConfig{})
	want := []catalog.Workload{{
		Service: "web", ServiceID: "web-n1", Node: "n1", ProxyID: "web-sidecar-proxy-n1", Address: netip.MustParseAddr("10.0.0.2"),
		Upstreams: []catalog.LocalUpstream{
			{Destination: "api", Address: netip.MustParseAddr("127.0.0.1"), Port: 9191},
			{Destination: "db", Datacenter: "dc2", Address: netip.MustParseAddr("127.0.0.2"), Port: 5432},
			{Destination: "q", Prepared: true, Socket: "/run/q.sock"},
		},
	}}
	for _, got := range [][]catalog.Workload{
		x.Workloads(netip.MustParseAddr("10.0.0.2")), x.Workloads(netip.MustParseAddr("::ffff:10.0.0.2")),
		x.Workload("web-sidecar-proxy-n1"), x.Workload("Web")[:1],
	} {
		if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
			t.Error(diff)
		}
	}
	if got := x.Workload("web"); len(got) != 2 || got[1].Node != "n2" {
		t.Errorf("%+v", got)
	}
	if got := x.Workloads(netip.MustParseAddr("10.0.0.9")); got != nil {
		t.Errorf("%+v", got)
	}
	c.change(func() { c.services["web-sidecar-proxy"] = c.services["web-sidecar-proxy"][:1] })
	until(t, "the sidecar to be gone", func() error {
		if got := x.Workloads(netip.MustParseAddr("10.0.0.2")); len(got) > 0 {
			return fmt.Errorf("%+v", got)
		}
		return nil
	})
}

func TestDecide(t *testing.T) {
	t.Parallel()
	c := newConsul(t)
	intention := func(source, destination, action string, precedence int) *api.Intention {
		return &api.Intention{SourceName: source, DestinationName: destination, Action: api.IntentionAction(action), Precedence: precedence}
	}
	inRequests := intention("web", "l7", "", 9)
	inRequests.Permissions = []*api.IntentionPermission{{Action: "deny"}}
	peer := intention("web", "peered", "allow", 9)
	peer.SourcePeer = "other"
	c.intentions["web"] = []*api.Intention{ // not ordered: precedence decides
		intention("*", "*", "deny", 5), intention("web", "*", "deny", 6), intention("*", "api", "deny", 8), intention("*", "open", "allow", 8),
		intention("web", "api", "allow", 9), intention("web", "closed", "deny", 9), inRequests, peer,
	}
	x := start(t, c, catalog.IndexConfig{Sources: 2})
	for _, row := range []struct {
		source, destination string
		want                catalog.Decision
	}{
		{"web", "api", catalog.Decision{Known: true, Allowed: true, Reason: "the intention web -> api allows"}},
		{"web", "API", catalog.Decision{Known: true, Allowed: true, Reason: "the intention web -> api allows"}},
		{"web", "closed", catalog.Decision{Known: true, Reason: "the intention web -> closed denies"}},
		{"web", "open", catalog.Decision{Known: true, Allowed: true, Reason: "the intention * -> open allows"}},
		{"web", "l7", catalog.Decision{Known: true, Allowed: true, Reason: "the intention web -> l7 decides on each request"}},
		{"web", "peered", catalog.Decision{Known: true, Reason: "the intention web -> * denies"}},
		{"web", "other", catalog.Decision{Known: true, Reason: "the intention web -> * denies"}},
		{"api", "db", catalog.Decision{Known: true, Reason: "no intention allows api -> db, and the default denies"}},
		{"job", "db", catalog.Decision{Known: true, Reason: "no intention allows job -> db, and the default denies"}},
	} {
		if diff := cmp.Diff(row.want, x.Decide(t.Context(), row.source, row.destination)); diff != "" {
			t.Errorf("%s -> %s: %s", row.source, row.destination, diff)
		}
	}
	c.change(func() { c.intentions["job"] = []*api.Intention{intention("job", "db", "allow", 9)} })
	until(t, "the intention to be seen", func() error {
		if d := x.Decide(t.Context(), "job", "db"); !d.Allowed {
			return errors.New(d.Reason)
		}
		return nil
	})
	until(t, "the bound to hold", func() error {
		if s := x.Stats(); s.Sources != 2 || s.Displaced == 0 {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

func TestDefaultPolicy(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		self           string
		allowed, known bool
	}{
		"no ACLs":                {`{"DebugConfig": {"ACLsEnabled": false, "ACLResolverSettings": {"ACLDefaultPolicy": "allow"}}}`, true, true},
		"ACLs allow":             {`{"DebugConfig": {"ACLsEnabled": true, "ACLResolverSettings": {"ACLDefaultPolicy": "allow"}}}`, true, true},
		"ACLs deny":              {`{"DebugConfig": {"ACLsEnabled": true, "ACLResolverSettings": {"ACLDefaultPolicy": "deny"}}}`, false, true},
		"its own":                {`{"DebugConfig": {"ACLsEnabled": false, "DefaultIntentionPolicy": "deny"}}`, false, true},
		"its own allows":         {`{"DebugConfig": {"ACLsEnabled": true, "DefaultIntentionPolicy": "allow"}}`, true, true},
		"the agent says nothing": {"", false, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := newConsul(t)
			c.policy = row.self
			x := start(t, c, catalog.IndexConfig{})
			d := x.Decide(t.Context(), "web", "api")
			if d.Allowed != row.allowed || d.Known != row.known {
				t.Errorf("%+v", d)
			}
			if row.self == "" && (!strings.Contains(d.Reason, "agent:read") || x.Settings().Datacenter != "dc1") {
				t.Errorf("%+v, %+v", d, x.Settings())
			}
		})
	}
}
