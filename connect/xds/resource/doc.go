// Package resource makes the nouns of package mesh out of the bytes that a
// control plane sends, one file per resource type.
//
//	bytes ── proto ── decode ──▶ *mesh.Listener | Route | Cluster | EndpointSet
//	                        └──▶ notes: what was ignored, since it does no harm
//
// It is strict. Of each message the fields that are understood are listed, and
// those that may be ignored; any other field that is set makes a Refusal on the
// smallest noun that contains it (a filter, a rule, a chain, a cluster), which
// then refuses its traffic: what we do not understand must not be served as if
// it were not there. So a new field of the protocol fails closed, and the rest
// of the configuration goes on.
//
// An error is returned only for bytes that are no resource at all. Refusals are
// no errors: a control plane that is told of an error (NACK) sends the same
// resource again, and again.
//
// Alternative not taken: to ignore what is unknown, as protobuf suggests. It
// keeps traffic flowing, also past a filter that would have stopped it.
package resource

// Type URLs of the resources that a control plane sends.
const (
	ListenerType  = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType     = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	ClusterType   = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointsType = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	SecretType    = "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret"
)

// Types are all type URLs, clusters first, as they depend on one another.
func Types() []string {
	return []string{ClusterType, EndpointsType, ListenerType, RouteType, SecretType}
}
