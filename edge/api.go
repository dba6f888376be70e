package edge

import (
	"time"

	"github.com/serai-net/serai/edge/auth"
	"github.com/serai-net/serai/edge/extension"
)

// API is a set of routes that belong together: they share hosts, a base path,
// and who may call.
//
// Of all routes that a request fits, the one of the more exact host is taken
// (a name, then the longest wildcard, then none at all), then the one of the
// longer path; see [Route].
type API struct {
	// Name tells APIs apart, in logs, metrics and errors.
	Name string `hcl:"name,label"`
	// Hosts are names ("orders.example.com") and wildcards ("*.example.com",
	// any number of labels); none means all hosts.
	Hosts []string `hcl:"hosts,optional"`
	// Listeners by name; none means all.
	Listeners []string `hcl:"listeners,optional"`
	// BasePath is in front of the paths of all routes; "" means "/".
	BasePath string `hcl:"base_path,optional"`
	// StripBasePath cuts BasePath off before a request is sent upstream.
	StripBasePath bool `hcl:"strip_base_path,optional"`
	// Authenticate says how callers prove who they are; nil means that anybody
	// may call.
	Authenticate *auth.Config `hcl:"authenticate,block"`
	// AllowConsumers may call; none means all consumers.
	AllowConsumers []string `hcl:"allow_consumers,optional"`
	// Plugins change the requests and responses of all routes, in this order and
	// before those of the route.
	Plugins []extension.Config `hcl:"plugin,block"`
	// Routes say where requests go; there must be one.
	Routes []Route `hcl:"route,block"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Route sends requests with some path to one upstream.
//
// At most one of Path, PathPrefix and PathRegex is given; without any the route
// takes every path. All three are below the API's BasePath. A Path is taken
// before prefixes, and a longer prefix before a shorter one. A PathRegex counts
// as the prefix of its literal beginning, up to and with the last slash, and is
// asked before a PathPrefix of the same length. Where routes have the same path, those
// that ask for more (header fields, then methods) come first.
type Route struct {
	// Name tells an API's routes apart.
	Name string `hcl:"name,label"`
	// Path must be equal.
	Path string `hcl:"path,optional"`
	// PathPrefix matches whole segments: "/v1" is "/v1" and "/v1/x", not "/v10".
	PathPrefix string `hcl:"path_prefix,optional"`
	// PathRegex is an RE2 expression that matches the whole path.
	PathRegex string `hcl:"path_regex,optional"`
	// Methods such as "GET"; none means all.
	Methods []string `hcl:"methods,optional"`
	// Headers must have these values.
	Headers map[string]string `hcl:"headers,optional"`
	// Timeout until the response's end; nil means 15 s, "0s" none.
	Timeout *time.Duration `hcl:"timeout,optional"`
	// StripPrefix cuts PathPrefix off before a request is sent upstream.
	StripPrefix bool `hcl:"strip_prefix,optional"`
	// RewritePrefix puts this in the place of PathPrefix; "" changes nothing.
	RewritePrefix string `hcl:"rewrite_prefix,optional"`
	// IdleTimeout is how long nothing may move in a stream, and how long the upstream
	// may take to begin its answer; nil means 1 minute for what clients send (5 with
	// gRPC) and 5 for what upstreams do, "0s" no limit.
	IdleTimeout *time.Duration `hcl:"idle_timeout,optional"`
	// Connect makes a tunnel for the method CONNECT: raw bytes to and from the
	// upstream, whatever host and port the client names beyond the API's hosts. It
	// goes without paths and methods, and a Service must have the protocol tcp.
	Connect bool `hcl:"connect,optional"`
	// GRPCWeb lets browsers call gRPC services: requests of gRPC-Web are made gRPC
	// and the answers gRPC-Web. The upstream must speak HTTP/2.
	GRPCWeb bool `hcl:"grpc_web,optional"`
	// RequestHeaders are changed before the request is sent upstream,
	// ResponseHeaders before the response is sent to the client.
	RequestHeaders  *HeaderEdit `hcl:"request_headers,block"`
	ResponseHeaders *HeaderEdit `hcl:"response_headers,block"`
	// Plugins change requests and responses, in this order, after the arguments
	// above (responses before them).
	Plugins []extension.Config `hcl:"plugin,block"`
	// Upstream is where requests go; it must be there.
	Upstream *Upstream `hcl:"upstream,block"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// Upstream is where a route's requests go. Exactly one of Service, Catalog and
// Addresses is given.
type Upstream struct {
	// Service is a service of the mesh, reached by mTLS; Consul's intentions,
	// routers, splitters and resolvers for it apply.
	Service string `hcl:"service,optional"`
	// Catalog is a service of Consul's catalog that is not in the mesh: its
	// passing instances are called in plain HTTP.
	Catalog string `hcl:"catalog,optional"`
	// Tag that instances of Catalog must have; "" means all.
	Tag string `hcl:"tag,optional"`
	// Datacenter of Service or Catalog; "" means the agent's own.
	Datacenter string `hcl:"datacenter,optional"`
	// Addresses are "host:port", "ip:port" and "unix:///path"; no Consul is
	// needed. Names are looked up again every 5 s.
	Addresses []string `hcl:"addresses,optional"`
	// Protocol that Catalog or Addresses speak: "http" is HTTP/1.1, "http2" is
	// HTTP/2 without TLS, as gRPC needs; "" means "http". For a Service Consul says.
	Protocol string `hcl:"protocol,optional"`
	// ConnectTimeout of one connection; 0 means 5 s. For a Service Consul says.
	ConnectTimeout time.Duration `hcl:"connect_timeout,optional"`
	// ProxyProtocol begins each connection with a header that tells the client's
	// address: "v1" or "v2"; "" means none. Each request then has a connection of its
	// own. Not for a Service.
	ProxyProtocol string `hcl:"proxy_protocol,optional"`
	// LoadBalancer, Limits, PassiveHealthCheck and Retry are those of Catalog or
	// Addresses; nil means round robin, limits of 1024, and none of the others. For
	// a Service Consul's config entries say.
	LoadBalancer       *LoadBalancer       `hcl:"load_balancer,block"`
	Limits             *Limits             `hcl:"limits,block"`
	PassiveHealthCheck *PassiveHealthCheck `hcl:"passive_health_check,block"`
	Retry              *Retry              `hcl:"retry,block"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// HeaderEdit changes header fields: first Remove, then Set.
type HeaderEdit struct {
	// Set puts these values in the place of what is there.
	Set map[string]string `hcl:"set,optional"`
	// Remove drops fields by name.
	Remove []string `hcl:"remove,optional"`
	// Pos is where the block and its arguments stand.
	Pos Positions `hcl:",pos"`
}

// timeout is how long an exchange may take; 0 means for ever.
func (r *Route) timeout() time.Duration { return orDefault(r.Timeout, defaultTimeout) }
