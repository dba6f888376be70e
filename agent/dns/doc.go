// Package dns answers questions for names of the mesh, of Consul's catalog, and
// of all the world.
//
//	udp, tcp ── handler ── question ── zone, by the longest origin ── reply ── message
//	                                    ├─ NAME.mesh            where the asker's own sidecar listens for NAME
//	                                    ├─ NAME.service.consul  the catalog's instances
//	                                    └─ all else             forwarded to resolvers
//
// Zones see a question that is in order and return a reply; the handler alone
// reads and writes messages, so that what is bounded, refused and truncated is
// so for all of them.
//
// # Names of the mesh
//
// NAME.mesh is answered only to a workload that an intention allows to call
// NAME, with the address where the workload's own sidecar listens for that
// upstream: nothing else leads into the mesh. Who asks is known by the source
// address, or by the listener where it asks. Whoever gets no address gets
// NXDOMAIN and, by an Extended DNS Error (RFC 8914), the reason.
//
// # Alternatives not taken
//
// The server of miekg/dns: it starts a goroutine for each packet and keeps each
// TCP connection, both without bound. Its messages, and its sockets' way to
// answer from the address that was asked, are used.
//
// A cache for what is forwarded: the resolver behind has one, and a second one
// only makes changes slower to see.
package dns
