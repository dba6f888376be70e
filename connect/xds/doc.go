// Package xds keeps a data plane configured: it turns what the control plane
// streams into whole snapshots and puts them in force.
//
//	ads.Client ── bytes ──▶ table (one for each type, decoded by resource) ─┐
//	                        endpoints ──▶ hold ──▶ Endpoints                │
//	                                                                        ▼
//	        Store ◀── commit in order ◀── every Stage.Prepare ◀── plan: is it whole?
//
// What is whole: every cluster with endpoints from the stream has had them once,
// every route table that a listener names is there, listeners and clusters were
// answered at all. A new resource that is not whole yet waits, for 15 s at most,
// and what was in force in its place stays (make before break). The first
// snapshot waits for all of it.
//
// Endpoints change far more often than all the rest and are no part of a
// snapshot: they go to [Endpoints] one set at a time.
//
// # After a reconnect
//
// A Consul agent that was restarted tells the truth only after a while. By its
// behaviour, it first removes every upstream's listener and cluster, since it
// has not yet compiled their discovery chains; brings them back some seconds
// later; and calls all endpoints critical until each check has run once. For
// 60 s after a reconnect we therefore do not believe it when it takes away:
//
//   - A removed outbound listener, and what it needs, stays until the 60 s are
//     over, unless another one wants its address.
//   - An endpoint set that would leave a cluster without a healthy endpoint is
//     held back as long as one of the old healthy ones still accepts
//     connections. Not so for members of an aggregate cluster, which has others
//     to turn to.
//
// Alternative not taken: to hold such sets back whenever they come. Outside of
// that window an empty set is what it says, and failover must not wait.
package xds
