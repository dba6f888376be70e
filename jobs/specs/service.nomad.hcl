# A service in the mesh with Serai as its sidecar, both by Nomad's exec driver.
#
# The service listens on localhost of the group's own network; the sidecar is its only way in and out: mTLS, intentions.
# sidecar_task is all by which this differs from a job with Envoy.

variable "name" {
  type        = string
  description = "name of the job, and of the service in Consul, such as \"web\""
  validation {
    condition     = var.name != "" && regex_replace(var.name, "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "") == ""
    error_message = "The name must be of lower-case letters, digits and dashes, such as \"web\"."
  }
}

variable "command" {
  type        = string
  description = "path of the service's binary, such as \"/usr/local/bin/web\""
}

variable "args" {
  type        = list(string)
  default     = []
  description = "its arguments"
}

variable "env" {
  type        = map(string)
  default     = {}
  description = "its environment"
}

variable "port" {
  type        = number
  default     = 8080
  description = "port on which it listens, on 127.0.0.1 of the group's network"
  validation {
    condition     = var.port >= 1 && var.port <= 65535
    error_message = "The port must be from 1 to 65535."
  }
}

variable "upstreams" {
  type        = map(number)
  default     = {}
  description = "services that it calls, each with the port of 127.0.0.1 at which it finds it, such as { api = 5000 }"
  validation {
    condition     = length([for port in values(var.upstreams) : port if port < 1 || port > 65535]) == 0
    error_message = "The port of an upstream must be from 1 to 65535."
  }
}

variable "check_path" {
  type        = string
  default     = ""
  description = "path that answers 200 if the service is well, such as \"/health\"; Consul asks it through the sidecar"
  validation {
    condition     = var.check_path == "" || substr(var.check_path, 0, 1) == "/"
    error_message = "The path must begin with a slash."
  }
}

variable "count" {
  type        = number
  default     = 2
  description = "how many instances; with two or more, restarts and new versions lose no request"
  validation {
    condition     = var.count >= 1
    error_message = "The count must be 1 or more."
  }
}

variable "canary" {
  type        = number
  default     = 0
  description = "instances of a new version that are started beside the old ones until you promote them"
  validation {
    condition     = var.canary >= 0
    error_message = "The number of canaries must be 0 or more."
  }
}

variable "datacenters" {
  type        = list(string)
  default     = ["*"]
  description = "where it may run; \"*\" is every datacenter of the region"
}

variable "node_pool" {
  type        = string
  default     = "default"
  description = "pool of the nodes on which it may run"
}

variable "sidecar_command" {
  type        = string
  default     = "/usr/local/bin/serai"
  description = "path of the serai binary on the host, inside of what exec's chroot has"
}

variable "sidecar_drain_delay" {
  type        = string
  default     = "0s"
  description = "how long the sidecar accepts connections after the signal to stop; shutdown_delay is over then"
}

variable "kill_signal" {
  type        = string
  default     = "SIGTERM"
  description = "signal that tells the service to stop"
}

variable "shutdown_delay" {
  type        = string
  default     = "3s"
  description = "from leaving Consul until the service is told to stop: in it, its callers learn that it goes"
}

variable "min_healthy_time" {
  type        = string
  default     = "10s"
  description = "how long a new instance must be healthy before the next one is replaced"
}

variable "cpu" {
  type        = number
  default     = 200
  description = "MHz that the service gets at least"
}

variable "memory" {
  type        = number
  default     = 256
  description = "MB that the service may use"
}

variable "sidecar_cpu" {
  type        = number
  default     = 100
  description = "MHz that the sidecar gets at least"
}

variable "sidecar_memory" {
  type        = number
  default     = 64
  description = "MB that the sidecar may use"
}

job "service" {
  id          = var.name
  name        = var.name
  type        = "service"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  # One after the other, and back to the last good version if the new one does not become healthy.
  update {
    max_parallel      = 1
    canary            = var.canary
    min_healthy_time  = var.min_healthy_time
    healthy_deadline  = "2m"
    progress_deadline = "5m"
    auto_revert       = true
  }

  group "service" {
    count = var.count

    # Two instances on one node would go with it.
    spread {
      attribute = "${node.unique.id}"
    }

    # When a node is drained.
    migrate {
      max_parallel     = 1
      min_healthy_time = var.min_healthy_time
    }

    network {
      mode = "bridge"
    }

    service {
      name = var.name
      port = "${var.port}"

      # Nomad itself has Consul check every 10 s whether the sidecar listens; this one asks the service. Its port is inside
      # of the group's network, where Consul does not come: expose has the sidecar let this one path through.
      dynamic "check" {
        for_each = var.check_path == "" ? [] : [var.check_path]
        content {
          name     = "health"
          type     = "http"
          path     = check.value
          expose   = true
          interval = "2s"
          timeout  = "1s"

          # Nomad registers an instance that restarts in place before it stops it: one success alone may be of the old.
          success_before_passing = 2
        }
      }

      connect {
        sidecar_service {
          proxy {
            dynamic "upstreams" {
              for_each = var.upstreams
              content {
                destination_name = upstreams.key
                local_bind_port  = upstreams.value
              }
            }
          }
        }

        sidecar_task {
          driver = "exec"
          config {
            command = var.sidecar_command
            args = [
              "connect", "-c", "${NOMAD_SECRETS_DIR}/envoy_bootstrap.json",
              "-l", "${meta.connect.log_level}", "--concurrency", "${meta.connect.proxy_concurrency}",
              "-drain-delay", var.sidecar_drain_delay,
            ]
          }

          # The sidecar drains in 4.5 s; Nomad must not kill it before.
          kill_timeout = "10s"

          resources {
            cpu    = var.sidecar_cpu
            memory = var.sidecar_memory
          }
        }
      }
    }

    # The instance leaves Consul, its callers learn of it, and only then are its tasks told to stop: first the service,
    # then its sidecar.
    shutdown_delay = var.shutdown_delay

    task "service" {
      driver = "exec"

      config {
        command = var.command
        args    = var.args
      }

      env = var.env

      kill_signal  = var.kill_signal
      kill_timeout = "10s"

      resources {
        cpu    = var.cpu
        memory = var.memory
      }
    }
  }
}
