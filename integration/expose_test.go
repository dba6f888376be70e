package integration_test

import (
	"context"
	"errors"
	"net/http"
	"testing"

	consulapi "github.com/hashicorp/consul/api"
)

// TestExposePaths reaches paths of an application past the mesh, through our sidecar and through Envoy's: those that are
// exposed by name, to anybody, and those of Consul's own checks, to who is on this machine. Nothing else gets through.
func TestExposePaths(t *testing.T) {
	t.Parallel()
	w := newWorld(t, map[string]string{"api": "http"})
	exposed, checked := map[string]int{}, map[string]int{}
	for _, kind := range kinds() {
		exposed[kind] = w.ports(t, 2)
		id := "api-" + kind
		i := w.registerAs(t, id, "api", func(r *consulapi.AgentServiceRegistration) {
			r.Checks = consulapi.AgentServiceChecks{{
				CheckID: id + "-http", HTTP: "http://" + local(r.Port) + "/x/check", Interval: w.interval, Timeout: "5s",
			}}
			r.Connect.SidecarService.Proxy.Expose = consulapi.ExposeConfig{
				Checks: true,
				Paths: []consulapi.ExposePath{
					{Path: "/x/health", LocalPathPort: r.Port, ListenerPort: exposed[kind], Protocol: "http"},
					{Path: "/x/metrics", LocalPathPort: r.Port, ListenerPort: exposed[kind] + 1, Protocol: "http"},
				},
			}
		})
		w.start(t, kind, i)
		sidecarReady(t, i)
		within(t, patience, "the port of the check of "+id, func(context.Context) error {
			checks, _, err := w.consul.API.Health().Checks("api", nil)
			if err != nil {
				return err
			}
			for _, check := range checks {
				if check.CheckID == id+"-http" && check.ExposedPort != 0 && check.Status == consulapi.HealthPassing {
					checked[kind] = check.ExposedPort
					return nil
				}
			}
			return errors.New("not yet")
		})
	}
	for _, kind := range kinds() {
		for _, tt := range []struct {
			port   int
			path   string
			status int
		}{
			{exposed[kind], "/x/health", http.StatusOK},
			{exposed[kind], "/x/health?verbose=1", http.StatusOK},
			{exposed[kind], "/x/healthy", http.StatusNotFound},
			{exposed[kind], "/x/health/../secret", http.StatusNotFound},
			{exposed[kind], "/", http.StatusNotFound},
			{exposed[kind] + 1, "/x/metrics", http.StatusOK},
			{exposed[kind] + 1, "/x/health", http.StatusNotFound},
			{checked[kind], "/x/check", http.StatusOK},
			{checked[kind], "/x/other", http.StatusNotFound},
		} {
			url := "http://" + local(tt.port) + tt.path
			if tt.status == http.StatusOK {
				waitStatus(t, url, tt.status)
			}
			if got := get(t, url); got.status != tt.status {
				t.Errorf("%s: %s: status %d, want %d: %s", kind, url, got.status, tt.status, got.body)
			}
		}
	}
}
