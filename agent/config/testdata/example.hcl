# Everything that Serai understands, in one file. A folder of files works as
# well: all of them together are one configuration.

consul {
  address = "127.0.0.1:8500"
  token   = env("CONSUL_HTTP_TOKEN", "")
}

log {
  level  = "info"
  format = "text"
}

edge {
  service           = "edge"
  drain_delay       = "2s"
  drain_timeout     = "4s"
  trusted_proxies   = ["10.0.0.0/8"]
  advertise_address = "192.0.2.1"

  listener "public" {
    address         = "0.0.0.0:8080"
    max_header_size = "32KiB"
    idle_timeout    = "1m"
  }

  listener "secure" {
    address = "0.0.0.0:8443"
    tls {
      certificate_file = "tls/site.pem" # relative to this file
      key_file         = "tls/site.key"
    }
  }

  consumer "acme" {
    plan     = "gold"
    metadata = { team = "orders" }
    key "laptop" { sha256 = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" }
    key "ci" { key = env("ACME_CI_KEY", "only-for-the-example") }
  }

  # Processes of their own, which are used below.
  plugin "hmac-auth" {
    command        = "plugins/hmac-auth" # relative to this file
    args           = []
    env            = { TZ = "UTC" }
    checksum       = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" # what sha256sum prints
    timeout        = "500ms"
    max_concurrent = 128
    max_body       = "64KiB"
  }

  plugin "header-map" {
    command  = "/usr/local/lib/serai/header-map"
    checksum = "sha256:ccadd99b16cd3d200c22d6db45d8b6630ef3d936767127347ec8a76ab992c2ea"
  }

  api "partners" {
    base_path       = "/partners"
    allow_consumers = ["acme"]

    authenticate "plugin" {
      plugin    = "hmac-auth"
      fail_mode = "closed"
      settings = {
        clock_skew = "30s"
        keys       = { laptop = { secret = env("ACME_SECRET", "only for the example"), consumer = "acme" } }
      }
    }

    plugin "header-map" {
      settings = { response = [{ remove = "server" }] }
    }

    route "all" {
      plugin "header-map" {
        fail_mode = "open"
        settings  = { request = [{ rename = "x-tenant", to = "x-org" }] }
      }
      upstream { service = "orders" }
    }
  }

  api "orders" {
    hosts           = ["orders.example.com", "*.orders.example.com"]
    listeners       = ["secure"]
    base_path       = "/orders"
    strip_base_path = true
    allow_consumers = ["acme"]

    authenticate "api_key" {
      header = "x-api-key"
      query  = "api_key"
    }

    # In the mesh: by mTLS, as Consul's intentions, routers and splitters say.
    route "list" {
      path_prefix = "/v1"
      methods     = ["GET", "HEAD"]
      timeout     = "5s"
      upstream { service = "orders" }
    }

    route "far" {
      path_regex = "/v1/[0-9]+/lines"
      headers    = { x-region = "eu" }
      upstream {
        service    = "orders"
        datacenter = "dc2"
      }
    }
  }

  api "rest" {
    # In Consul's catalog, but not in the mesh.
    route "legacy" {
      path_prefix    = "/legacy"
      rewrite_prefix = "/app"
      upstream {
        catalog = "legacy"
        tag     = "v1"
      }
      request_headers {
        set    = { x-from = "edge" }
        remove = ["cookie"]
      }
      response_headers {
        remove = ["server"]
      }
    }

    # At plain addresses: no Consul needed.
    route "static" {
      path = "/health"
      upstream {
        addresses       = ["10.0.0.1:8080", "10.0.0.2:8080"]
        connect_timeout = "1s"

        load_balancer {
          policy = "ring_hash"
          hash_policy {
            cookie = "home"
            ttl    = "1h"
          }
        }
        limits {
          max_connections         = 100
          max_pending_requests    = 50
          max_concurrent_requests = 200
        }
        passive_health_check {
          max_failures         = 3
          base_ejection_time   = "10s"
          max_ejection_percent = 50
        }
        retry {
          attempts     = 2
          conditions   = ["gateway-error", "connect-failure"]
          status_codes = [429]
        }
      }
    }
  }

  access_log {
    path   = "-"
    format = "json"
  }
}

dns {
  domain          = "consul"
  mesh            = "mesh"
  ttl             = "0s"
  resolvers       = ["1.1.1.1:53", "[2606:4700:4700::1111]:53"]
  recursion       = true
  forward_timeout = "2s"
  allow           = ["127.0.0.0/8", "10.0.0.0/8"]
  udp_size        = "1232B"
  max_queries     = 4096
  max_forwards    = 1024
  max_connections = 1024
  idle_timeout    = "10s"

  # Who asks is found by the address that asks.
  listener "all" { address = "127.0.0.1:8653" }

  # Everybody who asks here is web.
  listener "web" {
    address  = "127.0.0.1:8654"
    workload = "web"
  }

  # What Serai does not know of Consul's domain, such as prepared queries.
  forward "consul" { resolvers = ["127.0.0.1:8600"] }
  forward "corp.example" { resolvers = ["10.0.0.2:53", "10.0.0.3:53"] }
}
