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

  # Plugins are programs of their own. Only the ones with these checksums are started.
  plugin "hmac-auth" {
    command  = env("DEMO_HMAC_AUTH")
    checksum = "sha256:${env("DEMO_HMAC_AUTH_SHA256")}"
    max_body = "64KiB"
  }

  plugin "header-map" {
    command  = env("DEMO_HEADER_MAP")
    checksum = "sha256:${env("DEMO_HEADER_MAP_SHA256")}"
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
  }

  # Who calls /signed signs his requests with a secret.
  api "signed" {
    base_path       = "/signed"
    strip_base_path = true
    authenticate "plugin" {
      plugin = "hmac-auth"
      settings = {
        keys = { laptop = { secret = "demo-secret-0123456789", consumer = "acme" } }
      }
    }

    route "legacy" {
      upstream { catalog = "legacy" }
    }
  }

  # Who calls /mapped says x-preview where web wants x-canary.
  api "mapped" {
    base_path       = "/mapped"
    strip_base_path = true
    authenticate "api_key" {}

    route "web" {
      plugin "header-map" {
        settings = {
          request  = [{ rename = "x-preview", to = "x-canary" }]
          response = [{ set = "x-served-by", value = "serai" }]
        }
      }
      upstream { service = "web" }
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
