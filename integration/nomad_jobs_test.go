package integration_test

import (
	"fmt"
	"strings"
)

// envoyTask is the task by which Nomad would start Envoy's image, word for word its arguments, on another driver.
func envoyTask(driver, command, more string) string {
	return fmt.Sprintf(`
        sidecar_task {
          driver = %q
          %s
          config {
            command = %q
            args = ["-c", "${NOMAD_SECRETS_DIR}/envoy_bootstrap.json", "-l", "${meta.connect.log_level}",
              "--concurrency", "${meta.connect.proxy_concurrency}", "--disable-hot-restart"]
          }
          resources {
            cpu    = 50
            memory = 64
          }
        }
`, driver, more, command)
}

// inChroot is where a task of the exec driver finds the file that is called envoy.
const inChroot = "/usr/local/bin/envoy"

// fortioTask serves HTTP in the alloc's network. It answers /echo?status=203&delay=1s, and asks others by /fortio/fetch2/?url=...
func fortioTask(driver, command, listen string, more ...string) string {
	return fmt.Sprintf(`
    task "serve" {
      driver = %q
      %s
      config {
        command = %q
        args    = ["server", "-http-port", %q, "-grpc-port", "disabled", "-tcp-port", "disabled", "-udp-port", "disabled", "-redirect-port", "disabled"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
`, driver, strings.Join(more, "\n"), command, listen)
}

// trivialJob has no part in the mesh: it shows what the harness gives to tasks.
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
}
`

// gateJob is an ingress gateway in bridge mode, by which all services are reached from outside, by their names.
func gateJob() string {
	services := ""
	for _, name := range []string{"shop", "raw", "web", "outside"} {
		services += fmt.Sprintf(`
              service {
                name  = %q
                hosts = [%q]
              }`, name, name)
	}
	return `
job "gate" {
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
              protocol = "http"` + services + `
            }
          }
        }
` + envoyTask("exec", inChroot, "") + `
      }
    }
  }
}
`
}

// shopJob is a service of two instances, whose check goes by its sidecar, and which is renewed with a canary.
func shopJob(version string) string {
	return `
job "shop" {
  update {
    max_parallel     = 1
    canary           = 1
    min_healthy_time = "1s"
  }
  group "shop" {
    count          = 2
    shutdown_delay = "2s"
    network { mode = "bridge" }
    service {
      name = "shop"
      port = "8080"
      check {
        type     = "http"
        path     = "/fortio/"
        interval = "1s"
        timeout  = "5s"
        expose   = true
      }
      connect {
        sidecar_service {}
` + envoyTask("exec", inChroot, "") + `
      }
    }
` + fortioTask("exec", "/usr/local/bin/fortio", "127.0.0.1:8080", `env { VERSION = "`+version+`" }`) + `
  }
}
`
}

// rawJob is a service of which neither the application nor the sidecar are in a chroot.
func rawJob(envoy, fortio string) string {
	return `
job "raw" {
  group "raw" {
    network { mode = "bridge" }
    service {
      name = "raw"
      port = "8080"
      connect {
        sidecar_service {}
` + envoyTask("raw_exec", envoy, "") + `
      }
    }
` + fortioTask("raw_exec", fortio, "127.0.0.1:8080") + `
  }
}
`
}

// transparentJob is a service whose traffic is redirected to its sidecar, whichever way it goes. The sidecar has a user
// of its own, by which its own traffic is known.
const transparentUser, transparentUID = "daemon", "1"

func transparentJob() string {
	return `
job "web" {
  group "web" {
    network { mode = "bridge" }
    service {
      name = "web"
      port = "8080"
      connect {
        sidecar_service {
          proxy {
            transparent_proxy { uid = "` + transparentUID + `" }
          }
        }
` + envoyTask("exec", inChroot, fmt.Sprintf("user = %q", transparentUser)) + `
      }
    }
` + fortioTask("exec", "/usr/local/bin/fortio", "8080") + `
  }
}
`
}

// Ports of the gateways in the host's network, and of a service that is no part of the mesh.
const (
	entryPort, leavePort, betweenPort, frontPort, frontAdmin, pierPort, outsidePort = 9441, 9442, 9443, 9444, 9445, 9446, 9447
)

// hostJob is a gateway of each kind that Nomad knows, in the host's network: each has one port number for what it serves,
// for its admin interface (127.0.0.2) and for the ready listener (127.0.0.1). The mesh gateway serves at every address.
func hostJob(envoy string) string {
	group := func(name string, port int, proxy, kind, task string) string {
		return fmt.Sprintf(`
  group %[1]q {
    network {
      mode = "host"
      port "in" { static = %[2]d }
    }
    service {
      name = %[1]q
      port = "in"
      connect {
        gateway {
          proxy {%[3]s}
          %[4]s
        }
        %[5]s
      }
    }
  }
`, name, port, proxy, kind, task)
	}
	everywhere := fmt.Sprintf(`
            envoy_gateway_bind_addresses "default" {
              address = "0.0.0.0"
              port    = %d
            }
          `, betweenPort)
	return `job "host" {` +
		group("entry", entryPort, "", fmt.Sprintf(`ingress {
            listener {
              port     = %d
              protocol = "http"
              service {
                name  = "shop"
                hosts = ["*"]
              }
            }
          }`, entryPort), envoyTask("raw_exec", envoy, "")) +
		group("leave", leavePort, "", `terminating {
            service { name = "outside" }
          }`, envoyTask("exec", inChroot, "")) +
		group("between", betweenPort, everywhere, "mesh {}", envoyTask("raw_exec", envoy, "")) + `}`
}

// frontJob is an API gateway, of which Nomad knows nothing: a task that runs Consul's own command, as for Envoy.
func frontJob(consul, envoy, http, grpc, token, address string) string {
	return fmt.Sprintf(`
job "front" {
  group "front" {
    network { mode = "host" }
    task "gateway" {
      driver = "raw_exec"
      config {
        command = %q
        args = ["connect", "envoy", "-gateway", "api", "-register", "-service", "front", "-address", %q,
          "-admin-bind", "127.0.0.1:%d", "-envoy-binary", %q, "--", "-l", "${meta.connect.log_level}"]
      }
      env {
        CONSUL_HTTP_ADDR  = %q
        CONSUL_GRPC_ADDR  = %q
        CONSUL_HTTP_TOKEN = %q
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
}
`, consul, address, frontAdmin, envoy, http, grpc, token)
}

// dockJob is what a user of Envoy has: nothing in it says what the sidecars and gateways are. Clients say that.
func dockJob(image string) string {
	return fmt.Sprintf(`
job "dock" {
  group "dock" {
    network { mode = "bridge" }
    service {
      name = "dock"
      port = "8080"
      connect {
        sidecar_service {
          proxy {
            transparent_proxy {}
          }
        }
      }
    }
    task "serve" {
      driver = "docker"
      user   = "1000"
      config {
        image = %[1]q
        args  = ["server", "-http-port", "8080", "-grpc-port", "disabled", "-tcp-port", "disabled", "-udp-port", "disabled", "-redirect-port", "disabled"]
      }
      resources {
        cpu    = 50
        memory = 64
      }
    }
  }
  group "pier" {
    network {
      mode = "host"
      port "in" { static = %[2]d }
    }
    service {
      name = "pier"
      port = "in"
      connect {
        gateway {
          ingress {
            listener {
              port     = %[2]d
              protocol = "http"
              service {
                name  = "dock"
                hosts = ["*"]
              }
            }
          }
        }
      }
    }
  }
}
`, image, pierPort)
}
