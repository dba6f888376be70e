package integration_test

import (
	"context"
	"fmt"
	"testing"

	consulapi "github.com/hashicorp/consul/api"
)

// TestZoneAware: of two instances the one in our zone is taken, and when it is gone the other, though Consul without
// Enterprise says nothing of zones in xDS.
func TestZoneAware(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"web": "http", "api": "http"})
	w.allow(t, "web", "api")
	for node, zone := range map[string]string{"127.0.0.2": "near", "127.0.0.3": "far"} {
		_, err := w.consul.API.Catalog().Register(&consulapi.CatalogRegistration{
			Node: "node-" + zone, Address: node, NodeMeta: map[string]string{"zone": zone, "region": "here"},
		}, (&consulapi.WriteOptions{}).WithContext(t.Context()))
		must(t, err)
	}
	for id, address := range map[string]string{"api-near": "127.0.0.2", "api-far": "127.0.0.3"} {
		i := w.registerAs(t, id, "api", func(r *consulapi.AgentServiceRegistration) {
			sidecar := r.Connect.SidecarService
			sidecar.Address = address
			sidecar.Checks[0].TCP = address + ":" + port(sidecar.Port)
		})
		w.connect(t, i)
	}
	must(t, w.consul.WaitHealthy(t.Context(), "api-sidecar-proxy", 2))
	web := w.register(t, "web-1", "web", "api")
	var err error
	web.sidecar, err = w.env.Serai([]string{
		"connect", "-sidecar-for", web.id, "-admin-bind", local(web.admin), "-zone-aware", "-zone", "near", "-region", "here",
	}, w.consul.Environ(w.consul.Token)...)
	must(t, err)
	w.waitOK(t, web.url("api", "/"))
	only := func(name string, n int) {
		t.Helper()
		eventually(t, fmt.Sprintf("%d answers of %s in a row", n, name), func(ctx context.Context) error {
			for range n {
				got, err := fetch(ctx, strict(t), web.url("api", "/"))
				if err != nil {
					return err
				}
				if got.body != name {
					return fmt.Errorf("status %d: %s", got.status, got.body)
				}
			}
			return nil
		})
	}
	only("api-near", 50)
	must(t, w.consul.DeregisterService(t.Context(), "api-near-sidecar-proxy"))
	must(t, w.consul.DeregisterService(t.Context(), "api-near"))
	only("api-far", 50)
}
