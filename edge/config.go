package edge

import (
	"net/netip"
	"time"

	"github.com/serai-net/serai/agent/telemetry"
	"github.com/serai-net/serai/edge/consumer"
	"github.com/serai-net/serai/plugins/host"
)

// Config is the API gateway. Its tags are read by agent/config; its comments
// are the user's reference.
//
//	edge {
//	  listener "public" { address = "0.0.0.0:8080" }
//
//	  consumer "acme" {
//	    key "laptop" { key = env("ACME_KEY") }
//	  }
//
//	  api "orders" {
//	    hosts     = ["orders.example.com"]
//	    base_path = "/orders"
//	    authenticate "api_key" {}
//
//	    route "all" {
//	      upstream { service = "orders" }
//	    }
//	  }
//	}
type Config struct {
	// Service is the name under which the edge is in Consul and in the mesh:
	// what intentions name as the source. "" means "edge".
	Service string `hcl:"service,optional"`
	// ID tells several edges with one Service apart; it should stay the same
	// over restarts. "" means Service, the host's name and the first listener's
	// port, joined by "-".
	ID string `hcl:"id,optional"`
	// AdvertiseAddress is registered in Consul; not given means the address of
	// the Consul agent.
	AdvertiseAddress netip.Addr `hcl:"advertise_address,optional"`
	// TrustedProxies are networks whose x-forwarded-for, x-forwarded-proto,
	// x-forwarded-host and x-request-id are believed, such as those of a load
	// balancer in front. From all others these are replaced.
	TrustedProxies []netip.Prefix `hcl:"trusted_proxies,optional"`
	// DrainDelay is how long connections are still accepted after a signal to
	// stop, while Consul and load balancers learn of it; nil means 2 s.
	DrainDelay *time.Duration `hcl:"drain_delay,optional"`
	// DrainTimeout is the time from the signal until what is not finished is
	// cut off; nil means 4 s, which is less than the 5 s that Nomad waits.
	DrainTimeout *time.Duration `hcl:"drain_timeout,optional"`
	// Listeners take connections from clients; there must be one.
	Listeners []Listener `hcl:"listener,block"`
	// Consumers may call APIs that authenticate.
	Consumers []consumer.Config `hcl:"consumer,block"`
	// Plugins are processes of their own that authenticate callers and change
	// requests, where APIs and routes use them.
	Plugins []host.Config `hcl:"plugin,block"`
	// APIs are what clients can call.
	APIs []API `hcl:"api,block"`
	// AccessLog has one line for each exchange; nil means none.
	AccessLog *telemetry.AccessLogConfig `hcl:"access_log,block"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Listener takes connections from clients at one address.
//
//	listener "public" {
//	  address = "0.0.0.0:8443"
//	  tls {
//	    certificate_file = "tls/site.pem"
//	    key_file         = "tls/site.key"
//	  }
//	}
type Listener struct {
	// Name tells listeners apart, for the argument listeners of APIs and logs.
	Name string `hcl:"name,label"`
	// Address to listen on; ":8080" is all IPv4 addresses.
	Address netip.AddrPort `hcl:"address"`
	// TLS makes it HTTPS; nil means plain HTTP.
	TLS *TLS `hcl:"tls,block"`
	// ProxyProtocol is how connections begin behind a load balancer that speaks it;
	// nil means that they do not.
	ProxyProtocol *ProxyProtocol `hcl:"proxy_protocol,block"`
	// MaxHeaderSize bounds a request's header in bytes; 0 means 60 KiB.
	MaxHeaderSize int `hcl:"max_header_size,optional,size"`
	// IdleTimeout closes connections without a request; 0 means 1 minute.
	IdleTimeout time.Duration `hcl:"idle_timeout,optional"`
	// HeaderTimeout is how long a request's header may take; 0 means 10 s.
	HeaderTimeout time.Duration `hcl:"header_timeout,optional"`
	// RequestTimeout is how long all of a request may take, its body included; 0
	// means no limit, but pauses have one.
	RequestTimeout time.Duration `hcl:"request_timeout,optional"`
	// MaxConnectionAge is how long a connection takes requests, so that clients come
	// back and are balanced anew; 0 means for ever.
	MaxConnectionAge time.Duration `hcl:"max_connection_age,optional"`
	// MaxConcurrentStreams is how many requests one connection of HTTP/2 may have
	// under way; 0 means 100.
	MaxConcurrentStreams int `hcl:"max_concurrent_streams,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Positions says where a block (under "") and its arguments (under their names)
// stand, as "file:line". It may be nil.
type Positions map[string]string

// At is where an argument stands, or else the block, or "".
func (p Positions) At(argument string) string {
	if position := p[argument]; position != "" {
		return position
	}
	return p[""]
}

const (
	defaultService      = "edge"
	defaultDrainDelay   = 2 * time.Second
	defaultDrainTimeout = 4 * time.Second
	defaultTimeout      = 15 * time.Second
	defaultIdleTimeout  = time.Minute
)

// ServiceName is the edge's name in Consul.
func (c *Config) ServiceName() string {
	if c.Service == "" {
		return defaultService
	}
	return c.Service
}

// drain returns delay and timeout with their defaults.
func (c *Config) drain() (delay, timeout time.Duration) {
	return orDefault(c.DrainDelay, defaultDrainDelay), orDefault(c.DrainTimeout, defaultDrainTimeout)
}

func orDefault[T any](value *T, otherwise T) T {
	if value == nil {
		return otherwise
	}
	return *value
}
