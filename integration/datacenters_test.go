package integration_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// federated are two datacenters that are joined over the WAN, each with its own Consul.
func federated(t *testing.T, protocols map[string]string) (here, there *world) {
	t.Helper()
	ports := harness.ForTest(t)
	wan, err := ports.Ports(2)
	must(t, err)
	here = newWorldWith(t, harness.ConsulConfig{Name: "server-dc1", HCL: fmt.Sprintf(`
primary_datacenter = "dc1"
ports { serf_wan = %d }
acl { enable_token_replication = true }
`, wan)}, protocols)
	there = newWorldWith(t, harness.ConsulConfig{Name: "server-dc2", Token: here.consul.Token, HCL: fmt.Sprintf(`
datacenter = "dc2"
primary_datacenter = "dc1"
ports { serf_wan = %d }
retry_join_wan = [%q]
retry_interval_wan = "1s"
acl { enable_token_replication = true tokens { replication = %q } }
`, wan+1, local(wan), here.consul.Token)}, nil)
	there.protocols = protocols
	return here, there
}

// mixtures are the kinds of two gateways on one way, of which one changes at a time.
func mixtures() [][2]string {
	return [][2]string{{"envoy", "envoy"}, {"envoy", "serai"}, {"serai", "serai"}, {"serai", "envoy"}}
}

// abroad are callers of both kinds whose upstreams are somewhere else, of which edit tells.
func (w *world) abroad(t *testing.T, service string, edit func(*consulapi.Upstream), upstreams ...string) []*instance {
	t.Helper()
	var all []*instance
	for _, kind := range kinds() {
		all = append(all, w.start(t, kind, w.registerAs(t, service+"-"+kind, service, func(r *consulapi.AgentServiceRegistration) {
			for n := range r.Connect.SidecarService.Proxy.Upstreams {
				u := &r.Connect.SidecarService.Proxy.Upstreams[n]
				u.Config = unejected()
				edit(u)
			}
		}, upstreams...)))
	}
	return all
}

// guarded are services behind both kinds of sidecar, one each.
func (w *world) guarded(t *testing.T, name string) {
	t.Helper()
	for _, kind := range kinds() {
		w.start(t, kind, w.register(t, name+"-"+kind+"-1", name+"-"+kind))
	}
}

// findsAbroad makes a prepared query that falls over to the other datacenter, and waits until a service finds somebody by
// it: a proxy asks again only after half a minute.
func (w *world) findsAbroad(t *testing.T, caller, query, service string) {
	t.Helper()
	_, _, err := w.consul.API.PreparedQuery().Create(&consulapi.PreparedQueryDefinition{
		Name: query, Service: consulapi.ServiceQuery{Service: service, OnlyPassing: true, Connect: true, Failover: consulapi.QueryFailoverOptions{Datacenters: []string{"dc2"}}},
	}, (&consulapi.WriteOptions{}).WithContext(t.Context()))
	must(t, err)
	client, err := w.consul.Client(w.token(t, caller))
	must(t, err)
	eventually(t, query+" to find somebody", func(ctx context.Context) error {
		found, _, err := client.PreparedQuery().Execute(query, (&consulapi.QueryOptions{}).WithContext(ctx))
		if err == nil && len(found.Nodes) == 0 {
			err = errNotYet
		}
		return err
	})
}

// adopt has a service use its token of the primary datacenter, since one of this datacenter reads nothing in the other.
func (w *world) adopt(t *testing.T, primary *world, service string) {
	t.Helper()
	w.tokens[service] = primary.token(t, service)
	client, err := w.consul.Client(w.tokens[service])
	must(t, err)
	eventually(t, "the token to come over", func(ctx context.Context) error {
		_, _, err := client.ACL().TokenReadSelf((&consulapi.QueryOptions{}).WithContext(ctx))
		return err
	})
}

// reach wants answers of the first instance of each service, and bodies to come back whole.
func reach(t *testing.T, callers []*instance, services ...string) {
	t.Helper()
	for _, i := range callers {
		for _, service := range services {
			waitStatus(t, i.url(service, "/"), http.StatusOK)
			if got := get(t, i.url(service, "/")); got.body != service+"-1" {
				t.Errorf("%s asks %s: status %d: %s", i.id, service, got.status, got.body)
			}
			testEcho(t, i.url(service, "/echo"))
		}
	}
}

// TestDatacentersAsEnvoy calls from each datacenter into the other: through the gateways of both (mode local), of the
// other (remote), and through none, by callers, gateways and into sidecars of both kinds in every mixture; by a prepared
// query that finds nobody here; and falls over to the other datacenter.
func TestDatacentersAsEnvoy(t *testing.T) {
	t.Parallel()
	modes := map[string]consulapi.MeshGatewayMode{
		"bylocal": consulapi.MeshGatewayModeLocal, "byremote": consulapi.MeshGatewayModeRemote, "bynone": consulapi.MeshGatewayModeNone,
	}
	protocols := map[string]string{"web": "http", "near": "http", "bylocal": "http", "byremote": "http", "bynone": "http", "back": "http"}
	for _, service := range slices.Concat(guards("far"), guards("home")) {
		protocols[service] = "http"
	}
	here, there := federated(t, protocols)
	here.allow(t, "web", slices.Concat([]string{"bylocal", "byremote", "bynone", "bank", "near"}, guards("far"))...)
	here.allow(t, "back", guards("home")...)
	for service, mode := range modes {
		must(t, here.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
			Kind: consulapi.ServiceDefaults, Name: service, Protocol: "http", MeshGateway: consulapi.MeshGatewayConfig{Mode: mode},
		}))
	}
	must(t, here.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceConfigEntry{
		Kind: consulapi.ServiceDefaults, Name: "near", Protocol: "http", MeshGateway: consulapi.MeshGatewayConfig{Mode: consulapi.MeshGatewayModeLocal},
	}))
	must(t, here.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceResolverConfigEntry{
		Kind: consulapi.ServiceResolver, Name: "near", Failover: map[string]consulapi.ServiceResolverFailover{"*": {Datacenters: []string{"dc2"}}},
	}))
	eventually(t, "the config entries to come over", func(ctx context.Context) error {
		entry, _, err := there.consul.API.ConfigEntries().Get(consulapi.ServiceIntentions, "near", (&consulapi.QueryOptions{}).WithContext(ctx))
		if err == nil && entry == nil {
			err = errNotYet
		}
		return err
	})
	gateways := []*gateway{here.meshGateway(t), there.meshGateway(t)}
	for service := range modes {
		there.run(t, service+"-1", service)
	}
	there.run(t, "bank-1", "bank")
	there.run(t, "near-2", "near")
	near := here.run(t, "near-1", "near")
	there.guarded(t, "far")
	here.guarded(t, "home")
	here.findsAbroad(t, "web", "find-far", "far-envoy")
	web := here.abroad(t, "web", func(u *consulapi.Upstream) {
		switch u.DestinationName {
		case "near":
		case "find-far":
			u.DestinationType, u.Config = consulapi.UpstreamDestTypePreparedQuery, map[string]any{"protocol": "http"}
		default:
			u.Datacenter, u.MeshGateway.Mode = "dc2", cmp.Or(modes[u.DestinationName], consulapi.MeshGatewayModeLocal)
		}
	}, slices.Concat([]string{"bylocal", "byremote", "bynone", "bank", "near", "find-far"}, guards("far"))...)
	there.adopt(t, here, "back")
	back := there.abroad(t, "back", func(u *consulapi.Upstream) { u.Datacenter, u.MeshGateway.Mode = "dc1", consulapi.MeshGatewayModeLocal }, guards("home")...)
	for _, i := range web {
		waitStatus(t, i.url("find-far", "/"), http.StatusOK)
		if got := get(t, i.url("find-far", "/")); got.body != "far-envoy-1" {
			t.Errorf("%s finds %s", i.id, got.body)
		}
	}
	for _, pair := range mixtures() {
		t.Run(pair[0]+" and "+pair[1]+" as gateways", func(t *testing.T) {
			mix(t, gateways, pair)
			reach(t, web, slices.Concat([]string{"bylocal", "byremote", "bynone"}, guards("far"))...)
			reach(t, back, guards("home")...)
			for _, i := range web {
				waitTCP(t, local(i.upstreams["bank"]))
			}
			if pair[0] != pair[1] {
				return
			}
			must(t, here.consul.Intention(t.Context(), "web", "bylocal", false))
			for _, i := range web {
				waitStatus(t, i.url("bylocal", "/"), http.StatusForbidden)
			}
			here.allow(t, "web", "bylocal")
			comes := func(app string) {
				for _, i := range web {
					eventually(t, i.id+" to come to "+app, func(ctx context.Context) error {
						got, err := fetch(ctx, strict(t), i.url("near", "/"))
						if err == nil && got.body != app {
							err = errors.New(got.body)
						}
						return err
					})
				}
			}
			comes("near-1")
			must(t, here.consul.API.Agent().EnableServiceMaintenanceOpts(near.id+"-sidecar-proxy", "out", (&consulapi.QueryOptions{}).WithContext(t.Context())))
			comes("near-2")
			must(t, here.consul.API.Agent().DisableServiceMaintenanceOpts(near.id+"-sidecar-proxy", (&consulapi.QueryOptions{}).WithContext(t.Context())))
			comes("near-1")
			for _, i := range web {
				waitStatus(t, i.url("bylocal", "/"), http.StatusOK)
			}
		})
	}
}
