// Package catalog is the wall around Consul's HTTP API: it makes clients, says
// in people's words what went wrong, and follows the passing instances of
// services that are not in the mesh.
//
//	Watcher ── one blocking query for each Query ── EndpointSet ──▶ Sink (an upstream.Set)
//
// What a query has answered last stays in force while Consul is gone. Consul's
// agent calls every check critical when it has just started, so an answer that
// would empty a service within a minute of an error is held back as long as an
// old instance still accepts connections. (connect/xds does the same for the
// mesh by the same rule; the two share no code, since they have no type in
// common.)
package catalog
