// Package catalog is the wall around Consul's HTTP API: it makes clients, says
// in people's words what went wrong, follows the passing instances of services
// that are not in the mesh, and keeps for DNS a copy of what it needs.
//
//	Watcher ── one blocking query for each Query ── EndpointSet ──▶ Sink (an upstream.Set)
//
//	Index ┬─ list of services ── instances of each, sidecars and their upstreams among them
//	      ├─ nodes                  (of other datacenters: when somebody asks)
//	      ├─ intentions of each source that asks
//	      └─ settings of the agent, names of datacenters     ──▶ agent/dns
//
// Both ask by the same loop, and what was answered last stays in force while
// Consul is gone. Consul's agent calls every check critical when it has just
// started, so an answer that would empty a service within a minute of an error
// is held back as long as an old instance still accepts connections.
// (connect/xds does the same for the mesh by the same rule; the two share no
// code, since they have no type in common.)
//
// An Index keeps no more queries open than its bounds say. What was asked for
// last is followed; a goroutine of Run alone starts and ends the loops, and
// whoever asks for something new wakes it and waits for the first answer.
//
// # Alternatives not taken
//
// Asking Consul's own DNS: it does not say what it leaves out or why, and has
// no answer when it is gone. One query for all health checks
// (/v1/health/state/any) in place of one for each service: it says nothing of
// addresses, and each check that flaps would send the whole again.
package catalog
