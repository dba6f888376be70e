package integration_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
	"time"

	consulapi "github.com/hashicorp/consul/api"
	nomadapi "github.com/hashicorp/nomad/api"

	"github.com/serai-net/serai/integration/harness"
)

// envoyTask is the task by which Nomad would start Envoy's image, word for word its arguments, on the exec driver.
const envoyTask = `
        sidecar_task {
          driver = "exec"
          config {
            command = "/usr/local/bin/envoy"
            args = ["-c", "${NOMAD_SECRETS_DIR}/envoy_bootstrap.json", "-l", "${meta.connect.log_level}",
              "--concurrency", "${meta.connect.proxy_concurrency}", "--disable-hot-restart"]
          }
          resources {
            cpu    = 50
            memory = 64
          }
        }
`

const envoyJob = `
job "asenvoy" {
  group "gate" {
    network {
      mode = "bridge"
      port "in" { to = 8080 }
    }
    service {
      name = "gate"
      port = "in"
      connect {
        gateway {
          ingress {
            listener {
              port     = 8080
              protocol = "http"
              service {
                name  = "shop"
                hosts = ["*"]
              }
            }
          }
        }
` + envoyTask + `
      }
    }
  }
  group "shop" {
    network { mode = "bridge" }
    service {
      name = "shop"
      port = "8080"
      connect {
        sidecar_service {}
` + envoyTask + `
      }
    }
    task "serve" {
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
}
`

// TestNomadStartsEnvoy has Nomad start a sidecar and an ingress gateway as it starts Envoy: a file of that name, with
// Nomad's own arguments and bootstrap files. A request from outside passes both, by intentions; the end is by SIGINT.
func TestNomadStartsEnvoy(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	env := harness.ForTest(t)
	nomad, err := env.Nomad(ctx, harness.NomadConfig{ConsulACL: true, Chroot: map[string]string{namedEnvoy(t): "/usr/local/bin/envoy"}})
	must(t, err)
	must(t, nomad.Consul.Protocol(ctx, "shop", "http"))
	job, err := nomad.Run(ctx, envoyJob)
	must(t, err)
	must(t, nomad.WaitRunning(ctx, *job.ID))
	client := nomad.Namespace.Client()
	gets := func(status int) {
		t.Helper()
		must(t, harness.Until(ctx, fmt.Sprintf("status %d through the gateway", status), func(ctx context.Context) error {
			found, _, err := nomad.Consul.API.Catalog().Service("gate", "", (&consulapi.QueryOptions{}).WithContext(ctx))
			if err != nil || len(found) != 1 {
				return errors.Join(fmt.Errorf("%d gateways", len(found)), err)
			}
			got, err := fetch(ctx, client, "http://"+hostPort(found[0].ServiceAddress, found[0].ServicePort)+"/echo?status=203")
			if err == nil && got.status != status {
				err = fmt.Errorf("status %d: %s", got.status, got.body)
			}
			return err
		}))
	}
	gets(http.StatusForbidden)
	must(t, nomad.Consul.Intention(ctx, "gate", "shop", true))
	gets(http.StatusNonAuthoritativeInfo)
	must(t, nomad.Consul.WaitHealthy(ctx, "shop-sidecar-proxy", 1))

	query := (&nomadapi.QueryOptions{}).WithContext(ctx)
	allocs, _, err := nomad.API.Jobs().Allocations(*job.ID, false, query)
	must(t, err)
	for _, alloc := range allocs {
		task := map[string]string{"gate": "connect-ingress-gate", "shop": "connect-proxy-shop"}[alloc.TaskGroup]
		_, err := nomad.API.Allocations().Stop(&nomadapi.Allocation{ID: alloc.ID}, query)
		must(t, err)
		must(t, harness.Until(ctx, task+" to end well", func(context.Context) error {
			now, _, err := nomad.API.Allocations().Info(alloc.ID, query)
			if err != nil {
				return err
			}
			return endedWell(now.TaskStates[task])
		}))
	}
}

// endedWell tells whether a task has ended by itself, with status 0.
func endedWell(state *nomadapi.TaskState) error {
	if state == nil {
		return errors.New("there is no such task")
	}
	for _, event := range state.Events {
		if event.Type == nomadapi.TaskTerminated {
			if event.Details["exit_code"] == "0" && event.Details["signal"] == "0" {
				return nil
			}
			return fmt.Errorf("it ended so: %v", event.Details)
		}
	}
	return errors.New("it is " + state.State)
}

// namedEnvoy is our program, as a file of the name envoy.
func namedEnvoy(t *testing.T) string {
	t.Helper()
	root, err := harness.Root()
	must(t, err)
	data, err := os.ReadFile(filepath.Join(root, "bin", "serai"))
	must(t, err)
	path := filepath.Join(t.TempDir(), "envoy")
	must(t, os.WriteFile(path, data, 0o755))
	return path
}
