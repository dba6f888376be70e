// Package edge is the API gateway: it takes requests from outside, decides what
// they may do, and sends them to services of the mesh, of Consul's catalog, or
// at plain addresses.
//
//	client ── listener ── stack (see stack.go) ── route ─┬─ mesh service   by mTLS, as Consul's routes and intentions say
//	                                                     ├─ catalog service  the passing instances
//	                                                     └─ addresses
//
// The edge is a member of the mesh: it registers itself in Consul as a service
// with a Connect proxy, whose upstreams are the mesh services that routes name.
// So Consul sends it, by xDS, what it would send to a sidecar. The outbound
// listeners in that are never bound; each becomes the service behind a route.
// (A bind address is wanted for each upstream: the edge gives the path of a
// socket that is never made, by which it knows the listener again.)
//
// A change of the configuration makes a whole new set of services, which is
// swapped in for the next exchange. Listeners, their connections and clusters live
// on as long as their shape stays.
//
// # Alternatives not taken
//
// Asking Consul's HTTP API for discovery chains, leaf certificates and
// endpoints: Consul compiles all of it for xDS already, under one permission.
// A gateway of Consul's own kinds (ingress, API gateway): those would bind the
// edge's routes to config entries, and leave no place for consumers and plans.
package edge
