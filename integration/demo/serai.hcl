# The edge and the DNS interface of `make demo`, in one process. Addresses come from the environment, since the demo
# takes whatever ports are free.

consul {
  address = env("DEMO_CONSUL")
}

edge {
  listener "public" {
    address = env("DEMO_EDGE")
  }

  consumer "acme" {
    plan = "gold"
    key "laptop" { key = "demo-key" }
  }

  # Plugins are programs of their own. Only the one with this checksum is started.
  plugin "hmac-auth" {
    command  = env("DEMO_HMAC_AUTH")
    checksum = env("DEMO_HMAC_AUTH_SUM")
  }
  plugin "header-map" {
    command  = env("DEMO_HEADER_MAP")
    checksum = env("DEMO_HEADER_MAP_SUM")
  }

  api "shop" {
    authenticate "api_key" {}

    # web is in the mesh: the edge reaches it by mTLS, as an intention allows.
    route "web" {
      path_prefix  = "/web"
      strip_prefix = true
      upstream { service = "web" }
    }

    # api is in the mesh too, but only web may call it: no intention allows the edge.
    route "api" {
      path_prefix  = "/api"
      strip_prefix = true
      upstream { service = "api" }
    }

    # legacy is not in the mesh: its instances come from Consul's catalog.
    route "legacy" {
      path_prefix  = "/legacy"
      strip_prefix = true
      upstream { catalog = "legacy" }
    }

    # Clients see no more of legacy than they should.
    route "mapped" {
      path_prefix  = "/mapped"
      strip_prefix = true
      plugin "header-map" {
        settings = {
          response = [
            { rename = "x-backend-name", to = "x-served-by" },
            { remove = "x-powered-by" },
          ]
        }
      }
      upstream { catalog = "legacy" }
    }
  }

  # Callers sign their requests and never send a secret.
  api "partners" {
    base_path       = "/signed"
    strip_base_path = true
    authenticate "plugin" {
      plugin = "hmac-auth"
      settings = {
        keys = { "acme-1" = { secret = "a demo secret of acme", consumer = "acme" } }
      }
    }
    route "legacy" {
      upstream { catalog = "legacy" }
    }
  }

  access_log {
    path   = env("DEMO_ACCESS_LOG")
    format = "text"
  }
}

dns {
  # Everybody who asks here is web: on one machine addresses tell nobody apart.
  listener "web" {
    address  = env("DEMO_DNS")
    workload = "web"
  }
}

admin {
  address = env("DEMO_ADMIN")
}
