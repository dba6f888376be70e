// Package stats names what is counted as Envoy does: flat names with dots, such
// as http.public_listener.rbac.allowed.
//
//	feature ── Scope.Counter("rbac.allowed").Add(1) ──┐
//	owner of many numbers ── Own(scope, ...) ─────────┼─▶ Registry.All ──▶ admin, Prometheus, statsd
//	listeners, clusters ── Registry.Add(source) ──────┘
//
// Whoever counts holds a pointer to the counter, found once when a
// configuration is compiled: counting is one atomic addition. Names are put
// together when somebody reads. What is counted under a name outlives the
// configuration that named it.
//
// A nil Registry and a nil Scope count what nobody will read, so that a part
// which is used without them (at the edge, in tests) needs no second way.
//
// Alternative not taken: to ask each part for its numbers through the parts
// above it. A filter stands many layers deep, and each of them would have to
// hand through what it does not understand.
package stats
