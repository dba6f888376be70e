package integration_test

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"testing"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// peered are two clusters that do not know each other, with names for each other: alpha calls, beta exports. Their
// servers talk through the gateways, too, of which each has one already. Alpha exports what is lent.
func peered(t *testing.T, protocols map[string]string, lent []string, exported ...string) (alpha, beta *world, gateways []*gateway) {
	t.Helper()
	ports := harness.ForTest(t)
	secure, err := ports.Ports(2)
	must(t, err)
	alpha = newWorldWith(t, harness.ConsulConfig{Name: "server-alpha", HCL: fmt.Sprintf("ports { grpc_tls = %d }", secure)}, protocols)
	beta = newWorldWith(t, harness.ConsulConfig{Name: "server-beta", HCL: fmt.Sprintf("datacenter = \"dc2\"\nports { grpc_tls = %d }", secure+1)}, protocols)
	beta.export(t, "alpha", exported)
	alpha.export(t, "beta", lent)
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

// export lets a peer see services.
func (w *world) export(t *testing.T, peer string, names []string) {
	t.Helper()
	var services []consulapi.ExportedService
	for _, name := range names {
		services = append(services, consulapi.ExportedService{Name: name, Consumers: []consulapi.ServiceConsumer{{Peer: peer}}})
	}
	w.write(t, &consulapi.ExportedServicesConfigEntry{Name: "default", Services: services})
}

// TestPeeringAsEnvoy calls services of a peered cluster, from each into the other, through gateways of both kinds in every
// mixture, on behalf of callers and into sidecars of both kinds, by L4 and L7 intentions on the peer.
func TestPeeringAsEnvoy(t *testing.T) {
	t.Parallel()
	protocols := map[string]string{"web": "http", "guest": "http", "back": "http"}
	exported := append(guards("far"), "bank")
	for _, service := range slices.Concat(guards("far"), guards("home")) {
		protocols[service] = "http"
	}
	alpha, beta, gateways := peered(t, protocols, guards("home"), exported...)
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
	of := func(service, source, peer string) *consulapi.ServiceIntentionsConfigEntry {
		return &consulapi.ServiceIntentionsConfigEntry{
			Kind: consulapi.ServiceIntentions, Name: service, Sources: []*consulapi.SourceIntention{{Name: source, Peer: peer, Action: consulapi.IntentionActionAllow}},
		}
	}
	beta.write(t, of("bank", "web", "alpha"))
	for _, service := range guards("home") {
		alpha.write(t, of(service, "back", "beta"))
	}
	beta.run(t, "bank-1", "bank")
	beta.guarded(t, "far")
	alpha.guarded(t, "home")
	toBeta := func(u *consulapi.Upstream) {
		u.DestinationPeer, u.MeshGateway.Mode = "beta", consulapi.MeshGatewayModeLocal
		if u.DestinationName == "bank" {
			u.MeshGateway.Mode = consulapi.MeshGatewayModeRemote
		}
	}
	callers, guests := alpha.abroad(t, "web", toBeta, exported...), alpha.abroad(t, "guest", toBeta, exported...)
	back := beta.abroad(t, "back", func(u *consulapi.Upstream) {
		u.DestinationPeer, u.MeshGateway.Mode = "alpha", consulapi.MeshGatewayModeLocal
	}, guards("home")...)
	for _, pair := range mixtures() {
		t.Run(pair[0]+" and "+pair[1]+" as gateways", func(t *testing.T) {
			mix(t, gateways, pair)
			reach(t, back, guards("home")...)
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
			for _, guest := range guests {
				for _, service := range guards("far") {
					waitStatus(t, guest.url(service, "/x/a"), http.StatusForbidden)
				}
				must(t, refused(t.Context(), local(guest.upstreams["bank"])))
			}
		})
	}
}
