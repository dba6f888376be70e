package integration_test

import (
	"fmt"
	"net"
	"net/http"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"

	"github.com/serai-net/serai/integration/harness"
)

// six is a port of the machine itself by IPv6.
func six(port int) string { return net.JoinHostPort("::1", fmt.Sprint(port)) }

// TestTrap27DualStackAsEnvoy stands on an agent that is bound to IPv6: Consul then has proxies listen on ::, at ::1 for
// the application, and dial the application by ::1, where nobody says otherwise.
func TestTrap27DualStackAsEnvoy(t *testing.T) {
	t.Parallel()
	if probe, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", "[::1]:0"); err != nil {
		harness.Skip(t, "no IPv6: "+err.Error())
	} else {
		drop(probe)
	}
	protocols := map[string]string{"web": "http"}
	for _, service := range guards("api") {
		protocols[service] = "http"
	}
	w := newWorldWith(t, harness.ConsulConfig{DualStack: true}, protocols)
	w.allow(t, "web", guards("api")...)
	unsaid := func(r *consulapi.AgentServiceRegistration) {
		sidecar := r.Connect.SidecarService
		r.Address, sidecar.Address, r.Check = "", "", nil
		sidecar.Checks[0].TCP = six(sidecar.Port)
	}
	for _, kind := range kinds() {
		i := w.registerAs(t, "api-"+kind+"-1", "api-"+kind, unsaid)
		listener, err := (&net.ListenConfig{}).Listen(t.Context(), "tcp", six(i.app.port))
		must(t, err)
		server := &http.Server{Handler: i.app.handler(), ReadHeaderTimeout: 10 * time.Second}
		t.Cleanup(func() { drop(server) })
		go func() { _ = server.Serve(listener) }()
		w.start(t, kind, i)
		must(t, w.consul.WaitHealthy(t.Context(), i.service+"-sidecar-proxy", 1))
	}
	for _, kind := range kinds() {
		web := w.start(t, kind, w.registerAs(t, "web-"+kind, "web", unsaid, guards("api")...))
		for _, service := range guards("api") {
			url := "http://" + six(web.upstreams[service]) + "/"
			waitStatus(t, url, http.StatusOK)
			if got := get(t, url); got.body != service+"-1" {
				t.Errorf("%s asks %s: status %d: %s", web.id, service, got.status, got.body)
			}
		}
	}
}
