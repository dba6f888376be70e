// Package upstream is the runtime of clusters: endpoints, their health and
// connection pools, load balancing. It outlives configurations; what an update
// does not change goes on untouched, joined by name.
//
//	Set ── Cluster ── hosts (swapped whole when endpoints change) ── Host ── pool
//
// A [Cluster] is a [wire.Service] for HTTP and has [Cluster.Dial] for plain
// connections. A try that cannot have been carried out (no connection, or a
// pooled one that had gone stale) is repeated on another host; one that may have
// been is repeated only if the request is idempotent (RFC 9110 section 9.2.2).
// Whatever else should be retried is a policy, and belongs to a layer.
package upstream
