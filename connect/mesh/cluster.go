package mesh

import (
	"net/netip"
	"reflect"
	"slices"
	"time"
)

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
	// ClusterLogicalDNS: the addresses of its one name are one endpoint, whose
	// connections outlive changes of DNS.
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
	// Negotiated is what TLS agrees on, HTTP/2 or HTTP/1.1.
	Negotiated
)

// Cluster is a group of endpoints (xDS: config.cluster.v3.Cluster).
type Cluster struct {
	Name string
	Kind ClusterKind
	// Endpoints of a static cluster.
	Endpoints *EndpointSet
	// EndpointName is the name of the EndpointSet; "" means Name.
	EndpointName string
	// EndpointWait is how long is waited for it.
	EndpointWait Wait
	// Members of an aggregate cluster, the preferred first.
	Members []string
	// Names of a DNS cluster, and how they are looked up.
	Names []DNSName
	DNS   DNS
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
	// Check is nil if endpoints are not asked for their health.
	Check *ActiveCheck
	Pool  Pool
	// StatName is alt_stat_name; "" means Name.
	StatName string
	// Metadata is for who logs; nil for none.
	Metadata Metadata
	// Lambda says that the cluster is the gateway of AWS Lambda.
	Lambda bool
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
	// Degraded ones are used as far as there are too few that are healthy.
	Degraded
)

// String is what people call it.
func (h Health) String() string {
	switch h {
	case Unhealthy:
		return "unhealthy"
	case Draining:
		return "draining"
	case Degraded:
		return "degraded"
	default:
		return "healthy"
	}
}

// Endpoint is one address of a cluster.
type Endpoint struct {
	Address Address
	// Others are tried where Address does not accept.
	Others []netip.AddrPort
	// Hostname for AutoHost and DNS endpoints; may be "".
	Hostname string
	// Weight is at least 1.
	Weight   uint32
	Health   Health
	Priority uint32
	// Locality tells the localities of a set apart; LocalityWeight is what all of
	// one have together, for Balance.LocalityWeighted.
	Locality, LocalityWeight uint32
	// Where it is, as the control plane says; nil if it does not. Those of one group
	// share it.
	Where *Locality
	// Metadata is for who logs; nil for none.
	Metadata Metadata
}

// Locality is where endpoints are (xDS: config.core.v3.Locality).
type Locality struct{ Region, Zone, SubZone string }

// At is where the endpoint is, as far as that is known.
func (e *Endpoint) At() Locality {
	if e.Where == nil {
		return Locality{}
	}
	return *e.Where
}

// Equal tells whether both are the same in every respect.
func (e *Endpoint) Equal(other *Endpoint) bool {
	return e.Address == other.Address && slices.Equal(e.Others, other.Others) && e.Hostname == other.Hostname &&
		e.Weight == other.Weight && e.Health == other.Health && e.Priority == other.Priority &&
		e.At() == other.At() && e.Locality == other.Locality && e.LocalityWeight == other.LocalityWeight &&
		(e.Metadata == nil && other.Metadata == nil || reflect.DeepEqual(e.Metadata, other.Metadata))
}

// EndpointSet is all endpoints of one cluster (xDS: ClusterLoadAssignment).
type EndpointSet struct {
	Name      string
	Endpoints []Endpoint
	// Overprovisioning is how much of its requests a priority is fit for, in percent
	// of its healthy endpoints; 0 means 140.
	Overprovisioning uint32
}

// Healthy is the number of endpoints that can be used.
func (s *EndpointSet) Healthy() int {
	n := 0
	if s != nil {
		for i := range s.Endpoints {
			if h := s.Endpoints[i].Health; h == Healthy || h == Degraded {
				n++
			}
		}
	}
	return n
}
