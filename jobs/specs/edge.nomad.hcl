# The Serai API gateway as a Nomad task: it takes requests from outside and sends them into the mesh.
#
# It runs in the host's network, since clients come from there and since it asks the Consul agent of its host. The same
# text works with `serai job run edge` and, rendered, with `nomad job run`.

variable "name" {
  type        = string
  default     = "edge"
  description = "name of the job, and of the edge in Consul: intentions name it as the source"
  validation {
    condition     = var.name != "" && regex_replace(var.name, "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "") == ""
    error_message = "The name must be of lower-case letters, digits and dashes, such as \"edge\"."
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

variable "count" {
  type        = number
  default     = 1
  description = "how many edges, each on a node of its own, since all listen on the same port"
  validation {
    condition     = var.count >= 1
    error_message = "The count must be 1 or more."
  }
}

variable "canary" {
  type        = number
  default     = 0
  description = "edges of a new version that are started beside the old ones until you promote them; needs as many free nodes"
  validation {
    condition     = var.canary >= 0
    error_message = "The number of canaries must be 0 or more."
  }
}

variable "port" {
  type        = number
  default     = 8080
  description = "port of the host on which it listens"
  validation {
    condition     = var.port >= 1 && var.port <= 65535
    error_message = "The port must be from 1 to 65535."
  }
}

variable "admin_port" {
  type        = number
  default     = 9901
  description = "port of the host for the admin interface: readiness, which Consul asks for, and metrics"
  validation {
    condition     = var.admin_port >= 1 && var.admin_port <= 65535
    error_message = "The port must be from 1 to 65535."
  }
}

variable "services" {
  type        = list(string)
  default     = ["web"]
  description = "services of the mesh that the default configuration routes to, each under /NAME/"
  validation {
    condition     = length([for s in var.services : s if s == "" || regex_replace(s, "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "") != ""]) == 0
    error_message = "A service must be of lower-case letters, digits and dashes, such as \"web\"."
  }
}

variable "config" {
  type        = string
  default     = ""
  description = "the edge's whole configuration instead of the default one, as docs/edge.md has it; a template of Nomad's"
}

variable "consul_address" {
  type        = string
  default     = "127.0.0.1:8500"
  description = "HTTP address of the Consul agent, as seen from the host"
}

variable "consul_grpc_address" {
  type        = string
  default     = ""
  description = "address of its gRPC port, for xDS; asked from the agent if empty, which needs agent:read with ACLs, else 8502"
}

variable "consul_identity" {
  type        = bool
  default     = false
  description = "get a Consul token by the task's workload identity; needed if Consul has ACLs"
}

variable "driver" {
  type        = string
  default     = "exec"
  description = "exec (a chroot of its own, as nobody) or raw_exec (as Nomad's user, where clients allow it)"
  validation {
    condition     = contains(["exec", "raw_exec"], var.driver)
    error_message = "The driver must be \"exec\" or \"raw_exec\"."
  }
}

variable "command" {
  type        = string
  default     = "/usr/local/bin/serai"
  description = "path of the serai binary on the host, inside of what the driver's chroot has"
}

variable "serai_source" {
  type        = string
  default     = ""
  description = "URL of an archive with the binary serai, or of that file itself, fetched instead of using command"
}

variable "serai_checksum" {
  type        = string
  default     = ""
  description = "checksum of what serai_source names, such as \"sha256:...\""
}

variable "log_level" {
  type        = string
  default     = "info"
  description = "debug, info, warn or error"
  validation {
    condition     = contains(["debug", "info", "warn", "error"], var.log_level)
    error_message = "The log level must be debug, info, warn or error."
  }
}

variable "cpu" {
  type        = number
  default     = 200
  description = "MHz that it gets at least"
}

variable "memory" {
  type        = number
  default     = 128
  description = "MB that it may use"
}

variable "min_healthy_time" {
  type        = string
  default     = "10s"
  description = "how long a new edge must be healthy before the next one is replaced"
}

locals {
  # Every service under its own name: /web/cart is asked of web as /cart.
  default_config = <<EOT
edge {
  service = "${var.name}"
  id      = "${var.name}-$${env("NOMAD_ALLOC_ID")}"

  listener "public" {
    address = ":$${env("NOMAD_PORT_http")}"
  }

  api "services" {
%{for name in var.services~}
    route "${name}" {
      path_prefix  = "/${name}"
      strip_prefix = true
      upstream { service = "${name}" }
    }
%{endfor~}
  }

  access_log {}
}
EOT
}

job "edge" {
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

  group "edge" {
    count = var.count

    constraint {
      operator = "distinct_hosts"
      value    = "true"
    }

    network {
      mode = "host"
      port "http" { static = var.port }
      port "admin" { static = var.admin_port }
    }

    # The edge registers itself, as var.name, when it can serve. This one is for Nomad's own checks, and for load
    # balancers in front that ask Consul.
    service {
      name = "${var.name}-http"
      port = "http"
      check {
        name     = "ready"
        type     = "http"
        port     = "admin"
        path     = "/ready" # not before the services of the mesh are known
        interval = "5s"
        timeout  = "2s"
      }
    }

    # Taken out of Consul first; those in front have this long to notice before the edge is told to stop.
    shutdown_delay = "2s"

    task "edge" {
      driver = var.driver

      # The edge drains in 4 s (drain_timeout); Nomad must not kill it before.
      kill_timeout = "10s"
      kill_signal  = "SIGTERM"

      config {
        command = var.serai_source == "" ? var.command : "local/bin/serai"
        args = [
          "edge", "-config", "${NOMAD_TASK_DIR}/edge.hcl", "-admin-bind", "${NOMAD_ADDR_admin}",
          "-http-addr", var.consul_address, "-grpc-addr", var.consul_grpc_address, "-log-level", var.log_level,
        ]
      }

      dynamic "artifact" {
        for_each = var.serai_source == "" ? [] : [var.serai_source]
        content {
          source      = artifact.value
          destination = "local/bin"
          dynamic "options" {
            for_each = var.serai_checksum == "" ? [] : [var.serai_checksum]
            content {
              checksum = options.value
            }
          }
        }
      }

      # Nomad hands CONSUL_HTTP_TOKEN to the task, and renews it.
      dynamic "consul" {
        for_each = var.consul_identity ? ["default"] : []
        content {
          cluster = consul.value
        }
      }

      # Changed keys, certificates or Nomad variables in it take effect without a restart.
      template {
        destination   = "${NOMAD_TASK_DIR}/edge.hcl"
        change_mode   = "signal"
        change_signal = "SIGHUP"
        data          = var.config == "" ? local.default_config : var.config
      }

      resources {
        cpu    = var.cpu
        memory = var.memory
      }
    }
  }
}
