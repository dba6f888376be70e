package mesh

import "time"

// ClusterKind says where a cluster's endpoints come from.
type ClusterKind uint8

// Kinds of cluster (xDS: DiscoveryType).
const (
	// ClusterEDS: by [EndpointSet] updates from the control plane.
	ClusterEDS ClusterKind = iota
	// ClusterStatic: Cluster.Endpoints.
	ClusterStatic
	// ClusterAggregate: the first of Members, and as far as its endpoints are not
	// healthy the next ones, as between priorities.
	ClusterAggregate
	// ClusterStrictDNS: all addresses of each Cluster.Names.
	ClusterStrictDNS
	// ClusterLogicalDNS: one address at a time.
	ClusterLogicalDNS
	// ClusterOriginalDst: the address before the redirect.
	ClusterOriginalDst
)

// Protocol is what an upstream speaks.
type Protocol uint8

// Upstream protocols.
const (
	HTTP1 Protocol = iota
	HTTP2
	// FollowDownstream: what the request came with.
	FollowDownstream
)

// Cluster is a group of endpoints (xDS: config.cluster.v3.Cluster).
type Cluster struct {
	Name string
	Kind ClusterKind
	// Endpoints of a static cluster.
	Endpoints *EndpointSet
	// EndpointName is the name of the EndpointSet; "" means Name.
	EndpointName string
	// Members of an aggregate cluster, the preferred first.
	Members []string
	// Names of a DNS cluster, each "host:port".
	Names []string
	// Refresh is how often the names are looked up; 0 means 5 s.
	Refresh time.Duration
	// ConnectTimeout covers TCP and TLS; 0 means 5 s.
	ConnectTimeout time.Duration
	Protocol       Protocol
	// HTTP2 is how HTTP/2 is spoken.
	HTTP2Options HTTP2Options
	// TLS is nil for plain connections.
	TLS *UpstreamTLS
	// ProxyProtocol is the version of the header by which each connection begins,
	// before TLS, 1 or 2, and tells whom it serves; 0 means none. HTTP/1 then has a
	// connection for each exchange, HTTP/2 is not possible.
	ProxyProtocol int
	Balance       Balance
	// PanicPercent: with fewer healthy endpoints than this, all are used.
	PanicPercent uint32
	Limits       Limits
	// Outlier is nil if outlier detection is off.
	Outlier *Outlier
	Pool    Pool
	// StatName is alt_stat_name; "" means Name.
	StatName string
	// Refusal says what is not understood: every request gets a 503.
	Refusal string
}

// Health of an endpoint as the control plane sees it.
type Health uint8

// Health states.
const (
	Healthy Health = iota
	Unhealthy
	Draining
)

// Endpoint is one address of a cluster.
type Endpoint struct {
	Address Address
	// Hostname for AutoHost and DNS endpoints; may be "".
	Hostname string
	// Weight is at least 1.
	Weight   uint32
	Health   Health
	Priority uint32
	// Locality tells the localities of a set apart; LocalityWeight is what all of
	// one have together, for Balance.LocalityWeighted.
	Locality, LocalityWeight uint32
}

// EndpointSet is all endpoints of one cluster (xDS: ClusterLoadAssignment).
type EndpointSet struct {
	Name      string
	Endpoints []Endpoint
}

// Healthy is the number of healthy endpoints.
func (s *EndpointSet) Healthy() int {
	n := 0
	if s != nil {
		for i := range s.Endpoints {
			if s.Endpoints[i].Health == Healthy {
				n++
			}
		}
	}
	return n
}
