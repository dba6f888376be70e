package telemetry

import (
	"strings"

	"github.com/serai-net/serai/connect/mesh"
	"github.com/serai-net/serai/connect/wire"
)

// Direction tells on which side of a service something passes.
type Direction string

// Directions.
const (
	// Edge is from outside into the mesh, through the gateway.
	Edge Direction = "edge"
	// Inbound is from other workloads to ours, Outbound from ours to others.
	Inbound  Direction = "inbound"
	Outbound Direction = "outbound"
	// Gateway is through a gateway of Consul's kinds, which is neither.
	Gateway Direction = "gateway"
)

// DirectionOf is the direction of a sidecar's listener.
func DirectionOf(d mesh.Direction) Direction {
	switch d {
	case mesh.Inbound:
		return Inbound
	case mesh.Outbound:
		return Outbound
	default:
		return Gateway
	}
}

// Place is where exchanges and connections pass: one listener, on behalf of one
// service.
type Place struct {
	Direction Direction
	// Service is our own, as Consul names it.
	Service string
	// Listener is for the access log; metrics of several listeners with the same
	// direction and service are one.
	Listener string
}

// none is a label's value, and a log field's, that is not known or does not
// apply.
const none = "-"

// source is who called: at the edge and outbound that is ourselves.
func (p *Place) source(x *wire.Exchange) string {
	if p.Direction == Edge || p.Direction == Outbound {
		return p.Service
	}
	if x.Peer.ID.IsZero() {
		return none
	}
	if service := x.Peer.ID.Service(); service != "" {
		return service
	}
	if _, kind, ok := strings.Cut(x.Peer.ID.String(), "/gateway/"); ok {
		kind, _, _ = strings.Cut(kind, "/")
		return kind + "-gateway"
	}
	return none
}

// destination is the service that was called, as far as that is known.
func (p *Place) destination(x *wire.Exchange) string {
	switch {
	case p.Direction == Inbound:
		return p.Service
	case x.Cluster == "":
		return none
	default:
		return serviceOf(x.Cluster)
	}
}

// serviceOf is the service behind a cluster. The names of mesh clusters are
//
//	[failover-target~N~][HASH~][SUBSET.]SERVICE.NAMESPACE[.PARTITION].DATACENTER.internal[-v1].TRUST-DOMAIN
//	[HASH~]SERVICE.NAMESPACE.PEER.external.TRUST-DOMAIN
//
// where a partition comes with internal-v1 only. Those of catalog clusters are
// catalog/SERVICE[/OPTION=VALUE]. All other names stand for themselves.
func serviceOf(cluster string) string {
	if service, ok := strings.CutPrefix(cluster, "catalog/"); ok {
		service, _, _ = strings.Cut(service, "/")
		return service
	}
	after := 2 // labels after the service
	head, _, ok := strings.Cut(cluster, ".internal.")
	if !ok {
		head, _, ok = strings.Cut(cluster, ".external.")
	}
	if !ok {
		head, _, ok = strings.Cut(cluster, ".internal-v1.")
		after = 3
	}
	if !ok {
		return cluster
	}
	head = head[strings.LastIndexByte(head, '~')+1:]
	for range after {
		dot := strings.LastIndexByte(head, '.')
		if dot < 0 {
			return cluster
		}
		head = head[:dot]
	}
	if service := head[strings.LastIndexByte(head, '.')+1:]; service != "" {
		return service
	}
	return cluster
}

// routeOf names the route: at the edge with its API in front.
func routeOf(api, route string) string {
	switch {
	case api != "":
		return api + "/" + route
	case route != "":
		return route
	default:
		return none
	}
}
