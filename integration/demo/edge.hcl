# The edge of `make demo`. Addresses come from the environment, since the demo
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

  access_log {
    path   = env("DEMO_ACCESS_LOG")
    format = "text"
  }
}
