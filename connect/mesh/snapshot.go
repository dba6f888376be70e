package mesh

import (
	"net/netip"
	"sync/atomic"
	"time"
)

// Snapshot is one whole configuration of a data plane.
type Snapshot struct {
	// Version counts up within a process.
	Version uint64
	// Listeners, Routes and Clusters by name. Routes are those that several
	// filter chains may name (RDS).
	Listeners map[string]*Listener
	Routes    map[string]*Route
	Clusters  map[string]*Cluster
}

// Store publishes the snapshot in force. The zero Store holds none.
type Store struct {
	current atomic.Pointer[Snapshot]
}

// Load returns the snapshot in force, nil before the first. It never waits.
func (s *Store) Load() *Snapshot { return s.current.Load() }

// Swap publishes next.
func (s *Store) Swap(next *Snapshot) { s.current.Store(next) }

// Direction is where a listener's traffic comes from.
type Direction uint8

// Directions (xDS: config.core.v3.TrafficDirection).
const (
	Unspecified Direction = iota
	Inbound               // from other workloads to ours
	Outbound              // from our workload to others
)

// Address is an IP address and port, or the path of a unix socket.
type Address struct {
	AddrPort netip.AddrPort
	// Socket is the path of a unix socket; then AddrPort is not used.
	Socket string
	// Mode is the socket file's permission; 0 means the system's default.
	Mode uint32
}

// Network is what package net calls the address's kind.
func (a Address) Network() string {
	if a.Socket != "" {
		return "unix"
	}
	return "tcp"
}

// String is the address as net.Dial takes it.
func (a Address) String() string {
	if a.Socket != "" {
		return a.Socket
	}
	return a.AddrPort.String()
}

// Listener takes connections at one address (xDS: config.listener.v3.Listener).
type Listener struct {
	Name string
	// AccessLogs are of connections, also of those that no chain is for.
	AccessLogs []*AccessLog
	Address    Address
	// StatName stands for the address in the names of what is counted
	// (stat_prefix); "" means the address.
	StatName  string
	Direction Direction
	// Chains are tried in order of their Match's precedence; Default serves
	// what no chain matches, nil closes it.
	Chains  []*FilterChain
	Default *FilterChain
	// Inspect is what is looked at before a chain is chosen.
	Inspect Inspect
	// HandOff gives connections to the listener that has the address to which they
	// went before a redirect, if there is one (use_original_dst).
	HandOff bool
	// Unbound listeners have no socket: they get what others hand off to them.
	Unbound bool
	// Exclusive binds the address so that no other socket can share its port; without
	// it several may, as long as they are the same user's (enable_reuse_port).
	Exclusive bool
	// ProxyProtocol, if not nil, says that connections begin with a header that
	// tells who the peer is (xDS: filters.listener.proxy_protocol.v3).
	ProxyProtocol *ProxyProtocol
	// Refusal, if not "", says why no connection can be served here: the
	// listener is bound, and closes what it accepts (fail closed).
	Refusal string
}

// ProxyProtocol is how the header of the PROXY protocol is taken.
type ProxyProtocol struct {
	// Optional also takes connections without one.
	Optional bool
}

// FilterChain says what happens on a connection (xDS: FilterChain with its
// network filters). Exactly one of TCP, HTTP and Refusal is set.
type FilterChain struct {
	Name  string
	Match ChainMatch
	// TLS is nil for plain connections.
	TLS *DownstreamTLS
	// Intentions are the network RBAC filters: all must allow.
	Intentions []*Intention
	// Limit is the connection_limit filter; nil means none.
	Limit *ConnectionLimit
	// Authz are the network ext_authz filters: all must allow a connection.
	Authz []*ExtAuthz
	TCP   *TCPProxy
	HTTP  *HTTP
	// Refusal, if not "", says what in this chain is not understood: it closes
	// every connection (fail closed).
	Refusal string
}

// TCPProxy forwards a connection (xDS: filters.network.tcp_proxy.v3).
type TCPProxy struct {
	StatPrefix string
	AccessLogs []*AccessLog // of connections
	LogMoments LogMoments
	// Targets share the connections by weight; with none, every connection is closed.
	Targets []Target
	// ServerName takes the cluster that the connection's SNI names, if it has one,
	// and not Targets (xDS: filters.network.sni_cluster.v3).
	ServerName bool
	// HashSource chooses the endpoint by the peer's address, for consistent hashing.
	HashSource bool
	// IdleTimeout without a byte in either direction; 0 means none.
	IdleTimeout time.Duration
	// MaxDuration ends a connection that has been open for so long; 0 means none.
	MaxDuration time.Duration
	// DurationJitter is by how many percent at most MaxDuration is longer, at random.
	DurationJitter float64
	// ConnectAttempts to the upstream, each of which may try several endpoints
	// that refuse; 0 means 1.
	ConnectAttempts uint32
	// BackOff is how long to wait between two of them at most, at first; it doubles up to
	// MaxBackOff. 0 means not at all.
	BackOff, MaxBackOff time.Duration
}

// HTTP serves HTTP on a connection (xDS: http_connection_manager.v3).
type HTTP struct {
	StatPrefix string
	// Route is inline; RouteName names one of Snapshot.Routes instead, and RouteWait is how
	// long is waited for it.
	Route     *Route
	RouteName string
	RouteWait Wait
	// HTTP2 says that the control plane expects HTTP/2 on this chain.
	HTTP2 bool
	// Filters run in order, before the route is taken.
	Filters []HTTPFilter
	// Codec is how its connections are served.
	Codec Codec
	// StripPort takes the port off the authority, StripLocalPort if it is the
	// listener's own.
	StripPort, StripLocalPort bool
	// StripDot takes a dot off the end of the host.
	StripDot bool
	// MaxRequests of a connection, which closes then; 0 is no bound.
	MaxRequests uint32
	// LocalReply changes answers of our own; nil does not.
	LocalReply *LocalReply
	// DefaultHost is the authority of requests of HTTP/1.0 that have none.
	DefaultHost string
	// MaxStreamDuration bounds an exchange, and a tunnel; 0 means no bound.
	MaxStreamDuration time.Duration
	// NormalizePath and MergeSlashes rewrite the path before any decision.
	NormalizePath bool
	MergeSlashes  bool
	// EscapedSlashes says what to do with %2F, %2f, %5C and %5c in a path.
	EscapedSlashes EscapedSlashes
	// RejectUnderscores refuses header names with an underscore; DropUnderscores
	// drops such fields.
	RejectUnderscores, DropUnderscores bool
	// StreamIdleTimeout without a byte on an exchange; 0 means none.
	StreamIdleTimeout time.Duration
	// ClientCert says what to do with x-forwarded-client-cert.
	ClientCert ForwardClientCert
	AccessLogs []*AccessLog // of exchanges
	LogMoments LogMoments
	Tracing    *Tracing // nil for none
	// Conduct is what the proxy says of itself, and of the client, in header fields.
	Conduct Conduct
	// Upgrades are the protocols (lower-case) that may be switched to, "connect" if
	// there may be tunnels. Rules may say otherwise.
	Upgrades []string
}

// EscapedSlashes is path_with_escaped_slashes_action.
type EscapedSlashes uint8

// What to do with an escaped slash.
const (
	KeepEscapedSlashes EscapedSlashes = iota
	RejectEscapedSlashes
	UnescapeAndRedirect
	UnescapeAndForward
)

// ForwardClientCert is forward_client_cert_details.
type ForwardClientCert struct {
	Mode ForwardMode
	// What is added of the peer's certificate.
	Subject, Cert, Chain, DNS, URI bool
}

// ForwardMode says what happens to the header.
type ForwardMode uint8

// Modes of x-forwarded-client-cert; the zero mode is Envoy's default.
const (
	ForwardSanitize ForwardMode = iota
	ForwardOnly
	ForwardAppend
	ForwardSanitizeSet
	ForwardAlways
)

// HTTPFilter is one HTTP filter. Exactly one field is set, besides Name and Disabled.
type HTTPFilter struct {
	Intention *Intention
	// Metadata is header_to_metadata.
	Metadata *HeaderToMetadata
	// JWT is jwt_authn.
	JWT *JWT
	// GRPCStats counts calls of gRPC.
	GRPCStats *GRPCStats
	// GRPCWeb lets clients of gRPC-Web call gRPC.
	GRPCWeb bool
	// GRPCBridge lets clients of HTTP/1.1 call gRPC.
	GRPCBridge *GRPCBridge
	// ExtAuthz asks an external service.
	ExtAuthz *ExtAuthz
	// Lua runs a script.
	Lua *Lua
	// Lambda invokes a function.
	Lambda *Lambda
	// HealthCheck answers who asks for our health.
	HealthCheck *HealthCheck
	// Skipped is a filter that we cannot run and that lets requests pass in such a
	// case: only that it was not run is counted. It is the filter's name.
	Skipped string
	// Refusal says what is not understood; the filter answers 503.
	Refusal string

	// Name is what routes call it; Disabled filters are met only where a route says
	// so.
	Name     string
	Disabled bool
}

// GRPCBridge is the grpc_http1_bridge filter.
type GRPCBridge struct {
	// UpgradeProtobuf makes gRPC of requests that are application/x-protobuf.
	UpgradeProtobuf bool
	// IgnoreQuery drops the query of the requests that it takes.
	IgnoreQuery bool
}
