// Package mesh has the nouns of the mesh: what a control plane says about
// listeners, routes, clusters and intentions, as plain values. It imports
// nothing of the field's libraries; connect/xds/resource makes these values
// from what Consul sends, the edge makes some itself.
//
//	Snapshot ── Listener ── FilterChain ── HTTP ── Route ── VirtualHost ── Rule ── Target
//	         │                          └─ TCP ─────────────────────────────────── │
//	         └─ Cluster ◀──────────────────────────────────────────────────────────┘
//
// All values are immutable once they are part of a Snapshot. A snapshot shares
// what did not change with the one before, by pointer.
//
// Endpoints do not belong to the snapshot: they change far more often than all
// the rest, so they go straight to the runtime, one cluster at a time (see
// [EndpointSet]).
package mesh
