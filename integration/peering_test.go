package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// peered are two clusters that do not know each other, with names for each other: alpha calls, beta exports. Their
// servers talk through the gateways, too, of which each has one already.
func peered(t *testing.T, protocols map[string]string, exported ...string) (alpha, beta *world, gateways []*gateway) {
	t.Helper()
	ports := harness.ForTest(t)
	secure, err := ports.Ports(2)
	must(t, err)
	alpha = newWorldWith(t, harness.ConsulConfig{Name: "server-alpha", HCL: fmt.Sprintf("ports { grpc_tls = %d }", secure)}, nil)
	beta = newWorldWith(t, harness.ConsulConfig{Name: "server-beta", HCL: fmt.Sprintf("datacenter = \"dc2\"\nports { grpc_tls = %d }", secure+1)}, protocols)
	alpha.protocols = protocols
	var services []consulapi.ExportedService
	for _, name := range exported {
		services = append(services, consulapi.ExportedService{Name: name, Consumers: []consulapi.ServiceConsumer{{Peer: "alpha"}}})
	}
	must(t, beta.consul.WriteConfigEntry(t.Context(), &consulapi.ExportedServicesConfigEntry{Name: "default", Services: services}))
	for _, w := range []*world{alpha, beta} {
		must(t, w.consul.WriteConfigEntry(t.Context(), &consulapi.MeshConfigEntry{Peering: &consulapi.PeeringMeshConfig{PeerThroughMeshGateways: true}}))
		g := w.meshGateway(t)
		g.put(t, "envoy")
		gateways = append(gateways, g)
		must(t, w.consul.WaitHealthy(t.Context(), "mesh-gateway", 1))
	}
	write := (&consulapi.WriteOptions{}).WithContext(t.Context())
	token, _, err := beta.consul.API.Peerings().GenerateToken(t.Context(), consulapi.PeeringGenerateTokenRequest{PeerName: "alpha"}, write)
	must(t, err)
	eventually(t, "the peering to be established", func(ctx context.Context) error {
		_, _, err := alpha.consul.API.Peerings().Establish(ctx, consulapi.PeeringEstablishRequest{PeerName: "beta", PeeringToken: token.PeeringToken}, write)
		return err
	})
	return alpha, beta, gateways
}

// TestPeeringAsEnvoy calls services of a peered cluster, through gateways of both kinds, on behalf of callers and into
// sidecars of both kinds, by L4 and L7 intentions on the peer.
func TestPeeringAsEnvoy(t *testing.T) {
	t.Parallel()
	protocols := map[string]string{"web": "http", "guest": "http"}
	exported := []string{"bank"}
	for _, service := range guards("far") {
		protocols[service] = "http"
		exported = append(exported, service)
	}
	alpha, beta, gateways := peered(t, protocols, exported...)
	get := &consulapi.IntentionPermission{
		Action: consulapi.IntentionActionAllow, HTTP: &consulapi.IntentionHTTPPermission{PathPrefix: "/x/", Methods: []string{http.MethodGet}},
	}
	for _, service := range guards("far") {
		must(t, beta.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceIntentionsConfigEntry{
			Kind: consulapi.ServiceIntentions, Name: service, Sources: []*consulapi.SourceIntention{
				{Name: "web", Peer: "alpha", Permissions: []*consulapi.IntentionPermission{get}},
			},
		}))
	}
	must(t, beta.consul.WriteConfigEntry(t.Context(), &consulapi.ServiceIntentionsConfigEntry{
		Kind: consulapi.ServiceIntentions, Name: "bank", Sources: []*consulapi.SourceIntention{{Name: "web", Peer: "alpha", Action: consulapi.IntentionActionAllow}},
	}))
	beta.run(t, "bank-1", "bank")
	for _, kind := range kinds() {
		beta.start(t, kind, beta.register(t, "far-"+kind+"-1", "far-"+kind))
	}
	caller := func(kind, service string) *instance {
		return alpha.start(t, kind, alpha.registerAs(t, service+"-"+kind, service, func(r *consulapi.AgentServiceRegistration) {
			for n := range r.Connect.SidecarService.Proxy.Upstreams {
				u := &r.Connect.SidecarService.Proxy.Upstreams[n]
				u.DestinationPeer, u.MeshGateway.Mode, u.Config = "beta", consulapi.MeshGatewayModeLocal, unejected()
				if u.DestinationName == "bank" {
					u.MeshGateway.Mode = consulapi.MeshGatewayModeRemote
				}
			}
		}, exported...))
	}
	callers := []*instance{caller("serai", "web"), caller("envoy", "web")}
	guest := caller("serai", "guest")
	for _, kind := range []string{"envoy", "serai"} { // the former is there already
		t.Run(kind+" as gateway", func(t *testing.T) {
			for _, g := range gateways {
				g.put(t, kind)
			}
			for _, i := range callers {
				for _, service := range guards("far") {
					waitStatus(t, i.url(service, "/x/a"), http.StatusOK)
					for _, q := range []question{
						{name: "allowed", path: "/x/a?b", status: http.StatusOK},
						{name: "another path", path: "/y", status: http.StatusForbidden},
						{name: "another method", method: http.MethodPost, path: "/x/a", status: http.StatusForbidden},
						{name: "a path made normal", path: "/x/../y", status: http.StatusForbidden},
						{name: "a lie about who asks", path: "/y", status: http.StatusForbidden, header: map[string]string{
							"x-forwarded-client-cert": "By=x;URI=spiffe://x/ns/default/dc/dc2/svc/far",
						}},
					} {
						q.upstream = service
						if got := q.put(t, i); got.Status != q.status {
							t.Errorf("%s: %s asks %s for %s: status %d, want %d", q.name, i.id, service, q.path, got.Status, q.status)
						}
					}
				}
				waitTCP(t, local(i.upstreams["bank"]))
			}
			for _, service := range guards("far") {
				waitStatus(t, guest.url(service, "/x/a"), http.StatusForbidden)
			}
			must(t, refused(t.Context(), local(guest.upstreams["bank"])))
		})
	}
}
