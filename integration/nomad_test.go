package integration_test

import (
	"context"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/serai-net/serai/integration/harness"
)

const trivialJob = `
job "trivial" {
  group "jail" {
    task "echo" {
      driver      = "exec"
      kill_signal = "SIGKILL" # the first process of a PID namespace heeds no other
      config {
        command = "/bin/sh"
        args    = ["-c", "echo in the chroot of a task; exec /bin/sleep 1000"]
      }
      resources {
        cpu    = 50
        memory = 32
      }
    }
  }
  group "free" {
    network {
      mode = "bridge"
      port "http" { to = 8080 }
    }
    service {
      name = "fortio"
      port = "http"
      check {
        type     = "http"
        path     = "/fortio/"
        interval = "1s"
        timeout  = "1s"
      }
    }
    task "serve" {
      driver = "exec"
      config {
        command = "/usr/local/bin/fortio"
        args    = ["server", "-http-port", "8080", "-grpc-port", "disabled", "-tcp-port", "disabled", "-udp-port", "disabled", "-redirect-port", "disabled"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
`

// TestNomad shows that jobs run in the namespace, in a chroot and on a bridge, that Consul knows them, and that they are
// reached from outside by the namespace's client. Consul has ACLs, so that the service is registered by workload identity.
func TestNomad(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	env := harness.ForTest(t)
	nomad, err := env.Nomad(ctx, harness.NomadConfig{ConsulACL: true})
	if err != nil {
		t.Fatal(err)
	}
	job, err := nomad.Run(ctx, trivialJob)
	if err != nil {
		t.Fatal(err)
	}
	if err := nomad.WaitRunning(ctx, *job.ID); err != nil {
		t.Fatal(err)
	}
	if err := nomad.Consul.WaitHealthy(ctx, "fortio", 1); err != nil {
		t.Fatal(err)
	}
	if text, err := nomad.TaskLog(*job.ID, "echo", "stdout"); err != nil || !strings.Contains(text, "in the chroot") {
		t.Errorf("log of task: %q, %v", text, err)
	}

	found, _, err := nomad.Consul.API.Health().Service("fortio", "", true, nil)
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + hostPort(found[0].Service.Address, found[0].Service.Port) + "/echo?status=203"
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := nomad.Namespace.Client().Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusNonAuthoritativeInfo {
		t.Errorf("GET %s: status %d, %v", url, resp.StatusCode, err)
	}
	if err := nomad.Stop(ctx, *job.ID); err != nil {
		t.Error(err)
	}
}

func hostPort(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }
