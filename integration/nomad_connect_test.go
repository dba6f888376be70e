package integration_test

import (
	"context"
	"net/http"
	"strings"
	"testing"
	"time"

	nomadapi "github.com/hashicorp/nomad/api"

	"github.com/serai-net/serai/integration/harness"
)

// sidecarTask is the one block by which our binary takes Envoy's place under
// Nomad's exec driver.
const sidecarTask = `
        sidecar_task {
          driver = "exec"
          config {
            command = "/usr/local/bin/serai"
            args = [
              "connect", "-c", "${NOMAD_SECRETS_DIR}/envoy_bootstrap.json",
              "-l", "${meta.connect.log_level}", "--concurrency", "${meta.connect.proxy_concurrency}", "--disable-hot-restart",
            ]
          }
          shutdown_delay = "2s"
          resources {
            cpu    = 100
            memory = 128
          }
        }`

// meshJob is two instances of api and one web, whose only way to api is its
// sidecar. web's task passes raw connections from outside on to that.
const meshJob = `
job "mesh" {
  group "api" {
    count = 2
    network { mode = "bridge" }
    service {
      name = "api"
      port = "8080"
      connect {
        sidecar_service {}` + sidecarTask + `
      }
    }
    shutdown_delay = "2s"
    task "api" {
      driver = "exec"
      config {
        command = "/usr/local/bin/fortio"
        args    = ["server", "-http-port", "127.0.0.1:8080", "-grpc-port", "disabled", "-tcp-port", "disabled", "-udp-port", "disabled", "-redirect-port", "disabled"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
  group "web" {
    network {
      mode = "bridge"
      port "front" { to = 9090 }
    }
    service {
      name = "web"
      port = "9090"
      connect {
        sidecar_service {
          proxy {
            upstreams {
              destination_name = "api"
              local_bind_port  = 5000
            }
          }
        }` + sidecarTask + `
      }
    }
    service {
      name = "front"
      port = "front"
    }
    task "web" {
      driver = "exec"
      config {
        command = "/usr/local/bin/fortio"
        args    = ["proxies", "-P", "9090 127.0.0.1:5000"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
`

// TestNomadConnect runs our sidecar as Nomad starts it: from the bootstrap file
// that Nomad writes, in the network namespace of the group, over the unix socket
// to Consul. Then one of two instances is stopped under load.
func TestNomadConnect(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	nomad, err := harness.ForTest(t).Nomad(ctx, harness.NomadConfig{ConsulHCL: `default_intention_policy = "deny"`})
	if err != nil {
		t.Fatal(err)
	}
	if err := nomad.Consul.Protocol(ctx, "api", "http"); err != nil {
		t.Fatal(err)
	}
	job, err := nomad.Run(ctx, meshJob)
	if err != nil {
		t.Fatal(err)
	}
	if err := nomad.WaitRunning(ctx, *job.ID); err != nil {
		t.Fatal(err)
	}
	url := "http://" + frontAddress(ctx, t, nomad) + "/echo?status=203"
	// Nobody may call api yet.
	nomadStatus(ctx, t, nomad, url, http.StatusForbidden)
	if err := nomad.Consul.Intention(ctx, "web", "api", true); err != nil {
		t.Fatal(err)
	}
	nomadStatus(ctx, t, nomad, url, http.StatusNonAuthoritativeInfo)
	if err := nomad.Consul.WaitHealthy(ctx, "api-sidecar-proxy", 2); err != nil {
		t.Fatal(err)
	}

	load := harness.StartLoad(ctx, harness.LoadConfig{
		Client: nomad.Namespace.Client(), URL: url, Want: http.StatusNonAuthoritativeInfo, Workers: 2,
	})
	stopOne(ctx, t, nomad, *job.ID)
	report := load.Stop()
	t.Log(report)
	if report.Failed() > 0 || report.OK() == 0 {
		t.Errorf("stopping one of two instances lost requests")
	}
}

// frontAddress is where web is reached from outside of its namespace.
func frontAddress(ctx context.Context, t *testing.T, nomad *harness.Nomad) string {
	t.Helper()
	if err := nomad.Consul.WaitHealthy(ctx, "front", 1); err != nil {
		t.Fatal(err)
	}
	found, _, err := nomad.Consul.API.Health().Service("front", "", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	return hostPort(found[0].Service.Address, found[0].Service.Port)
}

func nomadStatus(ctx context.Context, t *testing.T, nomad *harness.Nomad, url string, want int) {
	t.Helper()
	client := nomad.Namespace.Client()
	err := harness.Until(ctx, "the status wanted of "+url, func(ctx context.Context) error {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
		if err != nil {
			return err
		}
		resp, err := client.Do(req)
		if err != nil {
			return err
		}
		defer resp.Body.Close()
		if resp.StatusCode != want {
			return &statusError{got: resp.StatusCode, want: want}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

type statusError struct{ got, want int }

func (e *statusError) Error() string {
	return "got " + http.StatusText(e.got) + ", want " + http.StatusText(e.want)
}

// stopOne stops one allocation of api as an operator does, and waits until
// another has taken its place.
func stopOne(ctx context.Context, t *testing.T, nomad *harness.Nomad, job string) {
	t.Helper()
	query := (&nomadapi.QueryOptions{}).WithContext(ctx)
	allocs, _, err := nomad.API.Jobs().Allocations(job, false, query)
	if err != nil {
		t.Fatal(err)
	}
	stopped := ""
	for _, alloc := range allocs {
		if alloc.TaskGroup != "api" {
			continue
		}
		full, _, err := nomad.API.Allocations().Info(alloc.ID, query)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := nomad.API.Allocations().Stop(full, query); err != nil {
			t.Fatal(err)
		}
		stopped = alloc.ID
		break
	}
	err = harness.Until(ctx, "the stopped allocation to end", func(ctx context.Context) error {
		alloc, _, err := nomad.API.Allocations().Info(stopped, (&nomadapi.QueryOptions{}).WithContext(ctx))
		if err != nil {
			return err
		}
		if !strings.EqualFold(alloc.ClientStatus, nomadapi.AllocClientStatusComplete) {
			return &stateError{alloc.ClientStatus}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if err := nomad.WaitRunning(ctx, job); err != nil {
		t.Fatal(err)
	}
	if err := nomad.Consul.WaitHealthy(ctx, "api-sidecar-proxy", 2); err != nil {
		t.Fatal(err)
	}
}

type stateError struct{ state string }

func (e *stateError) Error() string { return "it is " + e.state }
