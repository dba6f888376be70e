package integration_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// wanPatience is how long servers may take to find each other again when the gateways between them were away: Consul
// tries again by itself, which has taken a minute.
const wanPatience = 2 * time.Minute

// wanFederated are two datacenters whose servers have no way to each other but the mesh gateways: what they say by gossip
// and by RPC goes as TLS to a gateway, which knows a server by its SNI. The gateway of the first is of the kind given
// when the second datacenter begins, which has its certificate authority, its tokens and its config entries through it.
func wanFederated(t *testing.T, protocols map[string]string, kind string) (here, there *world, gateways []*gateway) {
	t.Helper()
	env := harness.ForTest(t)
	wan, err := env.Ports(2)
	must(t, err)
	ca := newOutsideCA(t)
	exposed := func(r *consulapi.AgentServiceRegistration) { r.Meta = map[string]string{"consul-wan-federation": "1"} }
	here = newWorldWith(t, harness.ConsulConfig{Name: "server-dc1", HCL: wanServer(t, ca, "dc1", wan) + `
acl { enable_token_replication = true }
`}, protocols)
	gateways = append(gateways, here.meshGatewayAs(t, exposed))
	gateways[0].put(t, kind)
	there = newWorldWith(t, harness.ConsulConfig{Name: "server-dc2", Token: here.consul.Token, HCL: wanServer(t, ca, "dc2", wan+1) + fmt.Sprintf(`
primary_gateways = [%q]
primary_gateways_interval = "1s"
acl { enable_token_replication = true tokens { replication = %q } }
`, local(gateways[0].port), here.consul.Token)}, nil)
	there.protocols = protocols
	return here, there, append(gateways, there.meshGatewayAs(t, exposed))
}

// wanServer is what a server is told that goes to others through mesh gateways. Its certificate has the names by which
// they ask for any server of the datacenter, and for this one.
func wanServer(t *testing.T, ca *signingCA, datacenter string, wan int) string {
	t.Helper()
	dir := t.TempDir()
	root := filepath.Join(dir, "root.pem")
	must(t, os.WriteFile(root, []byte(ca.pem()), 0o600))
	anyServer := "server." + datacenter + ".consul"
	chain, key := ca.write(t, dir, anyServer, "server-"+datacenter+"."+anyServer)
	return fmt.Sprintf(`
datacenter = %q
primary_datacenter = "dc1"
ports { serf_wan = %d }
connect { enable_mesh_gateway_wan_federation = true }
tls {
  internal_rpc {
    ca_file = %q
    cert_file = %q
    key_file = %q
    verify_incoming = true
    verify_outgoing = true
    verify_server_hostname = true
  }
}
`, datacenter, wan, root, chain, key)
}

// TestServersOverGatewaysTrap22 lets the servers of two datacenters talk through mesh gateways alone, of both kinds and mixed: by
// the chains of a gateway for *.server.<datacenter>, for each server of its own, and by the cluster that the SNI names.
func TestServersOverGatewaysTrap22(t *testing.T) {
	t.Parallel()
	protocols := map[string]string{"web": "http", "back": "http"}
	for _, service := range slices.Concat(guards("far"), guards("home")) {
		protocols[service] = "http"
	}
	here, there, gateways := wanFederated(t, protocols, "serai")
	here.allow(t, "web", guards("far")...)
	here.allow(t, "back", guards("home")...)
	to := func(datacenter string) func(*consulapi.Upstream) {
		return func(u *consulapi.Upstream) {
			u.Datacenter, u.MeshGateway.Mode = datacenter, consulapi.MeshGatewayModeLocal
		}
	}
	web := here.abroad(t, "web", to("dc2"), guards("far")...)
	here.guarded(t, "home")
	// The gateway of the second datacenter has not run yet: its server can call the first, and is not called.
	within(t, wanPatience, "dc2 to ask dc1", func(ctx context.Context) error { return asks(ctx, there, "dc1", "server-dc1") })
	if err := asks(t.Context(), here, "dc2", "server-dc2"); err == nil {
		t.Error("dc1 asks dc2, whose gateway does not run: there is another way than the gateway")
	}
	there.guarded(t, "far")
	there.adopt(t, here, "back")
	back := there.abroad(t, "back", to("dc1"), guards("home")...)
	for _, pair := range [][2]string{{"serai", "serai"}, {"envoy", "serai"}, {"serai", "envoy"}} {
		t.Run(pair[0]+" before "+pair[1], func(t *testing.T) {
			gateways[1].put(t, pair[1])
			must(t, there.consul.WaitHealthy(t.Context(), "mesh-gateway", 1))
			// Twice that of dc1: the server of dc2 goes to it at once when its own gateway has failed it, and stays there
			// until that ends.
			for range 2 {
				gateways[0].put(t, pair[0])
				within(t, wanPatience, "dc1 to ask dc2", func(ctx context.Context) error { return asks(ctx, here, "dc2", "server-dc2") })
				within(t, wanPatience, "dc2 to ask dc1", func(ctx context.Context) error { return asks(ctx, there, "dc1", "server-dc1") })
			}
			testRemoteValue(t, here, there, "from/"+pair[0]+"/"+pair[1], "dc2")
			testRemoteValue(t, there, here, "to/"+pair[0]+"/"+pair[1], "dc1")
			for services, callers := range map[string][]*instance{"far": web, "home": back} {
				for _, i := range callers {
					for _, service := range guards(services) {
						waitStatusWithin(t, i.url(service, "/"), http.StatusOK, wanPatience)
						if got := get(t, i.url(service, "/")); got.body != service+"-1" {
							t.Errorf("%s asks %s: status %d: %s", i.id, service, got.status, got.body)
						}
					}
				}
			}
			// Each gateway sends to the servers of its own what others ask, and to the other gateway what its own ask.
			for n, clusters := range [][]string{
				{"server-dc1.server.dc1.consul", "server.dc2.consul"}, {"server-dc2.server.dc2.consul", "server.dc1.consul"},
			} {
				for _, cluster := range clusters {
					within(t, wanPatience, fmt.Sprintf("the gateway of dc%d to connect to %s", n+1, cluster), func(context.Context) error {
						if count, err := strconv.Atoi(stat(t, gateways[n].admin, cluster, "upstream_cx_total")); err != nil || count == 0 {
							return errors.Join(errors.New("no connections"), err)
						}
						return nil
					})
				}
			}
			gateways[1].stop(t)
			within(t, wanPatience, "dc1 not to reach dc2 without the gateway of dc2", func(ctx context.Context) error { return asksNot(ctx, here, "dc2", "server-dc2") })
			for _, i := range web {
				waitStatus(t, i.url("far-serai", "/"), http.StatusServiceUnavailable)
			}
			gateways[0].stop(t)
			within(t, wanPatience, "dc2 not to reach dc1 without the gateway of dc1", func(ctx context.Context) error { return asksNot(ctx, there, "dc1", "server-dc1") })
		})
	}
}

// asksNot wants asks to fail.
func asksNot(ctx context.Context, w *world, datacenter, node string) error {
	if err := asks(ctx, w, datacenter, node); err == nil {
		return errAnswered
	}
	return nil
}

// asks asks a server for the nodes of another datacenter, which must have one of the name given.
func asks(ctx context.Context, w *world, datacenter, node string) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	nodes, _, err := w.consul.API.Catalog().Nodes((&consulapi.QueryOptions{Datacenter: datacenter}).WithContext(ctx))
	if err != nil {
		return err
	}
	if len(nodes) != 1 || nodes[0].Node != node {
		return fmt.Errorf("%d nodes, and not just %s", len(nodes), node)
	}
	return nil
}

// testRemoteValue writes a value that is larger than the buffers on its way, from one datacenter into the other; there it
// is, and it comes back.
func testRemoteValue(t *testing.T, from, to *world, key, datacenter string) {
	t.Helper()
	value := bytes.Repeat([]byte("serai"), 80_000)
	write := (&consulapi.WriteOptions{Datacenter: datacenter}).WithContext(t.Context())
	_, err := from.consul.API.KV().Put(&consulapi.KVPair{Key: key, Value: value}, write)
	must(t, err)
	for _, read := range []struct {
		w  *world
		dc string
	}{{to, ""}, {from, datacenter}} {
		got, _, err := read.w.consul.API.KV().Get(key, (&consulapi.QueryOptions{Datacenter: read.dc}).WithContext(t.Context()))
		must(t, err)
		if got == nil || !bytes.Equal(got.Value, value) {
			t.Errorf("%s is not the value that was written", key)
		}
	}
}
