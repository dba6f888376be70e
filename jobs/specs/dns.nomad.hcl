# Serai's DNS interface on every node: it answers the names of the mesh and of Consul's catalog, and forwards the rest.
#
# It runs in the host's network, beside the Consul agent of its host.

variable "name" {
  type        = string
  default     = "dns"
  description = "name of the job, and of the service in Consul"
  validation {
    condition     = var.name != "" && regex_replace(var.name, "^[a-z0-9]([a-z0-9-]*[a-z0-9])?$", "") == ""
    error_message = "The name must be of lower-case letters, digits and dashes, such as \"dns\"."
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

variable "address" {
  type        = string
  default     = "0.0.0.0"
  description = "address of the host on which it listens; \"0.0.0.0\" is all of them"
}

variable "port" {
  type        = number
  default     = 53
  description = "port of the host on which it listens, by UDP and TCP"
  validation {
    condition     = var.port >= 1 && var.port <= 65535
    error_message = "The port must be from 1 to 65535."
  }
}

variable "config" {
  type        = string
  default     = ""
  description = "the whole configuration instead of the default one, as docs/dns.md has it; a template of Nomad's"
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
  default     = "raw_exec"
  description = "raw_exec (as Nomad's user, where clients allow it) or exec (a chroot of its own, as nobody)"
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
  default     = 100
  description = "MHz that it gets at least"
}

variable "memory" {
  type        = number
  default     = 128
  description = "MB that it may use"
}

locals {
  default_config = <<EOT
dns {
  listener "all" {
    address = "${var.address}:${var.port}"
  }
}
EOT
}

job "dns" {
  id          = var.name
  name        = var.name
  type        = "system"
  datacenters = var.datacenters
  node_pool   = var.node_pool

  # Node after node.
  update {
    max_parallel     = 1
    min_healthy_time = "10s"
    healthy_deadline = "2m"
    auto_revert      = true
  }

  group "dns" {
    network {
      mode = "host"
      port "dns" { static = var.port }
    }

    service {
      name = var.name
      port = "dns"
      check {
        name     = "accepts connections"
        type     = "tcp"
        interval = "5s"
        timeout  = "2s"
      }
    }

    task "dns" {
      driver       = var.driver
      kill_timeout = "10s"
      kill_signal  = "SIGTERM"

      config {
        command = var.serai_source == "" ? var.command : "local/bin/serai"
        args = [
          "dns", "-config", "${NOMAD_TASK_DIR}/dns.hcl",
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

      # Nomad variables that change in it take effect without a restart.
      template {
        destination   = "${NOMAD_TASK_DIR}/dns.hcl"
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
