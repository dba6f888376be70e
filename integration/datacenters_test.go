package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
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

// TestDatacentersAsEnvoy calls from one datacenter into the other: through the gateways of both (mode local), of the
// other (remote), and through none, by callers and gateways of both kinds; and falls over to the other datacenter.
func TestDatacentersAsEnvoy(t *testing.T) {
	t.Parallel()
	modes := map[string]consulapi.MeshGatewayMode{
		"bylocal": consulapi.MeshGatewayModeLocal, "byremote": consulapi.MeshGatewayModeRemote, "bynone": consulapi.MeshGatewayModeNone,
	}
	protocols := map[string]string{"web": "http", "near": "http", "bylocal": "http", "byremote": "http", "bynone": "http"}
	here, there := federated(t, protocols)
	here.allow(t, "web", "bylocal", "byremote", "bynone", "bank", "near")
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
	web := map[string]*instance{}
	for _, kind := range kinds() {
		i := here.registerAs(t, "web-"+kind, "web", func(r *consulapi.AgentServiceRegistration) {
			proxy := r.Connect.SidecarService.Proxy
			for n := range proxy.Upstreams {
				u := &proxy.Upstreams[n]
				u.Config = unejected()
				if u.DestinationName != "near" {
					u.Datacenter = "dc2"
				}
				u.MeshGateway.Mode = modes[u.DestinationName]
				if u.DestinationName == "bank" {
					u.MeshGateway.Mode = consulapi.MeshGatewayModeLocal
				}
			}
		}, "bylocal", "byremote", "bynone", "bank", "near")
		web[kind] = here.start(t, kind, i)
	}
	for _, kind := range kinds() {
		t.Run(kind+" as gateway", func(t *testing.T) {
			for _, g := range gateways {
				g.put(t, kind)
			}
			for _, i := range web {
				for service := range modes {
					waitStatus(t, i.url(service, "/"), http.StatusOK)
					if got := get(t, i.url(service, "/")); got.body != service+"-1" {
						t.Errorf("%s asks %s: status %d: %s", i.id, service, got.status, got.body)
					}
					testEcho(t, i.url(service, "/echo"))
				}
				waitTCP(t, local(i.upstreams["bank"]))
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
